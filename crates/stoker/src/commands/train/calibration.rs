//! The calibration of what has just been trained.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::RunFolder;
use clap::Parser as _;

use super::Run;
use crate::cli::{Arguments, Command};
use crate::commands::calibrate;
use crate::error::CommandError;
use crate::ui;

impl Run {
    /// Fits a temperature on the validation images, where it is wanted: what `stoker calibrate --run RUN` does. Folds are calibrated together.
    pub(super) fn calibrate(&self, folder: &RunFolder, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
        let config = &self.request.resolved.config;
        if !config.train.calibrate || config.data.fold.is_some() {
            return Ok(());
        }
        ui::out("\ncalibration on the validation images:")?;
        let device = self.compute.selected.request().to_string();
        calibrate_as([("--run", folder.root()), ("--device", device.as_ref())], interrupt)
    }
}

/// Fits one temperature to the mean of all folds: what `stoker calibrate --fold-results FILE` does.
pub(crate) fn calibrate_folds(results: &Path, device: &str, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    ui::out("\ncalibration on the images out of fold:")?;
    calibrate_as([("--fold-results", results), ("--device", device.as_ref())], interrupt)
}

fn calibrate_as(flags: [(&str, &Path); 2], interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let flags = flags.iter().flat_map(|&(flag, value)| [OsStr::new(flag), value.as_os_str()]);
    let words = [OsStr::new("stoker"), OsStr::new("calibrate")].into_iter().chain(flags);
    match Arguments::try_parse_from(words).map(|arguments| arguments.command) {
        Ok(Some(Command::Calibrate(arguments))) => calibrate::fit_and_keep(&arguments, interrupt).map(|_| ()),
        other => unreachable!("these are the words of `calibrate`: {other:?}"),
    }
}
