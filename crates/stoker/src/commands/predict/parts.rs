//! Predictions on their way to the table: a file for each model, which a stopped run goes on with.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use checkpoint::{CheckpointError, make_room, shell_word};
use data_pipeline::Dataset;
use inference::{
    PartError, PartFile, PartHeader, PredictError, Prediction, PredictionTable, Scores, View, average, score,
    temper_merged,
};

use super::batch::{Begun, PlannedBatch};
use super::output::Output;
use crate::error::{CommandError, Outcome};
use crate::ui;

/// Images that are averaged at a time.
const CHUNK: usize = 256;

/// What the rows of a model depend on, by name.
pub(super) type Facts = Vec<(String, String)>;

/// Where a model goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Images that are loaded together.
    pub(super) batch_size: usize,
    pub(super) first_batch: usize,
    /// Most images in a pass, each view of an image counted as one.
    pub(super) pass_size: usize,
    /// How many of them memory allowed so far, where that was a limit.
    pub(super) at_once: Option<usize>,
}

impl Start {
    /// With the first image, as it was planned.
    pub(super) fn of(planned: &PlannedBatch) -> Self {
        Self { batch_size: planned.images, first_batch: 0, pass_size: planned.at_once, at_once: None }
    }
}

/// Takes a batch's predictions by the model at a place, and how many images were computed at once.
pub(super) type Take<'a> = dyn FnMut(usize, Vec<Prediction>, usize) -> Result<(), PredictError> + 'a;

/// A model's file before the model goes on: what its rows depend on, and what an earlier run has left there.
pub(super) struct Opened {
    path: PathBuf,
    header: PartHeader,
    views: Vec<View>,
    there: Option<PartFile>,
}

/// A model's predictions of all images, in a file.
pub(super) struct Kept {
    /// What they count for beside others.
    pub(super) weight: f64,
    pub(super) part: PartFile,
}

/// Where the predictions of all models are kept until the table is there: a file, or for several models a folder with a file for each, so that
/// they are given up together.
pub(super) struct Place {
    path: PathBuf,
    models: usize,
}

/// What the table says, in short.
pub(super) struct Summary {
    pub(super) rows: usize,
    pub(super) failed: usize,
    /// Of the first image without a prediction: its number and the reason.
    pub(super) first_failure: Option<(usize, String)>,
    /// Where labels are known.
    pub(super) scores: Option<Scores>,
}

