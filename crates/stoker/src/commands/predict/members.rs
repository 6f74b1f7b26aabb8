//! What predicts: one run, or the runs of all folds.

use std::path::{Path, PathBuf};

use checkpoint::{CheckpointError, RunFolder};

use super::Task;
use super::output::Output;
use super::parts::{Predicted, note_score};
use super::trained_run::{TrainedRun, request};
use crate::cli::{PredictArguments, RunArguments};
use crate::error::CommandError;
use crate::run::fold_results::{FoldResult, FoldResults};
use crate::ui;

/// The run, or the runs of all folds.
pub(super) fn members(arguments: &PredictArguments) -> Result<Members, CommandError> {
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
pub(super) struct Members {
    /// One at least.
    pub(super) runs: Vec<RunArguments>,
    pub(super) folds: Option<Folds>,
}

pub(super) struct Folds {
    group: RunFolder,
    results: FoldResults,
    weight_by_score: bool,
}

impl Members {
    pub(super) fn folder(&self, run: &TrainedRun) -> PathBuf {
        self.folds.as_ref().map_or(run.folder.root(), |folds| folds.group.root()).to_owned()
    }

    /// Predicts with one model after the other, each into a file beside the output.
    pub(super) fn predict(&self, task: &Task<'_>, output: &Output) -> Result<Vec<Predicted>, CommandError> {
        // All of them, before hours are spent on the first.
        for arguments in &self.runs {
            let run = TrainedRun::open(arguments)?;
            if run.weights.card.classes != task.dataset.classes {
                return Err(other_classes(&run, &task.dataset.classes));
            }
        }
        let mut predicted = Vec::with_capacity(self.runs.len());
        for (index, arguments) in self.runs.iter().enumerate() {
            let run = TrainedRun::open(arguments)?;
            let mut part = run.predict_into(&output.part(index, self.runs.len()), task)?;
            if self.runs.len() > 1 {
                note_score(run.folder.root(), &mut part, task.dataset)?;
            }
            predicted.push(Predicted { weight: self.weight(index), part, calibration: None });
        }
        Ok(predicted)
    }

    fn weight(&self, index: usize) -> f64 {
        let by_score = self.folds.as_ref().filter(|folds| folds.weight_by_score);
        by_score.map_or(1.0, |folds| folds.results.results[index].scores.macro_f1.max(f64::MIN_POSITIVE))
    }
}

fn other_classes(run: &TrainedRun, first: &[String]) -> CommandError {
    let found = &run.weights.card.classes;
    let place = (0..first.len().max(found.len())).find(|&place| first.get(place) != found.get(place)).unwrap_or(0);
    let name = |classes: &[String]| classes.get(place).map_or("missing".to_owned(), |class| format!("`{class}`"));
    let cause = format!("class {place} is {} there, and {} here", name(first), name(found));
    CommandError::wrong_request(format!("`{}` was trained on other classes than the first run", run.path.display()))
        .with_causes(vec![cause])
        .with_hint("average runs whose classes have the same names in the same order".to_owned())
}
