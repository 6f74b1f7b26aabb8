//! The calibration of a run that has just ended.

use std::ffi::OsStr;
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
    /// Fits a temperature on the validation images, where it is wanted: what `stoker calibrate --run RUN` does.
    pub(super) fn calibrate(&self, folder: &RunFolder, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
        if !self.request.resolved.config.train.calibrate {
            return Ok(());
        }
        ui::out("\ncalibration on the validation images:")?;
        let device = self.compute.selected.request().to_string();
        let words: [&OsStr; 6] = [
            "stoker".as_ref(),
            "calibrate".as_ref(),
            "--run".as_ref(),
            folder.root().as_os_str(),
            "--device".as_ref(),
            device.as_ref(),
        ];
        match Arguments::try_parse_from(words).map(|arguments| arguments.command) {
            Ok(Some(Command::Calibrate(arguments))) => calibrate::fit(&arguments, interrupt),
            other => unreachable!("these are the words of `calibrate`: {other:?}"),
        }
    }
}
