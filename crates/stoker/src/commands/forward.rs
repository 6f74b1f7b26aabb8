//! `forward`: one batch through a model, and what comes out as files.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use checkpoint::{CheckpointError, WeightsFile, read_npy, read_weights, write_npy, write_tensors};
use trainer::Gradients;
use vision_nn::{Classifier, ClassifierSpec, Pass, Tape, assign_given, named_parameters, parameter_shapes};

use crate::cli::ForwardArguments;
use crate::error::CommandError;
use crate::registry::{Architecture, Network};
use crate::run::checks::{architecture_for, check_output_file};
use crate::run::compute::Compute;
use crate::run::subject::ASSUMED_CLASSES;
use crate::run::weights::{ends_of, fit_given, refused};
use crate::ui;

type Tensors = BTreeMap<String, TensorData>;

/// Runs the batch and writes what is asked for.
pub(crate) fn forward(arguments: &ForwardArguments) -> Result<(), CommandError> {
    check_outputs(arguments)?;
    let images = read_images(&arguments.input)?;
    let mut weights = arguments.weights.as_deref().map(read_weights).transpose().map_err(|error| refused(&error))?;
    let architecture = architecture(arguments, weights.as_ref(), &images)?;
    for note in weights.iter_mut().flat_map(|weights| architecture.adapt(&mut weights.tensors)) {
        ui::note(note);
    }
    let [in_channels, num_classes] = sizes(arguments, weights.as_ref(), &architecture, &images)?;
    let compute = Compute::select(arguments.device)?;
    let device = match arguments.gradients {
        Some(_) => compute.device.clone().autodiff(),
        None => compute.device.clone(),
    };
    let seed = arguments.random_seed.unwrap_or(0);
    let spec = ClassifierSpec { in_channels, seed, ..ClassifierSpec::new(num_classes, &device) };
    let (model, batch_counts) = load(architecture.build(&spec), &architecture, weights)?;
    let pass = if arguments.train { Pass::training(0, 0) } else { Pass::evaluation() };
    let (logits, gradients) = run(&model, images, pass, &device, arguments.gradients.is_some());
    let saved = arguments.save_weights.as_ref().map(|_| saved_weights(&model, batch_counts, arguments.train));
    write(arguments, &logits, gradients.as_ref(), saved.as_ref())
}

fn check_outputs(arguments: &ForwardArguments) -> Result<(), CommandError> {
    check_output_file(&arguments.output, "--output", "logits.npy")?;
    let more = [
        (&arguments.gradients, "--gradients", "gradients.safetensors"),
        (&arguments.save_weights, "--save-weights", "weights.safetensors"),
    ];
    let mut named = more.iter().filter_map(|(path, flag, example)| Some((path.as_deref()?, flag, example)));
    named.try_for_each(|(path, flag, example)| check_output_file(path, flag, example))
}

/// The batch, which must be of four axes and not empty. Any number is taken, NaN as well.
fn read_images(path: &Path) -> Result<TensorData, CommandError> {
    let array = read_npy(path).map_err(|error| {
        let hint = matches!(error, CheckpointError::Missing { .. })
            .then(|| "`--input` names a `.npy` file: `numpy.save(\"x.npy\", x)`".to_owned());
        refused(&error).with_hint(hint)
    })?;
    let shape = array.shape.to_vec();
    if shape.len() != 4 || shape.contains(&0) {
        let message = format!("`{}` has shape {shape:?}, expected [B, C, H, W], none of them zero", path.display());
        return Err(CommandError::wrong_request(message)
            .with_hint("one image needs an axis for the batch too: `x[None]`".to_owned()));
    }
    Ok(array.convert_dtype(DType::F32))
}

/// The architecture asked for, or the one that a run's checkpoint names, built for the images' size.
fn architecture(
    arguments: &ForwardArguments,
    weights: Option<&WeightsFile>,
    images: &TensorData,
) -> Result<Architecture, CommandError> {
    let of_run = weights.and_then(|weights| weights.card.as_ref()).map(|card| card.model.as_str());
    let name = arguments.model.as_deref().or(of_run).ok_or_else(|| {
        CommandError::wrong_request("the weights do not say of which model they are")
            .with_hint("name it with `--model NAME`; `stoker models` lists all".to_owned())
    })?;
    architecture_for(name, [images.shape[2], images.shape[3]])
}

