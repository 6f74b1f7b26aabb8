//! What predicts: one run, several runs, or the runs of all folds.

use std::path::{Path, PathBuf};

use checkpoint::{CheckpointError, RunFolder};
use inference::{FittedCalibration, Prediction, View, average, score};

use super::Task;
use super::output::Output;
use super::parts::{Kept, note_score};
use super::trained_run::{Sight, TrainedRun, request};
use crate::cli::{PredictorArguments, ViewArguments};
use crate::commands::gpu::choose_preset;
use crate::config::UserConfig;
use crate::error::CommandError;
use crate::run::fold_results::{FoldResult, FoldResults};
use crate::ui;

/// What predicts: one model, or several whose probabilities are averaged.
pub(crate) struct Members<'a> {
    arguments: &'a PredictorArguments,
    /// One at least.
    runs: Vec<Member>,
    /// Whether the first run's views are left to a measurement.
    is_auto: bool,
    /// Where predictions go that are not told where; none where several runs are named.
    pub(crate) folder: Option<PathBuf>,
    /// Names of the classes, by the first run.
    pub(crate) classes: Vec<String>,
    /// Of the first run.
    pub(crate) config: UserConfig,
}

/// One model of an ensemble.
struct Member {
    path: PathBuf,
    /// Macro-F1 on validation where folds are weighted by it, which the results of the folds say.
    fold_score: Option<f64>,
    /// What it counts for beside others with its score.
    share: f64,
}

/// A member whose files were read and found to fit, before hours are spent.
struct Ready<'a> {
    member: &'a Member,
    weight: f64,
    sight: Sight,
    calibration: Option<FittedCalibration>,
}

/// What an ensemble says.
pub(crate) struct Predicted {
    /// One an image, in their order.
    pub(crate) predictions: Vec<Prediction>,
    /// Views of each image; the most where models differ in it.
    pub(crate) views: Vec<View>,
    /// Of the models, in their order, where they are calibrated.
    pub(crate) temperatures: Vec<f64>,
}

/// The run, the runs, or the runs of all folds.
pub(crate) fn members(arguments: &PredictorArguments) -> Result<Members<'_>, CommandError> {
    let (runs, folder) = match (&arguments.fold_results, &arguments.runs[..]) {
        (Some(path), _) if !path.exists() => return Err(request(&CheckpointError::Missing { path: path.clone() })),
        (Some(path), _) => {
            let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
            let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (members_of_folds(folder)?, Some(folder.to_owned()))
        }
        (None, [run]) => (members_of(run)?, Some(run.clone())),
        (None, runs) => {
            let members: Result<Vec<_>, CommandError> = runs.iter().map(|run| members_of(run)).collect();
            (members?.into_iter().flatten().collect(), None)
        }
    };
    let first = TrainedRun::open(&runs[0].path, &arguments.weights)?;
    let folder = folder.map(|folder| RunFolder::open(&folder).map(|folder| folder.root().to_owned())).transpose();
    let folder = folder.map_err(|error| request(&error))?;
    let is_auto = first.is_auto(&arguments.views);
    Ok(Members { arguments, runs, is_auto, folder, classes: first.weights.card.classes, config: first.config })
}

/// A run, or the runs of its folds where it is a folder of those.
fn members_of(run: &Path) -> Result<Vec<Member>, CommandError> {
    match run.join("fold_results.yaml").exists() {
        true => members_of_folds(run),
        false => Ok(vec![Member { path: run.to_owned(), fold_score: None, share: 1.0 }]),
    }
}

fn members_of_folds(folder: &Path) -> Result<Vec<Member>, CommandError> {
    let group = RunFolder::open(folder).map_err(|error| request(&error))?;
    let results = FoldResults::read(&group)?.filter(|results| !results.results.is_empty()).ok_or_else(|| {
        let message = format!("`{}` does not exist", group.fold_results().display());
        CommandError::wrong_request(message).with_hint("it is written when a fold is done: `stoker train`".to_owned())
    })?;
    let done = results.results.len();
    if done < results.folds {
        ui::note(format_args!("note: {done} of {} folds are done: the others have no say", results.folds));
    }
    let member = |fold: FoldResult| Member {
        path: group.root().join(&fold.run),
        fold_score: Some(fold.scores.macro_f1),
        share: 1.0 / done as f64,
    };
    Ok(results.results.into_iter().map(member).collect())
}

