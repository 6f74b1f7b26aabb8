//! What predicts: one run, several runs, or the runs of all folds.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::{CheckpointError, RunFolder, shell_word};
use inference::{Averaging, FittedMember, Prediction, Preset, View, score};

use super::Task;
use super::batch::Answers;
use super::output::Output;
use super::parts::{Kept, Place, note_score};
use super::temperature::temperature;
use super::together::{Waiting, complete_next};
use super::trained_run::{Sight, TrainedRun, request};
use crate::cli::{PredictorArguments, RunsArguments, ViewArguments, WeightsArguments};
use crate::commands::gpu::choose_preset;
use crate::commands::scores::is_augmented;
use crate::config::{NamedView, UserConfig};
use crate::error::CommandError;
use crate::run::fold_results::{FoldResult, FoldResults};
use crate::ui;

/// What predicts: one model, or several whose probabilities are averaged.
pub(crate) struct Members {
    /// One at least, all of the same classes.
    pub(super) all: Vec<Member>,
    /// How they were named, and whether they count by their scores.
    asked: RunsArguments,
    /// Where what belongs to all of them goes: the run, or the folder of all folds; none where several runs are named.
    pub(crate) folder: Option<RunFolder>,
    is_one_run: bool,
}

/// One model of an ensemble.
pub(super) struct Member {
    /// As it was named.
    path: PathBuf,
    pub(super) run: TrainedRun,
    /// The runs that were named are numbered; the folds of one share its number.
    pub(super) unit: usize,
    /// Macro-F1 on validation where folds are weighted by it, which the results of the folds say.
    fold_score: Option<f64>,
    /// What it counts for beside others with its score.
    share: f64,
}

/// A run that is named, or one fold of it.
struct Named {
    path: PathBuf,
    fold_score: Option<f64>,
    share: f64,
}

/// A member that was found to fit, before hours are spent.
pub(super) struct Ready<'m> {
    pub(super) member: &'m Member,
    pub(super) weight: f64,
    pub(super) sight: Sight,
}

/// What an ensemble says.
pub(crate) struct Predicted {
    /// One an image, in their order.
    pub(crate) predictions: Vec<Prediction>,
    /// Views of each image; the most where models differ in it.
    pub(crate) views: Vec<View>,
    /// Of the mean of all models, where it is calibrated.
    pub(crate) temperature: Option<f64>,
}

/// The models' predictions of all images, beside the output.
pub(super) struct InParts {
    pub(super) models: Vec<Kept>,
    pub(super) place: Place,
    /// As [`Predicted::views`].
    pub(super) views: Vec<View>,
    pub(super) temperature: Option<f64>,
}

impl Members {
    /// The run, the runs, or the runs of all folds.
    pub(crate) fn open(asked: &RunsArguments) -> Result<Self, CommandError> {
        let (units, folder, is_one_run) = match (&asked.fold_results, &asked.runs[..]) {
            (Some(path), _) => {
                let (group, folds) = folds_of(path)?;
                (vec![folds], Some(group), false)
            }
            (None, [run]) => {
                let named = runs_of(run)?;
                let folder = RunFolder::open(run).map_err(|error| request(&error))?;
                (vec![named], Some(folder), !is_group(run))
            }
            (None, runs) => (runs.iter().map(|run| runs_of(run)).collect::<Result<_, _>>()?, None, false),
        };
        let mut all: Vec<Member> = Vec::new();
        for (unit, named) in units.into_iter().enumerate() {
            for named in named {
                let member = Member::open(named, unit, &asked.weights)?;
                all.first().map_or(Ok(()), |first| first.check_classes(&member))?;
                all.push(member);
            }
        }
        Ok(Self { all, asked: asked.clone(), folder, is_one_run })
    }

    /// The only run, where there is no ensemble.
    pub(crate) fn only(&self) -> Option<&TrainedRun> {
        self.is_one_run.then(|| &self.all[0].run)
    }

