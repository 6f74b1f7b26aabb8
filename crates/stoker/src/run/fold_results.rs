//! What cross-validation has come to: `fold_results.yaml` and `out_of_fold.csv`, beside the folds' own runs.

use std::path::{Path, PathBuf};

use checkpoint::{CheckpointError, RunFolder, RunLock, write_atomically};
use data_pipeline::Dataset;
use inference::{Column, PredictError, Prediction, PredictionTable, TableFormat, TableLayout, join_csv, score};
use metrics::ConfusionMatrix;
use serde::{Deserialize, Serialize};

use crate::error::CommandError;
use crate::run::resolved::ResolvedConfig;

/// The folds that are done, by number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FoldResults {
    /// How many folds there are.
    pub(crate) folds: usize,
    /// The seed that the images were dealt out with.
    pub(crate) seed: u64,
    /// Names of the classes.
    pub(crate) classes: Vec<String>,
    /// Over all images of the folds that are done, each by the model that was not trained on it.
    pub(crate) out_of_fold: Scores,
    /// The folds that are done.
    pub(crate) results: Vec<FoldResult>,
}

/// One fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FoldResult {
    /// From 0.
    pub(crate) fold: usize,
    /// Its run, relative to this file.
    pub(crate) run: PathBuf,
    /// Its best weights, relative to this file.
    pub(crate) checkpoint: PathBuf,
    /// The epoch they are from.
    pub(crate) epoch: u32,
    /// What they make of the fold's own images.
    #[serde(flatten)]
    pub(crate) scores: Scores,
    /// `[label][predicted]`.
    confusion: Vec<Vec<u64>>,
}

/// Scores of labelled images.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Scores {
    pub(crate) macro_f1: f64,
    pub(crate) accuracy: f64,
    pub(crate) images: u64,
}

impl Scores {
    fn of(matrix: &ConfusionMatrix) -> Self {
        if matrix.total() == 0 {
            return Self::default();
        }
        Self { macro_f1: matrix.macro_f1(), accuracy: matrix.accuracy(), images: matrix.total() }
    }
}

/// The finished run of one fold.
pub(crate) struct FinishedFold<'a> {
    pub(crate) fold: usize,
    pub(crate) folder: &'a RunFolder,
    pub(crate) epoch: u32,
    pub(crate) validation: &'a Dataset,
    pub(crate) predictions: &'a [Prediction],
}

impl FoldResults {
    /// What is known in the folder of all folds; nothing where none is done.
    pub(crate) fn read(group: &RunFolder) -> Result<Option<Self>, CommandError> {
        let path = group.fold_results();
        path.exists().then(|| Self::read_file(&path)).transpose()
    }

    /// What the file at `path` says; the folds' runs lie beside it.
    pub(crate) fn read_file(path: &Path) -> Result<Self, CommandError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let refused = |cause: String| {
            let hint = match path.file_name().is_some_and(|name| name == "fold_results.yaml") {
                true => format!("put it back as it was; the folds' runs are in `{}`", folder.display()),
                false => "name the `fold_results.yaml` that `stoker train` wrote, or a copy beside it".to_owned(),
            };
            CommandError::wrong_request(format!("`{}` is no file of fold results", path.display()))
                .with_causes(vec![cause])
                .with_hint(hint)
        };
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let results: Self = serde_yaml::from_str(&text).map_err(|error| refused(error.to_string()))?;
        let fits = |result: &FoldResult| result.fold < results.folds && results.matrix(result).is_some();
        match results.results.iter().find(|result| !fits(result)) {
            Some(result) => Err(refused(format!("fold {} does not fit the classes or the folds", result.fold))),
            None => Ok(results),
        }
    }

    /// Whether a fold is done.
    pub(crate) fn has(&self, fold: usize) -> bool {
        self.results.iter().any(|result| result.fold == fold)
    }

    /// Mean and standard deviation of the folds' macro-F1: `macro-F1 0.9927 ± 0.0022 over 5 of 5 folds`. The deviation is that of a sample, which one
    /// fold has none of.
    pub(crate) fn macro_f1_in_words(&self) -> String {
        let done = self.results.len();
        let mean = self.results.iter().map(|result| result.scores.macro_f1).sum::<f64>() / done as f64;
        let squares: f64 = self.results.iter().map(|result| (result.scores.macro_f1 - mean).powi(2)).sum();
        let deviation = match done {
            0 | 1 => String::new(),
            _ => format!(" ± {:.4}", (squares / (done - 1) as f64).sqrt()),
        };
        format!("macro-F1 {mean:.4}{deviation} over {done} of {} folds", self.folds)
    }

    fn matrix(&self, result: &FoldResult) -> Option<ConfusionMatrix> {
        ConfusionMatrix::from_counts(self.classes.clone(), result.confusion.clone())
    }

    /// Takes a fold out of what is known in the folder of all, because its run in `root` is about to be replaced.
    pub(crate) fn forget(root: &Path, fold: usize) -> Result<(), CommandError> {
        let group = group_of(root)?;
        let _held = hold_shared(&group)?;
        let Some(mut known) = Self::read(&group)?.filter(|known| known.has(fold)) else { return Ok(()) };
        known.results.retain(|result| result.fold != fold);
        if known.results.is_empty() {
            // The results first: what stands there has everything else.
            let gone = [group.fold_results(), group.out_of_fold()];
            let gone = gone.into_iter().try_for_each(|path| {
                std::fs::remove_file(&path).map_err(|source| CheckpointError::Write { path, source })
            });
            return gone.map_err(|error| failed(&error, error.hint()));
        }
        known.sum_up();
        known.write(&group)
    }

    /// Writes the file, and the predictions of all folds that are in it.
    fn write(&self, group: &RunFolder) -> Result<(), CommandError> {
        let parts = self.results.iter().map(|result| (result.fold.to_string(), group.of_fold(result.fold)));
        let parts: Vec<(String, PathBuf)> = parts.map(|(fold, root)| (fold, root.join("out_of_fold.csv"))).collect();
        join_csv(&group.out_of_fold(), "fold", &parts).map_err(|error| failed(&error, error.hint()))?;
        let text = serde_yaml::to_string(self).expect("results have string keys and plain values");
        // Last: a fold that stands here has everything else.
        write_atomically(&group.fold_results(), text.as_bytes()).map_err(|error| failed(&error, error.hint()))
    }

    /// Takes up a fold, in the place of what was known of it.
    fn put(&mut self, result: FoldResult) {
        self.results.retain(|other| other.fold != result.fold);
        self.results.push(result);
        self.results.sort_by_key(|result| result.fold);
        self.sum_up();
    }

    /// Scores over all folds that are here.
    fn sum_up(&mut self) {
        let mut all = ConfusionMatrix::new(self.classes.clone());
        for matrix in self.results.iter().filter_map(|result| self.matrix(result)) {
            all.merge(&matrix).expect("all have the classes of the file");
        }
        self.out_of_fold = Scores::of(&all);
    }
}

