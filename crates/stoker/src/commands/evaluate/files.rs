//! What an evaluation writes.

use std::path::{Path, PathBuf};

use checkpoint::{CheckpointError, write_atomically};
use data_pipeline::Dataset;
use inference::{Effect, Evaluation, Judged, PredictError, Prediction};
use metrics::{AverageScores, CalibrationScores, ClassScores, TopKAccuracy};
use metrics::{class_table_csv, confusion_matrix_svg, contact_sheet_svg};
use serde::Serialize;

use super::Subject;
use crate::commands::predict::{Inputs, is_in_run_root};
use crate::error::CommandError;
use crate::run::mistakes::{worst_mistakes, wrong_predictions};

/// The files by name.
pub(super) struct Files {
    pub(super) folder: PathBuf,
    scores: PathBuf,
    per_class: PathBuf,
    confusion_matrix: PathBuf,
    worst_mistakes: PathBuf,
    pub(super) tta_changes: PathBuf,
    pub(super) not_evaluated: PathBuf,
}

impl Files {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            scores: folder.join("scores.json"),
            per_class: folder.join("per_class.csv"),
            confusion_matrix: folder.join("confusion_matrix.svg"),
            worst_mistakes: folder.join("worst_mistakes.svg"),
            tta_changes: folder.join("tta_changes.csv"),
            not_evaluated: folder.join("not_evaluated.csv"),
        }
    }

    /// In the order in which they are read.
    fn all(&self) -> [&Path; 6] {
        let Self { folder: _, scores, per_class, confusion_matrix, worst_mistakes, tta_changes, not_evaluated } = self;
        [scores, per_class, confusion_matrix, worst_mistakes, tta_changes, not_evaluated]
    }

    /// Their names.
    pub(super) fn names(&self) -> String {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.all().map(name).join(", ")
    }

    /// Refuses to write over what is read, and over what a run keeps in its folder itself: a training draws a confusion matrix as well.
    pub(super) fn check(&self, inputs: &Inputs<'_>) -> Result<(), CommandError> {
        self.all().into_iter().try_for_each(|path| inputs.check(path, |place| !is_in_run_root(place)))
    }

    /// Writes all of them, each whole or not at all.
    pub(super) fn write(
        &self,
        subject: &Subject<'_>,
        dataset: &Dataset,
        predictions: &[Prediction],
        evaluation: &Evaluation,
    ) -> Result<(), CommandError> {
        std::fs::create_dir_all(&self.folder).map_err(|error| {
            CommandError::from_run(&error).in_context(format!("cannot make the folder `{}`", self.folder.display()))
        })?;
        let (plain, merged) = (&evaluation.plain.confusion, &evaluation.merged.confusion);
        let write = |path: &Path, text: String| write_atomically(path, text.as_bytes()).map_err(|error| failed(&error));
        write(&self.scores, Scores::new(subject, dataset, evaluation).to_json())?;
        write(&self.per_class, class_table_csv(plain, merged))?;
        write(&self.confusion_matrix, confusion_matrix_svg(merged))?;
        write(&self.worst_mistakes, contact_sheet(dataset, predictions, merged.total()))?;
        let tables = evaluation
            .write_changes(&self.tta_changes, dataset)
            .and_then(|()| evaluation.write_left_out(&self.not_evaluated, dataset));
        tables.map_err(|error: PredictError| CommandError::from_run(&error).with_hint(error.hint()))
    }
}

fn failed(error: &CheckpointError) -> CommandError {
    CommandError::from_run(error).with_hint(error.hint())
}

fn contact_sheet(dataset: &Dataset, predictions: &[Prediction], images: u64) -> String {
    let wrong = wrong_predictions(dataset, predictions);
    let mistakes = worst_mistakes(dataset, &wrong);
    let remark = match wrong.len() {
        0 => format!("none: all {images} images were predicted right"),
        all if all == mistakes.len() => format!("all {all} wrong predictions of {images} images, the surest first"),
        all => format!("{} of {all} wrong predictions of {images} images, the surest first", mistakes.len()),
    };
    contact_sheet_svg(&mistakes, &remark)
}

/// What `scores.json` holds. What is not a number, for want of images, is null.
#[derive(Debug, Serialize)]
struct Scores<'a> {
    /// Several are averaged.
    runs: &'a [String],
    checkpoint: &'a str,
    input: String,
    views: Vec<String>,
    /// Of the mean of the runs; null where it is not calibrated.
    temperature: Option<f64>,
    /// Found in the input.
    images: usize,
    not_evaluated: usize,
    without_tta: Summary,
    /// With the views and the temperature; null where the image is seen as it is, without either.
    with_tta: Option<Summary>,
    tta_changes: Changes,
    /// With the views.
    per_class: Vec<OfClass<'a>>,
}

#[derive(Debug, Serialize)]
struct Summary {
    /// Scored against their labels.
    images: u64,
    accuracy: f64,
    top_k: TopKAccuracy,
    #[serde(rename = "macro")]
    macro_average: AverageScores,
    weighted: AverageScores,
    #[serde(flatten)]
    probabilities: CalibrationScores,
}

#[derive(Debug, Serialize)]
struct Changes {
    helped: usize,
    hurt: usize,
    still_wrong: usize,
}

#[derive(Debug, Serialize)]
struct OfClass<'a> {
    class: &'a str,
    #[serde(flatten)]
    scores: ClassScores,
}

impl Summary {
    fn of(judged: &Judged) -> Self {
        let confusion = &judged.confusion;
        Self {
            images: confusion.total(),
            accuracy: confusion.accuracy(),
            top_k: judged.top_k,
            macro_average: confusion.macro_scores(),
            weighted: confusion.weighted_scores(),
            probabilities: judged.probabilities,
        }
    }
}

impl<'a> Scores<'a> {
    fn new(subject: &'a Subject<'_>, dataset: &'a Dataset, evaluation: &Evaluation) -> Self {
        let merged = &evaluation.merged.confusion;
        let of_class = |(class, scores): (&'a String, ClassScores)| OfClass { class, scores };
        Self {
            runs: &subject.predictors,
            checkpoint: subject.checkpoint,
            input: subject.input.display().to_string(),
            views: subject.views.iter().map(ToString::to_string).collect(),
            temperature: subject.temperature,
            images: dataset.len(),
            not_evaluated: evaluation.left_out.len(),
            without_tta: Summary::of(&evaluation.plain),
            with_tta: subject.changes_probabilities().then(|| Summary::of(&evaluation.merged)),
            tta_changes: Changes {
                helped: evaluation.count(Effect::Helped),
                hurt: evaluation.count(Effect::Hurt),
                still_wrong: evaluation.count(Effect::StillWrong),
            },
            per_class: dataset.classes.iter().zip(merged.per_class()).map(of_class).collect(),
        }
    }

    fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("scores have string keys and plain values");
        format!("{text}\n")
    }
}