    /// The runs in their order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &TrainedRun> {
        self.all.iter().map(|member| &member.run)
    }

    /// Names of the classes.
    pub(crate) fn classes(&self) -> &[String] {
        &self.all[0].run.card.classes
    }

    /// Of the first run.
    pub(crate) fn config(&self) -> &UserConfig {
        &self.all[0].run.config
    }

    /// The run folders, as they were named.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.all.iter().map(|member| member.path.display().to_string()).collect()
    }

    /// The flags that name them, as they were typed.
    pub(crate) fn typed(&self) -> String {
        if let Some(path) = &self.asked.fold_results {
            return format!("--fold-results {}", shell_word(path));
        }
        let runs: Vec<String> = self.asked.runs.iter().map(|run| format!("--run {}", shell_word(run))).collect();
        runs.join(" ")
    }

    /// The file of `--fold-results`, where it is not the one that its folder has of all folds.
    pub(crate) fn part(&self) -> Option<&Path> {
        let named = self.asked.fold_results.as_deref().filter(|path| path.is_file())?;
        let same = |whole: &RunFolder| fs::canonicalize(whole.fold_results()).ok() == fs::canonicalize(named).ok();
        (!self.folder.as_ref().is_some_and(same)).then_some(named)
    }

    /// What each of them counts for; only their proportions matter.
    pub(crate) fn weights(&self) -> Result<Vec<f64>, CommandError> {
        let score = |member: &Member| if self.asked.weight_by_score { member.score() } else { Ok(1.0) };
        self.all.iter().map(|member| Ok(member.share * score(member)?)).collect()
    }

    /// How each of them looks at an image. `chosen` is for those whose views are left open.
    pub(crate) fn sights(&self, asked: &ViewArguments, chosen: &ViewArguments) -> Result<Vec<Sight>, CommandError> {
        let asked_of = |run: &TrainedRun| if run.is_auto(asked) { chosen.clone() } else { asked.clone() };
        self.runs().map(|run| run.sight(&asked_of(run))).collect()
    }

    /// What a temperature that is fitted to all of them, seen so, holds for.
    pub(crate) fn fitted(&self, sights: &[Sight]) -> Result<Vec<FittedMember>, CommandError> {
        let weights = self.weights()?;
        let all: f64 = weights.iter().sum();
        let of = |((member, sight), weight): ((&Member, &Sight), f64)| {
            Ok(FittedMember {
                run: member.path.display().to_string(),
                weights: member.run.fingerprint()?,
                views: sight.views.iter().map(ToString::to_string).collect(),
                merge: sight.merge_by_name(),
                share: weight / all,
            })
        };
        self.all.iter().zip(sights).zip(weights).map(of).collect()
    }

    /// Predicts with one model after the other, each in its own size and views, and averages.
    pub(crate) fn predict(&self, task: &Task<'_>, asked: &PredictorArguments) -> Result<Predicted, CommandError> {
        let ready = self.ready(task, asked, None)?;
        let temperature = temperature(self, asked, &ready)?;
        let views = most_views(&ready).to_vec();
        let mut averaging = Averaging::default();
        for (place, Ready { member, weight, sight }) in ready.iter().enumerate() {
            // Sums of all answers in twice the precision are held beside those of the next model.
            let later = if place == 0 && ready.len() > 1 { 2 } else { 0 };
            let predictions = member.run.predict(task, sight, Answers::Held { later })?;
            if let (Some(scores), true) = (score(task.dataset, &predictions), ready.len() > 1) {
                note_score(member.run.folder.root(), &scores);
            }
            averaging.add(*weight, predictions).map_err(|error| CommandError::from_run(&error))?;
        }
        let mut predictions = averaging.finish().map_err(|error| CommandError::from_run(&error))?;
        if let Some(temperature) = temperature {
            inference::temper_merged(&mut predictions, temperature);
        }
        Ok(Predicted { predictions, views, temperature })
    }

    /// Predicts with all models, each into a file beside the output, to be averaged from there.
    pub(super) fn predict_into(
        &self,
        task: &Task<'_>,
        asked: &PredictorArguments,
        output: &Output,
    ) -> Result<InParts, CommandError> {
        let place = Place::find(output, self.all.len())?;
        let ready = self.ready(task, asked, place.views())?;
        let temperature = temperature(self, asked, &ready)?;
        place.make()?;
        let views = most_views(&ready).to_vec();
        let mut waiting = VecDeque::with_capacity(ready.len());
        for (index, Ready { member, weight, sight }) in ready.into_iter().enumerate() {
            let part = member.run.part(place.of(index), task, &sight)?;
            waiting.push_back(Waiting { run: &member.run, weight, sight, part });
        }
        let mut models: Vec<Kept> = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            for mut model in complete_next(&mut waiting, task, &place)? {
                if let (Some(scores), true) = (model.scores(task.dataset)?, self.all.len() > 1) {
                    note_score(self.all[models.len()].run.folder.root(), &scores);
                }
                models.push(model);
            }
        }
        Ok(InParts { models, place, views, temperature })
    }

    /// All of them, before hours are spent on the first. `begun` are the views of predictions that are gone on with: a measurement may choose
    /// others each time.
    fn ready(
        &self,
        task: &Task<'_>,
        asked: &PredictorArguments,
        begun: Option<Vec<View>>,
    ) -> Result<Vec<Ready<'_>>, CommandError> {
        let chosen = self.chosen(task, asked, begun)?;
        let sights = self.sights(&asked.views, &chosen)?;
        let members = self.all.iter().zip(self.weights()?).zip(sights);
        Ok(members.map(|((member, weight), sight)| Ready { member, weight, sight }).collect())
    }

    /// The views that were asked for, with what is left open decided.
    fn chosen(
        &self,
        task: &Task<'_>,
        asked: &PredictorArguments,
        begun: Option<Vec<View>>,
    ) -> Result<ViewArguments, CommandError> {
        let is_open = self.runs().any(|run| run.is_auto(&asked.views));
        let has_goal = asked.target_time.is_some() || asked.min_f1.is_some();
        match (is_open, has_goal) {
            (true, _) => {}
            (false, false) => return Ok(asked.views.clone()),
            (false, true) => {
                let message = "a time and a score choose a preset, but the views are given";
                let hint = "pass `--tta auto`, or leave `--target-time` and `--min-f1` out".to_owned();
                return Err(CommandError::wrong_request(message).with_hint(hint));
            }
        }
        if let Some(views) = begun {
            let names: Vec<String> = views.iter().map(ToString::to_string).collect();
            ui::note(format_args!("the views stay as they were begun: {}", names.join(", ")));
            let views = views.into_iter().map(NamedView).collect();
            return Ok(ViewArguments { tta: None, views, merge: asked.views.merge });
        }
        let preset = choose_preset(self, task, asked)?;
        Ok(of_preset(preset, &asked.views))
    }
}