/// Adds a finished fold to the results in the folder of all folds, and to their out-of-fold predictions.
pub(crate) fn record(resolved: &ResolvedConfig, finished: &FinishedFold<'_>) -> Result<(), CommandError> {
    let group = group_of(finished.folder.root())?;
    let classes = &finished.validation.classes;
    let own = finished.folder.out_of_fold();
    write_rows(&own, finished.validation, finished.predictions).map_err(|error| failed(&error, error.hint()))?;
    let unscored = || ConfusionMatrix::new(classes.clone());
    let matrix = score(finished.validation, finished.predictions).map_or_else(unscored, |scores| scores.plain);
    let run = PathBuf::from(format!("fold_{}", finished.fold));
    let result = FoldResult {
        fold: finished.fold,
        checkpoint: run.join("checkpoints").join("best.safetensors"),
        run,
        epoch: finished.epoch,
        scores: Scores::of(&matrix),
        confusion: matrix.counts().to_vec(),
    };
    let fresh = || FoldResults {
        folds: resolved.config.data.folds.unwrap_or(finished.fold + 1),
        seed: resolved.config.seed,
        classes: classes.clone(),
        out_of_fold: Scores::default(),
        results: Vec::new(),
    };
    // Folds that are trained at the same time may end at the same time.
    let _held = hold_shared(&group)?;
    let mut results = FoldResults::read(&group)?.filter(|known| known.classes == *classes).unwrap_or_else(fresh);
    results.put(result);
    results.write(&group)
}

/// What a prediction out of fold is held against stands beside it.
const COLUMNS: [Column; 5] = [Column::File, Column::Class, Column::Label, Column::Probabilities, Column::Error];

/// Writes the predictions of a fold's own images, a row each.
fn write_rows(path: &Path, images: &Dataset, predictions: &[Prediction]) -> Result<(), PredictError> {
    let layout = TableLayout::new(&COLUMNS, &images.classes).expect("each column is there once, and none has ranks");
    let mut table = PredictionTable::create(path, TableFormat::Csv, &layout, images)?;
    predictions.iter().try_for_each(|prediction| table.push(prediction))?;
    table.finish()
}

/// The folder of all folds that a fold's run stands in.
pub(crate) fn group_of(root: &Path) -> Result<RunFolder, CommandError> {
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
    RunFolder::open(parent.unwrap_or(Path::new("."))).map_err(|error| {
        let hint = "a fold's run stays in the folder of all folds, beside `config.resolved.yaml`: move it back";
        CommandError::from_request(&error).with_hint(hint.to_owned())
    })
}

/// From reading what all folds share to writing it, no other process does.
fn hold_shared(group: &RunFolder) -> Result<RunLock, CommandError> {
    group.hold_shared().map_err(|error| failed(&error, error.hint()))
}

fn failed(error: &dyn std::error::Error, hint: Option<String>) -> CommandError {
    CommandError::from_run(error).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(scores: &[f64]) -> FoldResults {
        let of_fold = |(fold, &macro_f1): (usize, &f64)| FoldResult {
            fold,
            run: PathBuf::new(),
            checkpoint: PathBuf::new(),
            epoch: 1,
            scores: Scores { macro_f1, accuracy: macro_f1, images: 8 },
            confusion: vec![vec![8]],
        };
        FoldResults {
            folds: 3,
            seed: 1,
            classes: vec!["cat".to_owned()],
            out_of_fold: Scores::default(),
            results: scores.iter().enumerate().map(of_fold).collect(),
        }
    }

    #[test]
    fn one_fold_has_no_deviation_and_several_have_that_of_a_sample() {
        assert_eq!(results(&[0.5]).macro_f1_in_words(), "macro-F1 0.5000 over 1 of 3 folds");
        assert_eq!(results(&[0.5, 0.5]).macro_f1_in_words(), "macro-F1 0.5000 ± 0.0000 over 2 of 3 folds");
        // Squares of 0.1, 0 and 0.1 over two: 0.01.
        assert_eq!(results(&[0.5, 0.6, 0.7]).macro_f1_in_words(), "macro-F1 0.6000 ± 0.1000 over 3 of 3 folds");
    }
}
