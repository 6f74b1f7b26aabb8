//! What a command reads, which must not be lost to what it writes.

use std::fs;
use std::path::Path;

use checkpoint::RunFolder;
use data_pipeline::Dataset;

use super::trained_run::TrainedRun;
use crate::cli::PredictorArguments;
use crate::error::CommandError;

/// Files that are read, with what they are.
#[derive(Default)]
pub(crate) struct Inputs<'a> {
    /// Beside the images: what a path is, as in `the input`, and the path as it was named.
    named: Vec<(&'static str, &'a Path)>,
    images: Option<&'a Dataset>,
}

impl<'a> Inputs<'a> {
    /// What predictions of `input` are made from, without the images and what lies in run folders.
    pub(crate) fn of(asked: &'a PredictorArguments, input: &'a Path) -> Self {
        Self::default()
            .with("the input", Some(input))
            .with("the file of fold results", asked.runs.fold_results.as_deref())
            .with("the calibration", asked.calibration.as_deref())
    }

    /// The lists that runs were trained and validated on, where these are files.
    pub(crate) fn of_training(runs: impl Iterator<Item = &'a TrainedRun>) -> Self {
        runs.fold(Self::default(), |inputs, run| {
            let data = &run.config.data;
            inputs
                .with("the list of training images", Some(data.train.as_path()))
                .with("the list of validation images", data.validation.as_deref())
        })
    }

    /// With the file at `path`, where one is named.
    pub(crate) fn with(mut self, what: &'static str, path: Option<&'a Path>) -> Self {
        self.named.extend(path.map(|path| (what, path)));
        self
    }

    /// With the files of a data set.
    pub(crate) fn with_images(self, images: &'a Dataset) -> Self {
        Self { images: Some(images), ..self }
    }

    /// Refuses to write `output` over a file that is read, under whatever names, or over one in a run folder. Of the latter `may_go` is asked, with
    /// the true path: whether such files are what the command itself writes there.
    pub(crate) fn check(&self, output: &Path, may_go: impl Fn(&Path) -> bool) -> Result<(), CommandError> {
        // What is not there cannot be lost.
        let Ok(place) = fs::canonicalize(output) else { return Ok(()) };
        if let Some((what, path)) = self.at(&place) {
            return Err(refused(output, &format!("it is {what} `{}`", path.display())));
        }
        match run_of(&place) {
            Some(run) if !may_go(&place) => {
                Err(refused(output, &format!("it is a file of the run `{}`", run.root().display())))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to keep predictions on their way at `place`, a file or a folder, where that is something that is read or has it inside.
    pub(crate) fn check_parts(&self, place: &Path) -> Result<(), CommandError> {
        let read = fs::canonicalize(place).ok().and_then(|true_place| self.at(&true_place));
        match read {
            Some((what, path)) => Err(refused(place, &format!("it holds {what} `{}`", path.display()))),
            None => Ok(()),
        }
    }

    /// What is read from the file, or the folder, that is truly at `place`.
    fn at(&self, place: &Path) -> Option<(&'static str, &'a Path)> {
        let is_there = |path: &Path| fs::canonicalize(path).is_ok_and(|path| path.starts_with(place));
        let named = self.named.iter().copied().find(|(_, path)| is_there(path));
        // Only a link has another name than its file, so that few of many images have to be followed.
        let may_be_there = |path: &Path| path.file_name() == place.file_name() || path.is_symlink();
        let image = || {
            let images = self.images?.samples.iter().map(|sample| sample.path.as_path());
            let image = images.filter(|&path| may_be_there(path)).find(|&path| is_there(path))?;
            Some(("the image", image))
        };
        named.or_else(image)
    }
}

/// Whether a file, by its true path, stands in a run folder itself and in none of the folders below it.
pub(crate) fn is_in_run_root(place: &Path) -> bool {
    place.parent().is_some_and(|folder| RunFolder::open(folder).is_ok())
}

/// The nearest run folder that has the file at a true path somewhere below it.
fn run_of(place: &Path) -> Option<RunFolder> {
    place.ancestors().skip(1).find_map(|above| RunFolder::open(above).ok())
}

fn refused(output: &Path, reason: &str) -> CommandError {
    CommandError::wrong_request(format!("cannot write `{}`: {reason}", output.display()))
        .with_hint("choose another place with `--output`".to_owned())
}
