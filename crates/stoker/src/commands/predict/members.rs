//! What predicts: one run, or the runs of all folds.

use std::path::{Path, PathBuf};

use checkpoint::{CheckpointError, RunFolder};
use inference::{Prediction, average, score};

use super::Task;
use super::trained_run::{TrainedRun, request};
use crate::cli::{PredictorArguments, RunArguments};
use crate::error::CommandError;
use crate::run::fold_results::{FoldResult, FoldResults};
use crate::ui;

/// The run, or the runs of all folds.
pub(crate) fn members(arguments: &PredictorArguments) -> Result<Members, CommandError> {
    let folder = match &arguments.fold_results {
        Some(path) if !path.exists() => return Err(request(&CheckpointError::Missing { path: path.clone() })),
        Some(path) if path.is_dir() => path.as_path(),
        Some(path) => path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        None if arguments.run.run.join("fold_results.yaml").exists() => arguments.run.run.as_path(),
        None => return Ok(Members { runs: vec![arguments.run.clone()], folds: None }),
    };
    let group = RunFolder::open(folder).map_err(|error| request(&error))?;
    let results = FoldResults::read(&group)?.filter(|results| !results.results.is_empty()).ok_or_else(|| {
        let message = format!("`{}` does not exist", group.fold_results().display());
        CommandError::wrong_request(message).with_hint("it is written when a fold is done: `stoker train`".to_owned())
    })?;
    if results.results.len() < results.folds {
        let (done, folds) = (results.results.len(), results.folds);
        ui::note(format_args!("note: {done} of {folds} folds are done: the others have no say"));
    }
    let run = |fold: &FoldResult| RunArguments { run: group.root().join(&fold.run), ..arguments.run.clone() };
    let runs = results.results.iter().map(run).collect();
    Ok(Members { runs, folds: Some(Folds { group, results, weight_by_score: arguments.weight_by_score }) })
}

/// What predicts: one model, or several whose probabilities are averaged.
pub(crate) struct Members {
    /// One at least.
    pub(crate) runs: Vec<RunArguments>,
    pub(crate) folds: Option<Folds>,
}

pub(crate) struct Folds {
    group: RunFolder,
    results: FoldResults,
    weight_by_score: bool,
}

impl Members {
    pub(crate) fn folder(&self, run: &TrainedRun) -> PathBuf {
        self.folds.as_ref().map_or(run.folder.root(), |folds| folds.group.root()).to_owned()
    }

    /// Predicts with one model after the other, and averages.
    pub(crate) fn predict(&self, task: &Task<'_>) -> Result<Vec<Prediction>, CommandError> {
        let mut predicted = Vec::with_capacity(self.runs.len());
        for (index, arguments) in self.runs.iter().enumerate() {
            let run = TrainedRun::open(arguments)?;
            if run.weights.card.classes != task.dataset.classes {
                let message = format!("`{}` was trained on other classes than the first run", run.path.display());
                return Err(CommandError::wrong_request(message));
            }
            let predictions = run.predict(task)?;
            if let Some(scores) = score(task.dataset, &predictions) {
                ui::note(format_args!("{}: macro-F1 {:.4}", run.folder.root().display(), scores.merged.macro_f1()));
            }
            predicted.push((self.weight(index), predictions));
        }
        average(&predicted).map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))
    }

    fn weight(&self, index: usize) -> f64 {
        let by_score = self.folds.as_ref().filter(|folds| folds.weight_by_score);
        by_score.map_or(1.0, |folds| folds.results.results[index].scores.macro_f1.max(f64::MIN_POSITIVE))
    }
}
