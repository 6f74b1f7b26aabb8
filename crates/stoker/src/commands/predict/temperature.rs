//! Which temperature a prediction is calibrated by.

use std::path::PathBuf;

use checkpoint::{RunFolder, shell_word};
use inference::{CalibrationError, EnsembleCalibration, FittedCalibration};

use super::members::{Members, Ready};
use super::trained_run::Sight;
use crate::cli::{PredictorArguments, ViewArguments};
use crate::commands::calibrate::{self, note_unnamed_weights, unusable};
use crate::config::NamedView;
use crate::error::CommandError;

/// The temperature that is asked for, from its file: of a run's own answers, or of the mean of several models'; none where none is asked for.
pub(super) fn temperature(
    members: &Members,
    asked: &PredictorArguments,
    ready: &[Ready<'_>],
) -> Result<Option<f64>, CommandError> {
    let hint = || refit(members, asked, ready);
    let path = match (&asked.calibration, asked.use_calibration) {
        (Some(path), _) => path.clone(),
        (None, false) => return Ok(None),
        (None, true) => members.folder.as_ref().map(RunFolder::calibration).ok_or_else(|| {
            CommandError::wrong_request("the calibration of several runs belongs to none of their folders")
                .with_hint(hint())
        })?,
    };
    let remark = match (&asked.calibration, members.only()) {
        (Some(_), _) => "",
        (None, Some(_)) => ": the run was never calibrated",
        (None, None) => ": the folds were never calibrated",
    };
    let refused = |error: CalibrationError| {
        // What is no calibration is not written over, where it has a place of its own.
        let is_in_the_way = matches!(error, CalibrationError::Malformed { .. }) && asked.calibration.is_some();
        let before = if is_in_the_way { "move it away, then " } else { "" };
        unusable(&error, remark, || format!("{before}{}", hint()))
    };
    if let (Some(run), [only]) = (members.only(), ready) {
        let fitted = FittedCalibration::read(&path).map_err(refused)?;
        let wanted = run.fitted_to(&only.sight.views)?;
        fitted.check(&wanted, only.sight.merge.name(), &path).map_err(refused)?;
        if fitted.weights.is_none() {
            note_unnamed_weights(&path);
        }
        return Ok(Some(fitted.calibration.temperature));
    }
    let fitted = EnsembleCalibration::read(&path).map_err(refused)?;
    let sights: Vec<Sight> = ready.iter().map(|ready| ready.sight.clone()).collect();
    fitted.check(&members.fitted(&sights)?, &path).map_err(refused)?;
    Ok(Some(fitted.calibration.temperature))
}

/// How the temperature is fitted to what is predicted with, and applied.
fn refit(members: &Members, asked: &PredictorArguments, ready: &[Ready<'_>]) -> String {
    let elsewhere = match (&asked.calibration, members.part(), &members.folder) {
        (Some(named), ..) => Some(named.clone()),
        // The file in the folder is that of all folds.
        (None, Some(part), _) => Some(part.with_extension("calibration.json")),
        (None, None, Some(_)) => None,
        (None, None, None) => Some(PathBuf::from("both.json")),
    };
    let runs = match &members.folder {
        Some(folder) if members.part().is_none() => format!("--run {}", shell_word(folder.root())),
        _ => members.typed(),
    };
    let views = decided(&asked.views, members, ready);
    let flags = calibrate::flags(&views, asked.runs.weights.checkpoint, asked.runs.weight_by_score);
    let command = calibrate::command(&runs, &flags, elsewhere.as_deref());
    let pass = elsewhere.filter(|_| asked.calibration.is_none());
    let pass = pass.map_or_else(String::new, |file| format!(", and pass `--calibration {}`", shell_word(file)));
    format!("fit it to what is predicted with{pass}: {command}")
}

/// The views as `calibrate` is told them, which measures none: those that were chosen, where all models have the same.
fn decided(asked: &ViewArguments, members: &Members, ready: &[Ready<'_>]) -> ViewArguments {
    let is_open = members.runs().any(|run| run.is_auto(asked));
    match ready {
        [first, others @ ..] if is_open && others.iter().all(|other| other.sight.views == first.sight.views) => {
            let views = first.sight.views.iter().copied().map(NamedView).collect();
            ViewArguments { tta: None, views, merge: asked.merge }
        }
        _ => asked.clone(),
    }
}
