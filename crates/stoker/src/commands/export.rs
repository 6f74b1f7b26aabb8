//! `export`: a trained model as a file for other programs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use checkpoint::{
    CheckpointError, ModelCard, RunFolder, WeightsFile, read_weights, shell_word, write_atomically, write_tensors,
};
use data_pipeline::{Channels, ResizeMode, bar_color};
use inference::{FittedCalibration, FittedTo, View, weights_fingerprint};
use memory_planner::format_bytes;
use onnx_export::{ExportError, INPUT, OPSET, OUTPUT, Recording, record};
use serde::Serialize;
use vision_nn::ClassifierSpec;

use crate::cli::{ExportArguments, ExportFormat};
use crate::commands::predict::{Inputs, runs_of_folds};
use crate::error::CommandError;
use crate::registry::Architecture;
use crate::run::checks::{architecture_for, check_output_file, known_architecture};
use crate::run::resolved::resize_from_name;
use crate::run::weights::{ends_of, fit_given, refused};
use crate::ui;

/// Reads the weights, and writes what is asked for.
pub(crate) fn export(arguments: &ExportArguments) -> Result<(), CommandError> {
    check_output(arguments)?;
    let mut weights = read(arguments)?;
    let (architecture, side) = architecture(arguments, &weights)?;
    for note in architecture.adapt(&mut weights.tensors) {
        ui::note(note);
    }
    let [in_channels, num_classes] = ends_of(&weights, &architecture)?;
    check_classes(&weights, num_classes)?;
    let recording = record([in_channels, side, side], &|device| {
        architecture.build(&ClassifierSpec { in_channels, ..ClassifierSpec::new(num_classes, device) })
    });
    let recording = recording.map_err(|error| untranslated(&error))?;
    fit_given(&mut weights, recording.parameter_shapes(), &architecture)?;
    let written = match arguments.format {
        ExportFormat::Onnx => {
            let sizes = [in_channels, side, num_classes];
            let temperature = fitted_temperature(arguments, &weights, side);
            write_graph(&arguments.output, &recording, weights, architecture.name, sizes, temperature)?
        }
        ExportFormat::Safetensors => write_weights(&arguments.output, weights, side)?,
    };
    ui::out(format_args!("{}, {written}: written to {}", architecture.name, arguments.output.display()))
}

/// Writes the ONNX file, and tells what it is.
fn write_graph(
    path: &Path,
    recording: &Recording,
    weights: WeightsFile,
    model: &str,
    [channels, side, classes]: [usize; 3],
    temperature: Option<f64>,
) -> Result<String, CommandError> {
    let properties = properties(model, [channels, side], weights.card.as_ref(), temperature);
    let file = recording.to_onnx(model, weights.tensors, &properties).map_err(|error| untranslated(&error))?;
    write_atomically(path, &file).map_err(|error| unwritten(&error))?;
    let size = format_bytes(file.len() as u64);
    Ok(format!(
        "`{INPUT}` [batch, {channels}, {side}, {side}] to `{OUTPUT}` [batch, {classes}], ONNX opset {OPSET}, {size}"
    ))
}

/// Writes the weights alone, with the run's card, and tells how many there are.
fn write_weights(path: &Path, weights: WeightsFile, side: usize) -> Result<String, CommandError> {
    let WeightsFile { tensors, batch_counts, card, .. } = weights;
    let tensors = tensors.into_iter().map(|(name, data)| (name, data.convert_dtype(DType::F32)));
    let tensors: BTreeMap<String, TensorData> = tensors.chain(batch_counts).collect();
    // Weights of some families are made for a size.
    let card = card.map(|card| json(&ModelCard { image_size: side, ..card }));
    let named = tensors.iter().map(|(name, data)| (name.clone(), data));
    write_tensors(path, named, card).map_err(|error| unwritten(&error))?;
    Ok(format!("{} tensors", tensors.len()))
}

fn check_output(arguments: &ExportArguments) -> Result<(), CommandError> {
    let path = &arguments.output;
    let example = match arguments.format {
        ExportFormat::Onnx => "model.onnx",
        ExportFormat::Safetensors => "weights.safetensors",
    };
    check_output_file(path, "--output", example)?;
    Inputs::default().with("the file of weights", arguments.weights.as_deref()).check(path, may_be_an_export)?;
    match path.exists() && !arguments.overwrite {
        true => Err(CommandError::wrong_request(format!("`{}` exists", path.display()))
            .with_hint("replace it: `--overwrite`, or choose another file with `--output`".to_owned())),
        false => Ok(()),
    }
}

/// Whether what stands at the true path `place`, in a run folder, may come of an export: a run has no graph of its own, and its weights in known places.
fn may_be_an_export(place: &Path) -> bool {
    let is_of_run = place.parent().is_some_and(|folder| folder.ends_with("checkpoints"))
        || place.file_stem().is_some_and(|stem| stem == "nonfinite_step");
    matches!(place.extension().and_then(OsStr::to_str), Some("onnx" | "safetensors")) && !is_of_run
}

