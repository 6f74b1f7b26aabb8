//! The parameter groups of a configuration's model, which is built without its weights.

use burn::tensor::Device;
use trainer::{GroupError, ParameterGroups};

use crate::config::nearest_of;
use crate::error::CommandError;
use crate::registry::Architecture;
use crate::run::recipe;
use crate::run::resolved::ResolvedConfig;
use crate::run::subject::spec;

/// How each parameter of the model trains.
///
/// # Errors
/// A pattern of `model.freeze` that names nothing, or patterns that leave nothing to train.
pub(crate) fn parameter_groups(
    resolved: &ResolvedConfig,
    architecture: &Architecture,
    num_classes: usize,
) -> Result<ParameterGroups, CommandError> {
    let device = Device::capture();
    let mut groups = ParameterGroups::default();
    // On this device weights are only noted, not drawn.
    let noted = device.capture_scope(|scope| {
        let model = architecture.build(&spec(resolved, num_classes, device.clone()));
        groups = ParameterGroups::of(&model, &recipe::groups(&resolved.config));
        scope.complete([], [])
    });
    drop(noted);
    groups.check().map_err(|error| refused(&error))?;
    Ok(groups)
}

/// Whether `model.freeze` makes sense for the model; where it is empty it does.
///
/// # Errors
/// See [`parameter_groups`].
pub(crate) fn check_freezing(
    resolved: &ResolvedConfig,
    architecture: &Architecture,
    num_classes: usize,
) -> Result<(), CommandError> {
    match resolved.config.model.freeze.is_empty() {
        true => Ok(()),
        false => parameter_groups(resolved, architecture, num_classes).map(drop),
    }
}

fn refused(error: &GroupError) -> CommandError {
    let near = match error {
        GroupError::NothingMatches { pattern, known } => {
            let name = pattern.trim_end_matches(['*', '.']);
            nearest_of(name, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"))
        }
        GroupError::EverythingFrozen { .. } => None,
    };
    let hint = match (near, error.hint()) {
        (Some(near), Some(hint)) => Some(format!("{near} {hint}")),
        (near, hint) => near.or(hint),
    };
    CommandError::from_request(error).with_hint(hint).in_context("cannot follow `model.freeze`")
}