impl Members<'_> {
    /// The run folders, as they were named.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.runs.iter().map(|member| member.path.display().to_string()).collect()
    }

    /// Predicts with one model after the other, each in its own size, views and temperature, and averages.
    pub(crate) fn predict(&self, task: &Task<'_>) -> Result<Predicted, CommandError> {
        let ready = self.all_ready(task)?;
        let mut predicted = Vec::with_capacity(ready.len());
        for Ready { member, weight, sight, calibration } in &ready {
            let run = TrainedRun::open(&member.path, &self.arguments.weights)?;
            let mut predictions = run.predict(task, sight)?;
            if let Some(calibration) = calibration {
                calibration.apply(&mut predictions);
            }
            if let (Some(scores), true) = (score(task.dataset, &predictions), self.runs.len() > 1) {
                note_score(run.folder.root(), &scores);
            }
            predicted.push((*weight, predictions));
        }
        let predictions = match &mut predicted[..] {
            [(_, predictions)] => std::mem::take(predictions),
            all => average(all).map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?,
        };
        let calibrations = ready.iter().filter_map(|ready| ready.calibration.as_ref());
        let temperatures = calibrations.map(|fitted| fitted.calibration.temperature).collect();
        Ok(Predicted { predictions, views: most_views(&ready).to_vec(), temperatures })
    }

    /// Predicts with one model after the other, each into a file beside the output, to be averaged from there. With the views of each image.
    pub(super) fn predict_into(&self, task: &Task<'_>, output: &Output) -> Result<(Vec<Kept>, usize), CommandError> {
        let ready = self.all_ready(task)?;
        let views = most_views(&ready).len();
        let mut kept = Vec::with_capacity(ready.len());
        for (index, Ready { member, weight, sight, calibration }) in ready.into_iter().enumerate() {
            let run = TrainedRun::open(&member.path, &self.arguments.weights)?;
            let part = run.predict_into(&output.part(index, self.runs.len()), task, &sight)?;
            let mut model = Kept { weight, part, calibration };
            if let (Some(scores), true) = (model.scores(task.dataset)?, self.runs.len() > 1) {
                note_score(run.folder.root(), &scores);
            }
            kept.push(model);
        }
        Ok((kept, views))
    }

    /// All of them, before hours are spent on the first.
    fn all_ready(&self, task: &Task<'_>) -> Result<Vec<Ready<'_>>, CommandError> {
        let asked = self.views(task)?;
        self.runs.iter().map(|member| self.ready(member, &asked)).collect()
    }

    /// The views that were asked for, with `auto` decided by the first model.
    fn views(&self, task: &Task<'_>) -> Result<ViewArguments, CommandError> {
        let arguments = self.arguments;
        let has_goal = arguments.target_time.is_some() || arguments.min_f1.is_some();
        match (self.is_auto, has_goal) {
            (true, _) => {}
            (false, false) => return Ok(arguments.views.clone()),
            (false, true) => {
                let message = "a time and a score choose a preset, but the views are given";
                let hint = "pass `--tta auto`, or leave `--target-time` and `--min-f1` out".to_owned();
                return Err(CommandError::wrong_request(message).with_hint(hint));
            }
        }
        let first = TrainedRun::open(&self.runs[0].path, &arguments.weights)?;
        let preset = choose_preset(&first, task, arguments)?;
        Ok(ViewArguments { tta: Some(preset.into()), ..arguments.views.clone() })
    }

    fn ready<'m>(&self, member: &'m Member, asked: &ViewArguments) -> Result<Ready<'m>, CommandError> {
        let arguments = self.arguments;
        let run = TrainedRun::open(&member.path, &arguments.weights)?;
        if run.weights.card.classes != self.classes {
            return Err(self.other_classes(&run));
        }
        let sight = run.sight(asked)?;
        let calibration = arguments.use_calibration.then(|| run.calibration(&sight)).transpose()?;
        let score = match arguments.weight_by_score {
            true => member.score(&run)?,
            false => 1.0,
        };
        Ok(Ready { member, weight: member.share * score, sight, calibration })
    }

    fn other_classes(&self, run: &TrainedRun) -> CommandError {
        let (first, other) = (self.runs[0].path.display(), run.folder.root().display());
        let message = format!("`{other}` was trained on other classes than `{first}`");
        let (expected, found) = (&self.classes, &run.weights.card.classes);
        let place = (0..expected.len().max(found.len())).find(|&place| expected.get(place) != found.get(place));
        let name = |classes: &[String], place: usize| match classes.get(place) {
            Some(class) => format!("`{class}`"),
            None => "missing".to_owned(),
        };
        let cause = place.map(|place| {
            let (expected, found) = (name(expected, place), name(found, place));
            format!("class {place} is {expected} in `{first}` and {found} in `{other}`")
        });
        CommandError::wrong_request(message)
            .with_causes(cause.into_iter().collect())
            .with_hint("average runs whose classes have the same names in the same order".to_owned())
    }
}

/// Where models differ in how many views they have, the most.
fn most_views<'r>(ready: &'r [Ready<'_>]) -> &'r [View] {
    ready.iter().map(|ready| &ready.sight.views[..]).max_by_key(|views| views.len()).unwrap_or_default()
}

impl Member {
    /// Macro-F1 on validation, above 0.
    fn score(&self, run: &TrainedRun) -> Result<f64, CommandError> {
        let of_run = || run.weights.card.progress.best.as_ref().map(|best| best.macro_f1);
        let score = self.fold_score.or_else(of_run).ok_or_else(|| {
            let message = format!("`{}` has no score on validation to weight it by", run.path.display());
            CommandError::wrong_request(message).with_hint("leave `--weight-by-score` out".to_owned())
        })?;
        Ok(score.max(f64::MIN_POSITIVE))
    }
}