/// A preset in the place of what was asked, merged in the same way.
pub(crate) fn of_preset(preset: Preset, asked: &ViewArguments) -> ViewArguments {
    ViewArguments { tta: Some(preset.into()), views: Vec::new(), merge: asked.merge }
}

/// Where models differ in how many views they have, the most; of one view each, the one that is not the image as it is.
fn most_views<'r>(ready: &'r [Ready<'_>]) -> &'r [View] {
    let views = ready.iter().map(|ready| &ready.sight.views[..]);
    views.max_by_key(|views| (views.len(), is_augmented(views))).unwrap_or_default()
}

/// A run, or the runs of its folds where it is a folder of those.
fn runs_of(run: &Path) -> Result<Vec<Named>, CommandError> {
    match is_group(run) {
        true => folds_of(run).map(|(_, folds)| folds),
        false => Ok(vec![Named { path: run.to_owned(), fold_score: None, share: 1.0 }]),
    }
}

fn is_group(run: &Path) -> bool {
    run.join("fold_results.yaml").exists()
}

/// The folder of all folds, and those that are done. `path` is a file of fold results, whatever its name, or the folder of all folds.
fn folds_of(path: &Path) -> Result<(RunFolder, Vec<Named>), CommandError> {
    if !path.exists() {
        return Err(request(&CheckpointError::Missing { path: path.to_owned() }));
    }
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (group, results) = match path.is_dir() {
        true => {
            let group = RunFolder::open(folder).map_err(|error| request(&error))?;
            let results = FoldResults::read(&group)?;
            (group, results)
        }
        false => {
            let results = FoldResults::read_file(path)?;
            (RunFolder::open(folder).map_err(|error| request(&error))?, Some(results))
        }
    };
    let results = results.filter(|results| !results.results.is_empty()).ok_or_else(|| {
        let message = format!("`{}` does not exist", group.fold_results().display());
        CommandError::wrong_request(message).with_hint("it is written when a fold is done: `stoker train`".to_owned())
    })?;
    let done = results.results.len();
    if done < results.folds {
        ui::note(format_args!("note: {done} of {} folds are done: the others have no say", results.folds));
    }
    let named = |fold: FoldResult| Named {
        path: group.root().join(&fold.run),
        fold_score: Some(fold.scores.macro_f1),
        share: 1.0 / done as f64,
    };
    let folds = results.results.into_iter().map(named).collect();
    Ok((group, folds))
}

impl Member {
    fn open(named: Named, unit: usize, weights: &WeightsArguments) -> Result<Self, CommandError> {
        let Named { path, fold_score, share } = named;
        let run = TrainedRun::open(&path, weights)?;
        Ok(Self { path, run, unit, fold_score, share })
    }

    /// Macro-F1 on validation, above 0.
    fn score(&self) -> Result<f64, CommandError> {
        let of_run = || self.run.card.progress.best.as_ref().map(|best| best.macro_f1);
        let score = self.fold_score.or_else(of_run).ok_or_else(|| {
            let message = format!("`{}` has no score on validation to weight it by", self.path.display());
            CommandError::wrong_request(message).with_hint("leave `--weight-by-score` out".to_owned())
        })?;
        Ok(score.max(f64::MIN_POSITIVE))
    }

    /// Refuses another one of other classes.
    fn check_classes(&self, other: &Self) -> Result<(), CommandError> {
        let (expected, found) = (&self.run.card.classes, &other.run.card.classes);
        if expected == found {
            return Ok(());
        }
        let (first, other) = (self.path.display(), other.run.folder.root().display());
        let message = format!("`{other}` was trained on other classes than `{first}`");
        let place = (0..expected.len().max(found.len())).find(|&place| expected.get(place) != found.get(place));
        let name = |classes: &[String], place: usize| match classes.get(place) {
            Some(class) => format!("`{class}`"),
            None => "missing".to_owned(),
        };
        let cause = place.map(|place| {
            let (expected, found) = (name(expected, place), name(found, place));
            format!("class {place} is {expected} in `{first}` and {found} in `{other}`")
        });
        Err(CommandError::wrong_request(message)
            .with_causes(cause.into_iter().collect())
            .with_hint("average runs whose classes have the same names in the same order".to_owned()))
    }
}