impl Opened {
    /// What an earlier run left at `path`, which it tells. The sizes of batches and passes in the header do not matter.
    pub(super) fn find(path: PathBuf, header: PartHeader, views: &[View]) -> Result<Self, CommandError> {
        let there = PartFile::reopen(&path, &header, views).map_err(|error| refused(&error))?;
        if let Some(part) = there.as_ref().filter(|part| part.images_done() > 0) {
            let (done, images) = (part.images_done(), part.images());
            ui::note(format_args!("going on after {done} of {images} images: `{}`", path.display()));
        }
        Ok(Self { path, header, views: views.to_vec(), there })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, where every image is in it.
    pub(super) fn take_complete(&mut self) -> Option<PartFile> {
        self.there.take_if(|part| part.is_complete())
    }

    /// With which batch and in which passes the model goes on. They stay as they were begun, so that a run that is gone on with computes what it
    /// would have computed.
    pub(super) fn start(&self, planned: &PlannedBatch) -> Start {
        let of_part = |part: &PartFile| Start {
            batch_size: part.batch_size(),
            first_batch: part.batches_done(),
            pass_size: part.pass_size(),
            at_once: part.at_once(),
        };
        self.there.as_ref().map_or_else(|| Start::of(planned), of_part)
    }

    /// How many images an earlier run had at once, where there was one.
    pub(super) fn begun(&self) -> Option<Begun> {
        let of_part = |part: &PartFile| match part.at_once() {
            Some(at_once) => Begun { at_once, reason: "as memory allowed before" },
            None => Begun { at_once: part.pass_size(), reason: "as it was begun" },
        };
        self.there.as_ref().map(of_part)
    }

    /// The file; where nothing is there yet, it is begun as planned.
    pub(super) fn begin(self, planned: &PlannedBatch) -> Result<PartFile, CommandError> {
        let header = self.header.in_batches_of(planned.images).in_passes_of(planned.at_once);
        let begun = || PartFile::open(&self.path, &header, &self.views).map_err(|error| refused(&error));
        self.there.map_or_else(begun, Ok)
    }
}

/// Has `predict` add to the files what is missing there. `path` is where they are: a file, or the folder of several, which are all at the same place.
pub(super) fn complete(
    mut parts: Vec<PartFile>,
    path: &Path,
    predict: impl FnOnce(&mut Take<'_>) -> Result<(), CommandError>,
) -> Result<Vec<PartFile>, CommandError> {
    let mut unwritten = None;
    let done = predict(&mut |place, batch, at_once| {
        let part = &mut parts[place];
        let limit = Some(at_once).filter(|&limit| limit < part.pass_size());
        let added = part.append(&batch, limit);
        unwritten = added.as_ref().err().map(|error| match error {
            CheckpointError::Write { source, .. } => source.kind(),
            _ => ErrorKind::Other,
        });
        Ok(added?)
    });
    match done {
        Ok(()) => Ok(parts),
        Err(error) => Err(stopped(error, parts, path, unwritten)),
    }
}

/// What was computed is kept, and there is a way to go on. `unwritten` is why a batch could not be kept, where that stopped it.
fn stopped(error: CommandError, parts: Vec<PartFile>, path: &Path, unwritten: Option<ErrorKind>) -> CommandError {
    // A disk that is full may have kept the last batch from some of several.
    let least = parts.iter().map(|part| (part.images_done(), part.images())).min();
    let (done, images) = least.unwrap_or_default();
    if done == 0 {
        // Nothing is lost with them; should they stay, they are in nobody's way.
        for part in parts {
            let _ = part.remove();
        }
        for folder in [Some(path), path.parent()].into_iter().flatten().filter(|folder| is_place(folder)) {
            let _ = std::fs::remove_dir(folder);
        }
        return error;
    }
    let kept = format!("{done} of {images} images are done and kept in `{}`", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (error.outcome, unwritten) {
        (Outcome::Interrupted, _) => CommandError::interrupted(format!("interrupted; {kept}"))
            .with_hint("go on with the same command".to_owned()),
        (_, Some(kind)) => {
            error.with_hint(format!("{}, then go on with the same command: {kept}", make_room(kind, folder)))
        }
        _ => {
            ui::note(format_args!("{kept}: the same command goes on with them"));
            error
        }
    }
}

fn refused(error: &PartError) -> CommandError {
    let refused = match error {
        PartError::File(_) => CommandError::from_run(error),
        _ => CommandError::from_request(error),
    };
    refused.with_hint(error.hint())
}

impl Kept {
    /// How good the model is, where labels are known.
    pub(super) fn scores(&mut self, dataset: &Dataset) -> Result<Option<Scores>, CommandError> {
        let mut scores = None;
        for batch in self.part.batches().map_err(|error| failed(&error.into()))? {
            add(&mut scores, score(dataset, &batch.map_err(|error| failed(&error.into()))?));
        }
        Ok(scores)
    }
}

/// Says how good one of several models is.
pub(super) fn note_score(name: &Path, scores: &Scores) {
    ui::note(format_args!("{}: macro-F1 {:.4}", name.display(), scores.merged.macro_f1()));
}

/// Writes the mean of the models' probabilities, at a temperature where they are calibrated.
pub(super) fn write_table(
    output: &Output,
    dataset: &Dataset,
    models: &mut [Kept],
    temperature: Option<f64>,
) -> Result<Summary, CommandError> {
    rows(output, dataset, models, temperature).map_err(|error| {
        let hint = format!("all {} images are done: the same command goes on with writing", dataset.len());
        failed(&error).with_hint(hint)
    })
}

fn rows(
    output: &Output,
    dataset: &Dataset,
    models: &mut [Kept],
    temperature: Option<f64>,
) -> Result<Summary, PredictError> {
    let mut table = PredictionTable::create(&output.path, output.format, &output.layout, dataset)?;
    let mut summary = Summary { rows: 0, failed: 0, first_failure: None, scores: None };
    let mut streams = models
        .iter_mut()
        .map(|model| Ok((model.weight, model.part.predictions()?)))
        .collect::<Result<Vec<_>, PredictError>>()?;
    while summary.rows < dataset.len() {
        let mut chunks = Vec::with_capacity(streams.len());
        for (weight, rows) in &mut streams {
            chunks.push((*weight, rows.take(CHUNK).collect::<Result<Vec<_>, _>>()?));
        }
        let mut merged = if chunks.len() == 1 { chunks.remove(0).1 } else { average(chunks)? };
        if merged.is_empty() {
            break; // `finish` tells what is missing
        }
        if let Some(temperature) = temperature {
            temper_merged(&mut merged, temperature);
        }
        merged.iter().try_for_each(|prediction| table.push(prediction))?;
        summary.add(dataset, &merged);
    }
    table.finish()?;
    Ok(summary)
}

/// What follows the name of a folder of kept predictions once their table is there.
const DONE: &str = ".done";

impl Place {
    /// Beside the output, for so many models; nothing is written yet.
    pub(super) fn find(output: &Output, models: usize) -> Result<Self, CommandError> {
        let place = Self { path: output.place_of_parts(), models };
        let (path, is_folder) = (&place.path, models > 1);
        if path.exists() && path.is_dir() != is_folder {
            let there = if is_folder { "one model" } else { "several models" };
            let message = format!("`{}` keeps predictions that were begun with {there}", path.display());
            let remove = if is_folder { "rm" } else { "rm -r" };
            return Err(CommandError::wrong_request(message).with_hint(format!(
                "finish those with the request that began them, write elsewhere with `--output FILE`, or give them up: `{remove} {}`",
                shell_word(path)
            )));
        }
        Ok(place)
    }

    /// Makes the folder, where there is one, and takes away what a process that was killed as it ended has left.
    pub(super) fn make(&self) -> Result<(), CommandError> {
        if self.models == 1 {
            return Ok(());
        }
        clear(&self.given_up());
        let write = |source| failed(&CheckpointError::Write { path: self.path.clone(), source }.into());
        std::fs::create_dir_all(&self.path).map_err(write)
    }

    /// The file of one model.
    pub(super) fn of(&self, model: usize) -> PathBuf {
        if self.models > 1 { self.path.join(model.to_string()) } else { self.path.clone() }
    }

    /// Where all files are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The views of predictions that were begun here; none where there are none.
    pub(super) fn views(&self) -> Option<Vec<View>> {
        let header = (0..self.models).find_map(|model| PartHeader::read(&self.of(model)))?;
        header.fact("views")?.split(", ").map(|name| name.parse().ok()).collect()
    }

    /// Removes what was kept, now that the table is there. Of several models all at once: were one file gone and another not, the same command
    /// would predict the first again.
    pub(super) fn remove(self, models: Vec<Kept>) -> Result<(), CommandError> {
        let path = self.path.clone();
        let write = |source| failed(&CheckpointError::Write { path, source }.into());
        if self.models > 1 {
            std::fs::rename(&self.path, self.given_up()).map_err(write)?;
            drop(models);
            clear(&self.given_up());
            return Ok(());
        }
        models.into_iter().try_for_each(|model| model.part.remove()).map_err(|error| failed(&error.into()))
    }

    fn given_up(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(DONE);
        self.path.with_file_name(name)
    }
}

/// Whether a folder is named as one of kept predictions.
fn is_place(folder: &Path) -> bool {
    folder.extension().is_some_and(|extension| extension == "part")
}

/// Removes the files of a folder that are named by a number, and the folder where nothing else is in it. What stays is in nobody's way.
fn clear(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<usize>().is_ok());
        if is_ours {
            let _ = std::fs::remove_file(path);
        }
    }
    let _ = std::fs::remove_dir(folder);
}

impl Summary {
    fn add(&mut self, dataset: &Dataset, predictions: &[Prediction]) {
        self.rows += predictions.len();
        for prediction in predictions {
            let Some(reason) = prediction.outcome.error() else { continue };
            self.failed += 1;
            self.first_failure.get_or_insert((prediction.sample, reason));
        }
        add(&mut self.scores, score(dataset, predictions));
    }
}

fn add(scores: &mut Option<Scores>, more: Option<Scores>) {
    match (scores.as_mut(), more) {
        (Some(scores), Some(more)) => scores.merge(&more),
        (None, more) => *scores = more,
        (Some(_), None) => {}
    }
}

fn failed(error: &PredictError) -> CommandError {
    CommandError::from_run(error).with_hint(error.hint())
}
