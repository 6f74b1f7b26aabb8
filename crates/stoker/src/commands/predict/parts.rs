//! Predictions on their way to the table: a file for each model, which a stopped run goes on with.

use std::path::Path;

use data_pipeline::Dataset;
use inference::{
    FittedCalibration, PartError, PartFile, PartHeader, PredictError, Prediction, PredictionTable, Scores, View,
    average, score,
};

use super::output::Output;
use crate::error::{CommandError, Outcome};
use crate::ui;

/// Images that are averaged at a time.
const CHUNK: usize = 256;

/// What the rows of a model depend on, by name.
pub(super) type Facts = Vec<(String, String)>;

/// Where a model goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) batch_size: usize,
    pub(super) first_batch: usize,
    /// How many images memory allowed at once so far, where that was a limit.
    pub(super) at_once: Option<usize>,
}

impl Start {
    /// With the first image, in batches of this size.
    pub(super) fn of(batch_size: usize) -> Self {
        Self { batch_size, first_batch: 0, at_once: None }
    }
}

/// Takes a batch's predictions, and how many images were computed at once.
pub(super) type Take<'a> = dyn FnMut(Vec<Prediction>, Option<usize>) -> Result<(), PredictError> + 'a;

/// A model's predictions of all images, in a file.
pub(super) struct Kept {
    /// What they count for beside others.
    pub(super) weight: f64,
    pub(super) part: PartFile,
    pub(super) calibration: Option<FittedCalibration>,
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

/// Has `predict` add to the file at `path` what is missing there. Batches stay as they were begun, so that a run that is gone on with
/// computes what it would have computed.
pub(super) fn complete(
    path: &Path,
    header: &PartHeader,
    views: &[View],
    predict: impl FnOnce(Start, &mut Take<'_>) -> Result<(), CommandError>,
) -> Result<PartFile, CommandError> {
    let mut part = PartFile::open(path, header, views).map_err(|error| refused(&error))?;
    let before = part.images_done();
    if before > 0 {
        ui::note(format_args!("going on after {before} of {} images: `{}`", part.images(), path.display()));
    }
    if part.is_complete() {
        return Ok(part);
    }
    let start = Start { batch_size: part.batch_size(), first_batch: part.batches_done(), at_once: part.at_once() };
    let mut is_full = false;
    let done = predict(start, &mut |batch, at_once| {
        let added = part.append(&batch, at_once);
        is_full = added.is_err();
        Ok(added?)
    });
    match done {
        Ok(()) => Ok(part),
        Err(error) => Err(stopped(error, part, path, is_full)),
    }
}

/// What was computed is kept, and there is a way to go on.
fn stopped(error: CommandError, part: PartFile, path: &Path, is_full: bool) -> CommandError {
    let (done, images) = (part.images_done(), part.images());
    if done == 0 {
        // Nothing is lost with it; should it stay, it is in nobody's way.
        let _ = part.remove();
        return error;
    }
    let kept = format!("{done} of {images} images are done and kept in `{}`", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match error.outcome {
        Outcome::Interrupted => CommandError::interrupted(format!("interrupted; {kept}"))
            .with_hint("go on with the same command".to_owned()),
        _ if is_full => error.with_hint(format!(
            "free some space there (`df -h {}`), then go on with the same command: {kept}",
            folder.display()
        )),
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

/// Writes the mean of the models' probabilities, and removes the files that they were kept in.
pub(super) fn write_table(output: &Output, dataset: &Dataset, mut models: Vec<Kept>) -> Result<Summary, CommandError> {
    let summary = rows(output, dataset, &mut models).map_err(|error| {
        let hint = format!("all {} images are done: the same command goes on with writing", dataset.len());
        failed(&error).with_hint(hint)
    })?;
    for model in models {
        model.part.remove().map_err(|error| failed(&error.into()))?;
    }
    Ok(summary)
}

fn rows(output: &Output, dataset: &Dataset, models: &mut [Kept]) -> Result<Summary, PredictError> {
    let mut table = PredictionTable::create(&output.path, output.format, &output.layout, dataset)?;
    let mut summary = Summary { rows: 0, failed: 0, first_failure: None, scores: None };
    let mut streams = models
        .iter_mut()
        .map(|model| {
            let rows = model.part.predictions()?;
            Ok((model.weight, model.calibration.as_ref(), rows))
        })
        .collect::<Result<Vec<_>, PredictError>>()?;
    while summary.rows < dataset.len() {
        let mut chunks = Vec::with_capacity(streams.len());
        for (weight, calibration, rows) in &mut streams {
            let mut chunk = rows.take(CHUNK).collect::<Result<Vec<_>, _>>()?;
            if let Some(calibration) = calibration {
                calibration.apply(&mut chunk);
            }
            chunks.push((*weight, chunk));
        }
        let merged = if chunks.len() == 1 { chunks.remove(0).1 } else { average(&chunks)? };
        if merged.is_empty() {
            break; // `finish` tells what is missing
        }
        merged.iter().try_for_each(|prediction| table.push(prediction))?;
        summary.add(dataset, &merged);
    }
    table.finish()?;
    Ok(summary)
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