/// Input channels and classes, on which input, weights and request must agree.
fn sizes(
    arguments: &ForwardArguments,
    weights: Option<&WeightsFile>,
    architecture: &Architecture,
    images: &TensorData,
) -> Result<[usize; 2], CommandError> {
    let (channels, asked) = (images.shape[1], arguments.num_classes.map(|count| count as usize));
    let Some(weights) = weights else { return Ok([channels, asked.unwrap_or(ASSUMED_CLASSES)]) };
    let path = weights.path.display();
    let [in_channels, classes] = ends_of(weights, architecture)?;
    if in_channels != channels {
        let input = arguments.input.display();
        let message = format!(
            "`{input}` has {channels} on the axis of channels, but the weights in `{path}` are for {in_channels}"
        );
        return Err(CommandError::wrong_request(message)
            .with_hint("the axes are [B, C, H, W]: `x.transpose(0, 3, 1, 2)` brings channels forward".to_owned()));
    }
    match asked {
        Some(asked) if asked != classes => {
            let message = format!("`--num-classes {asked}`, but the weights in `{path}` are for {classes} classes");
            Err(CommandError::wrong_request(message).with_hint("leave `--num-classes` out".to_owned()))
        }
        _ => Ok([in_channels, classes]),
    }
}

/// The model with the weights, and the file's counts of batches.
fn load(
    model: Network,
    architecture: &Architecture,
    weights: Option<WeightsFile>,
) -> Result<(Network, Tensors), CommandError> {
    let Some(mut weights) = weights else { return Ok((model, Tensors::new())) };
    fit_given(&mut weights, &parameter_shapes(&model), architecture)?;
    Ok((assign_given(model, weights.tensors), weights.batch_counts))
}

/// Logits, `[B, K]`, and gradients by parameter if they are wanted.
fn run(
    model: &Network,
    images: TensorData,
    mut pass: Pass,
    device: &Device,
    with_gradients: bool,
) -> (TensorData, Option<Tensors>) {
    let logits = model.forward(Tensor::from_data(images, device), &mut pass);
    let values = logits.clone().into_data();
    let gradients = with_gradients.then(|| gradients_by_name(model, Tape::backward(weighted_sum(logits))));
    (values, gradients)
}

/// `sum(logits[i] * cos(i))`, i the flat row-major index: a scalar that every logit moves differently.
///
/// # Shapes
/// - `logits`: `[B, K]`
/// - output: `[1]`
fn weighted_sum(logits: Tensor<2>) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    let weights: Vec<f32> = (0..batch * classes).map(|index| (index as f64).cos() as f32).collect();
    let weights = Tensor::from_data(TensorData::new(weights, [batch, classes]), &logits.device());
    (logits * weights).sum()
}

fn gradients_by_name<M: Module>(model: &M, tape: Tape) -> Tensors {
    let mut gradients = Gradients::take(tape, model);
    let of_parameter = |(name, shape): (String, Vec<usize>)| {
        let data = gradients.remove(&name)?.into_data().convert_dtype(DType::F32);
        Some((name, TensorData::from_bytes(data.bytes, shape, DType::F32)))
    };
    parameter_shapes(model).into_iter().filter_map(of_parameter).collect()
}

/// The model's state as PyTorch would save it: a training pass is one more batch for each batch norm.
fn saved_weights(model: &Network, batch_counts: Tensors, trained: bool) -> Tensors {
    let counts = batch_counts.into_iter().map(|(name, count)| {
        let seen: Vec<i64> = count.iter::<i64>().map(|seen| seen + i64::from(trained)).collect();
        (name, TensorData::new(seen, count.shape))
    });
    let weights = named_parameters(model).into_iter();
    weights.map(|weight| (weight.name, weight.data.convert_dtype(DType::F32))).chain(counts).collect()
}

fn write(
    arguments: &ForwardArguments,
    logits: &TensorData,
    gradients: Option<&Tensors>,
    weights: Option<&Tensors>,
) -> Result<(), CommandError> {
    let failed = |error: CheckpointError| CommandError::from_run(&error).with_hint(error.hint());
    write_npy(&arguments.output, logits).map_err(failed)?;
    let not_finite = logits.iter::<f32>().filter(|logit| !logit.is_finite()).count();
    if not_finite > 0 {
        ui::warn(format_args!("{not_finite} of {} logits are not finite", logits.shape.num_elements()));
    }
    ui::out(format_args!("logits {:?} written to {}", logits.shape.as_slice(), arguments.output.display()))?;
    for (what, tensors, path) in
        [("gradients", gradients, &arguments.gradients), ("weights", weights, &arguments.save_weights)]
    {
        let (Some(tensors), Some(path)) = (tensors, path) else { continue };
        let named = tensors.iter().map(|(name, data)| (name.clone(), data));
        write_tensors(path, named, None).map_err(failed)?;
        ui::out(format_args!("{what} of {} tensors written to {}", tensors.len(), path.display()))?;
    }
    Ok(())
}