fn read(arguments: &ExportArguments) -> Result<WeightsFile, CommandError> {
    if let Some(path) = &arguments.weights {
        return read_weights(path).map_err(|error| refused(&error));
    }
    let folder = RunFolder::open(&arguments.run).map_err(|error| refused(&error))?;
    let path = arguments.checkpoint.of_run(&folder);
    if !path.exists() && folder.fold_results().exists() {
        return Err(runs_of_folds(&folder));
    }
    let weights = read_weights(&path).map_err(|error| refused(&error))?;
    match weights.card {
        Some(_) => Ok(weights),
        None => Err(refused(&CheckpointError::NoCard { path })
            .with_hint(format!("name the architecture: `--weights {} --model NAME`", shell_word(&weights.path)))),
    }
}

/// The architecture for the images that the file is made for, and their side.
fn architecture(arguments: &ExportArguments, weights: &WeightsFile) -> Result<(Architecture, usize), CommandError> {
    let card = weights.card.as_ref();
    let name = arguments.model.as_deref().or(card.map(|card| card.model.as_str())).ok_or_else(|| {
        CommandError::wrong_request("the weights do not say of which model they are")
            .with_hint("name it with `--model NAME`; `stoker models` lists all".to_owned())
    })?;
    let asked = arguments.image_size.map(|side| side as usize);
    let side = match asked.or(card.map(|card| card.image_size)) {
        Some(side) => side,
        None => known_architecture(name)?.image_size,
    };
    Ok((architecture_for(name, [side, side])?, side))
}

/// A run's classes are those of its logits, unless the file was changed.
fn check_classes(weights: &WeightsFile, num_classes: usize) -> Result<(), CommandError> {
    match &weights.card {
        Some(card) if card.classes.len() != num_classes => {
            let (path, named) = (weights.path.display(), card.classes.len());
            Err(CommandError::wrong_request(format!("`{path}` names {named} classes and scores {num_classes}"))
                .with_hint("the file was changed since it was saved: export another checkpoint".to_owned()))
        }
        _ => Ok(()),
    }
}

/// The temperature that was fitted to what these weights say of images as they are, which is what the graph says. None for weights of no run and
/// for a run that was never calibrated; where it was fitted to something else, a note says so.
fn fitted_temperature(arguments: &ExportArguments, weights: &WeightsFile, side: usize) -> Option<f64> {
    let card = weights.card.as_ref().filter(|_| arguments.weights.is_none())?;
    let path = RunFolder::open(&arguments.run).ok()?.calibration();
    if !path.exists() {
        return None;
    }
    let exported = FittedTo {
        views: vec![View::IDENTITY.to_string()],
        checkpoint: arguments.checkpoint.name().to_owned(),
        step: card.progress.step,
        weights: weights_fingerprint(&weights.path).ok(),
    };
    // One view is the same by every rule.
    let fitted = FittedCalibration::read(&path)
        .and_then(|fitted| fitted.check(&exported, &fitted.merge, &path).map(|()| fitted.calibration.temperature));
    let reason = match fitted {
        Ok(temperature) if side == card.image_size => return Some(temperature),
        Ok(_) => format!("`{}` was fitted to images of {} px", path.display(), card.image_size),
        Err(error) => error.to_string(),
    };
    ui::note(format_args!("note: the exported file will have no temperature: {reason}"));
    None
}

/// What a program must know beside the graph, as far as the weights say it. Lists are JSON.
fn properties(
    model: &str,
    [channels, side]: [usize; 2],
    card: Option<&ModelCard>,
    temperature: Option<f64>,
) -> Vec<(String, String)> {
    let color = if channels == 1 { "grey" } else { "RGB" };
    let mut properties = vec![
        ("model", model.to_owned()),
        ("image_size", json(&[side, side])),
        ("channels", channels.to_string()),
        ("color", color.to_owned()),
    ];
    match card {
        Some(card) => properties.extend([
            ("resize", card.resize.clone()),
            // As `data-pipeline` resizes, whatever the way.
            ("interpolation", format!("{}, antialiased", card.interpolation)),
            ("value_range", json(&[0, 1])),
            ("mean", json(&card.mean)),
            ("std", json(&card.std)),
            ("classes", json(&card.classes)),
        ]),
        None => {
            ui::note("the weights do not say how images are normalised and what the classes are: neither will the file")
        }
    }
    let resize = card.and_then(|card| resize_from_name(&card.resize, card.crop_share));
    let is_letterbox = resize == Some(ResizeMode::Letterbox);
    let bars = Channels::from_count(channels).filter(|_| is_letterbox).map(|channels| json(&bar_color(channels)));
    properties.extend(bars.map(|color| ("letterbox_color", color)));
    if let Some(ResizeMode::CenterCrop { crop_share }) = resize {
        properties.push(("crop_share", json(&crop_share)));
    }
    // Divides the logits before softmax.
    properties.extend(temperature.map(|temperature| ("temperature", json(&temperature))));
    properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers, texts and lists of them are JSON")
}

fn untranslated(error: &ExportError) -> CommandError {
    CommandError::from_run(error).with_hint(error.hint())
}

fn unwritten(error: &CheckpointError) -> CommandError {
    // A library knows of runs only, whose place a setting names.
    let denied = matches!(error, CheckpointError::Write { source, .. } if source.kind() == ErrorKind::PermissionDenied);
    let hint = error.hint().filter(|_| !denied);
    CommandError::from_run(error).with_hint(hint.or(Some("choose another place with `--output FILE`".to_owned())))
}
