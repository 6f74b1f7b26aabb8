//! Which temperature a prediction is calibrated by.

use std::path::{Path, PathBuf};

use checkpoint::RunFolder;
use inference::{CalibrationError, EnsembleCalibration};

use super::members::{Members, Ready};
use super::trained_run::Sight;
use crate::cli::PredictorArguments;
use crate::commands::{calibrate, next_step};
use crate::error::CommandError;

/// The temperature that is asked for, from its file: of a run's own answers, or of the mean of several models'; none where none is asked for.
pub(super) fn temperature(
    members: &Members,
    asked: &PredictorArguments,
    ready: &[Ready<'_>],
) -> Result<Option<f64>, CommandError> {
    let path = match (&asked.calibration, asked.use_calibration) {
        (Some(path), _) => path.clone(),
        (None, false) => return Ok(None),
        (None, true) => in_folder(members)?,
    };
    let named = asked.calibration.as_deref();
    if let (Some(run), [only]) = (members.only(), ready) {
        let temperature = run.temperature(&only.sight, &path);
        return temperature.map(Some).map_err(|error| error.with_hint(named.map(|file| refit(members, Some(file)))));
    }
    let refused = |error: &CalibrationError| calibrate::failed(error).with_hint(refit(members, named));
    let fitted = EnsembleCalibration::read(&path).map_err(|error| refused(&error))?;
    let sights: Vec<Sight> = ready.iter().map(|ready| ready.sight.clone()).collect();
    fitted.check(&members.fitted(&sights)?, &path).map_err(|error| refused(&error))?;
    Ok(Some(fitted.calibration.temperature))
}

fn in_folder(members: &Members) -> Result<PathBuf, CommandError> {
    members.folder.as_ref().map(RunFolder::calibration).ok_or_else(|| {
        let file = Path::new("both.json");
        CommandError::wrong_request("the calibration of several runs belongs to none of their folders")
            .with_hint(format!("say where it is: `--calibration {}`; {}", file.display(), refit(members, Some(file))))
    })
}

/// The command that fits the temperature anew, into `file` where it has a place of its own.
fn refit(members: &Members, file: Option<&Path>) -> String {
    let runs = match &members.folder {
        Some(folder) => vec![folder.root().display().to_string()],
        None => members.paths(),
    };
    let runs: Vec<String> = runs.iter().map(|run| format!("--run {run}")).collect();
    let output = file.map_or(String::new(), |file| format!(" --output {}", file.display()));
    let command = next_step(&format!("calibrate {}{output}", runs.join(" ")));
    format!("fit it with the same `--tta` and `--checkpoint`: {command}")
}
