//! Weights from a file, made to fit an architecture.

use burn::tensor::Device;
use checkpoint::{CheckpointError, Mismatch, WeightsFile, WeightsNote, read_weights};
use vision_nn::{assign_given, parameter_shapes};

use crate::config::WeightsMismatch;
use crate::error::CommandError;
use crate::registry::{Architecture, Network};
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::spec;
use crate::ui;

/// What to do about weights of another model.
const OTHER_MODEL: &str = "set `--model` to the architecture that the file was made with";

/// Tells whether `model.weights` is there, whole, and fits the model: a run must not begin, or replace another, without. What was done to make them
/// fit is said and kept.
pub(crate) fn check_starting_weights(
    resolved: &mut ResolvedConfig,
    classes: &[String],
    device: &Device,
) -> Result<(), CommandError> {
    if resolved.config.model.weights.is_none() {
        return Ok(());
    }
    let architecture = resolved.architecture()?;
    let model = architecture.build(&spec(resolved, classes.len(), device.clone()));
    let Some((_, notes)) = starting_weights(resolved, &architecture, &model, classes)? else { return Ok(()) };
    for note in &notes {
        ui::note(format_args!("model.weights: {note}"));
    }
    resolved.note_weights(&notes);
    Ok(())
}

/// The model of these classes with the weights that `model.weights` names; as it is where it names none.
pub(crate) fn with_starting_weights(
    model: Network,
    resolved: &ResolvedConfig,
    architecture: &Architecture,
    classes: &[String],
) -> Result<Network, CommandError> {
    Ok(match starting_weights(resolved, architecture, &model, classes)? {
        Some((weights, _)) => assign_given(model, weights.tensors),
        None => model,
    })
}

fn starting_weights(
    resolved: &ResolvedConfig,
    architecture: &Architecture,
    model: &Network,
    classes: &[String],
) -> Result<Option<(WeightsFile, Vec<WeightsNote>)>, CommandError> {
    let Some(path) = &resolved.config.model.weights else { return Ok(None) };
    let mismatch = match resolved.config.model.weights_mismatch {
        WeightsMismatch::Refuse => Mismatch::Refuse,
        WeightsMismatch::Skip => Mismatch::Skip,
    };
    let fitted = read_weights(path).and_then(|mut weights| {
        let adapted = architecture.adapt(&mut weights.tensors).into_iter().map(WeightsNote::Adapted);
        let notes = weights.fit(&parameter_shapes(model), architecture.ends, mismatch, architecture.name)?;
        let of_classes = weights.fit_classes(architecture.ends, classes);
        Ok((weights, notes.into_iter().chain(of_classes).chain(adapted).collect()))
    });
    fitted.map(Some).map_err(|error| refused_start(&error, mismatch))
}

fn refused_start(error: &CheckpointError, mismatch: Mismatch) -> CommandError {
    let hint = match error {
        CheckpointError::Missing { .. }
        | CheckpointError::Malformed { .. }
        | CheckpointError::Damaged { .. }
        | CheckpointError::Read { .. } => Some(
            "`model.weights` names a whole `.safetensors` or `.pth` file, or a run folder; leave it out to start fresh"
                .to_owned(),
        ),
        CheckpointError::OtherModel { .. } if mismatch == Mismatch::Refuse => Some(
            "set `model.name` to the architecture that the file was made with, or start from what fits: \
             `--set model.weights_mismatch=skip`"
                .to_owned(),
        ),
        other => other.hint(),
    };
    CommandError::from_request(error).with_hint(hint).in_context("cannot start from `model.weights`")
}

/// Input channels and classes that weights are for.
pub(crate) fn ends_of(weights: &WeightsFile, architecture: &Architecture) -> Result<[usize; 2], CommandError> {
    let ends = architecture.ends;
    ends.of(weights).ok_or_else(|| {
        let path = weights.path.display();
        CommandError::wrong_request(format!("the weights in `{path}` do not fit `{}`", architecture.name))
            .with_causes(vec![format!(
                "`{}.weight` or `{}.weight` is not there",
                ends.first_convolution, ends.classifier
            )])
            .with_hint(OTHER_MODEL.to_owned())
    })
}

/// Makes weights that the user named fit a model of these names and shapes, and tells what that took.
pub(crate) fn fit_given(
    weights: &mut WeightsFile,
    shapes: &[(String, Vec<usize>)],
    architecture: &Architecture,
) -> Result<(), CommandError> {
    let fitted = weights.fit(shapes, architecture.ends, Mismatch::Refuse, architecture.name);
    let notes = fitted.map_err(|error| {
        let other = matches!(error, CheckpointError::OtherModel { .. });
        refused(&error).with_hint(other.then(|| OTHER_MODEL.to_owned()))
    })?;
    for note in notes {
        ui::note(note);
    }
    Ok(())
}

/// A request that a file stands against.
pub(crate) fn refused(error: &CheckpointError) -> CommandError {
    CommandError::from_request(error).with_hint(error.hint())
}
