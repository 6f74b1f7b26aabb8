//! Where a temperature and its picture go.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::{RunFolder, shell_word};
use inference::{EnsembleCalibration, FittedCalibration};
use metrics::is_reliability_svg;

use crate::commands::predict::Inputs;
use crate::error::CommandError;
use crate::run::checks::check_output_file;

/// The two files.
pub(super) struct Files {
    pub(super) temperature: PathBuf,
    pub(super) picture: PathBuf,
    /// Whether they have another place than a folder has for its own.
    is_told: bool,
}

impl Files {
    /// Beside each other, under the name that is told; otherwise in `folder`, where there is one.
    ///
    /// # Errors
    /// A name under which nothing can be written, or one that is the picture's.
    pub(super) fn find(told: Option<&Path>, folder: Option<&RunFolder>) -> Result<Option<Self>, CommandError> {
        let Some(told) = told else {
            let own = folder.map(|folder| {
                let (temperature, picture) = (folder.calibration(), folder.reliability());
                Self { temperature, picture, is_told: false }
            });
            own.iter().try_for_each(Self::check_places)?;
            return Ok(own);
        };
        if told.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
            let message = format!("`{}` is the name of the temperature's picture", told.display());
            let json = shell_word(told.with_extension("json"));
            let hint = format!("name the file of the temperature: `--output {json}`");
            return Err(CommandError::wrong_request(message).with_hint(hint));
        }
        let files = Self { temperature: told.to_owned(), picture: told.with_extension("svg"), is_told: true };
        files.check_places()?;
        Ok(Some(files))
    }

    /// Whether both can be made.
    fn check_places(&self) -> Result<(), CommandError> {
        check_output_file(&self.temperature, "--output", "calibration.json")?;
        check_output_file(&self.picture, "--output", "calibration.json")
    }

    /// Refuses to write over what is read, and over what is no calibration, or no picture of one.
    pub(super) fn check(&self, inputs: &Inputs<'_>) -> Result<(), CommandError> {
        if !self.is_told {
            return Ok(());
        }
        inputs.check(&self.temperature, is_calibration)?;
        // The picture beside a calibration is that one's.
        inputs.check(&self.picture, |_| is_calibration(&self.temperature))?;
        may_go(&self.temperature, "calibration", is_calibration)?;
        may_go(&self.picture, "picture of a calibration, which goes beside it", is_picture)
    }
}

/// Refuses to write over a file at `path` that is not what such a command writes.
fn may_go(path: &Path, what: &str, is_ours: fn(&Path) -> bool) -> Result<(), CommandError> {
    if !path.exists() || is_ours(path) {
        return Ok(());
    }
    let message = format!("cannot write `{}`: what is there is no {what}", path.display());
    let hint = "choose another place with `--output`, or move the file away";
    Err(CommandError::wrong_request(message).with_hint(hint.to_owned()))
}

fn is_picture(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| is_reliability_svg(&text))
}

fn is_calibration(path: &Path) -> bool {
    FittedCalibration::read(path).is_ok() || EnsembleCalibration::read(path).is_ok()
}
