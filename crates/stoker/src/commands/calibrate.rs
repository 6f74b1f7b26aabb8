//! `calibrate`: a trained run or several, images that they were not trained on, a temperature.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::{RunFolder, write_atomically};
use data_pipeline::Dataset;
use inference::{
    CalibrationError, EnsembleCalibration, FittedCalibration, FittedTo, Merge, Prediction, View, WEIGHT_FOLDS, labelled,
};
use metrics::{Calibration, reliability_svg};

use crate::cli::{CalibrateArguments, Checkpoint, RunsArguments, ViewArguments, typed};
use crate::commands::next_step;
use crate::commands::predict::{Answers, HeldOut, Members, Sight, Task, TrainedRun};
use crate::error::CommandError;
use crate::run::checks::check_output_file;
use crate::run::compute::Compute;
use crate::run::data::train_and_validation;
use crate::run::listing::{Listing, check_same_validation};
use crate::run::recovery::Injection;
use crate::run::resolved::ResolvedConfig;
use crate::ui;

/// Fits the temperature of a run or of an ensemble, and keeps it beside the weights or where it is told to.
pub(crate) fn calibrate(arguments: &CalibrateArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let next = fit_and_keep(arguments, interrupt)?;
    ui::out(format_args!("\nnext, predict:\n  {next}"))
}

/// Fits and keeps it, prints what came of it, and returns the command that uses it.
pub(crate) fn fit_and_keep(
    arguments: &CalibrateArguments,
    interrupt: &Arc<AtomicBool>,
) -> Result<String, CommandError> {
    let members = Members::open(&arguments.runs)?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(arguments.runs.weights.device)?;
    let setting = Setting { arguments, compute, injection, interrupt };
    match members.only() {
        Some(run) => setting.calibrate_run(run),
        None => setting.calibrate_ensemble(&members),
    }
}

/// What is asked, and where it is computed.
struct Setting<'a> {
    arguments: &'a CalibrateArguments,
    compute: Compute,
    injection: Injection,
    interrupt: &'a Arc<AtomicBool>,
}

/// A temperature, where it is kept, and how it is told.
struct Fitted<'a> {
    calibration: &'a Calibration,
    /// Of each image.
    views: usize,
    /// What it was fitted to: `validation images`.
    images: &'static str,
    file: &'a Path,
    picture: &'a Path,
    /// How the runs are named on the command line.
    runs: String,
}

impl Setting<'_> {
    fn task<'t>(&'t self, dataset: &'t Arc<Dataset>) -> Task<'t> {
        Task { dataset, compute: &self.compute, injection: &self.injection, interrupt: self.interrupt }
    }

    /// Fits the temperature on the run's validation images, and before it the weights of the views where they are merged by those.
    fn calibrate_run(&self, run: &TrainedRun) -> Result<String, CommandError> {
        let asked = &self.arguments.views;
        let views = run.views(asked)?;
        let file = self.arguments.output.clone().unwrap_or_else(|| run.folder.calibration());
        check_output_file(&file, "--output", "calibration.json")?;
        let validation = Arc::new(validation_of(run)?);
        let task = self.task(&validation);
        let merge = match run.merge_rule(asked).without_weights() {
            Some(merge) => merge,
            None => weigh(run, &task, &views)?,
        };
        let sight = Sight { views, merge };
        let predictions = run.predict(&task, &sight, Answers::Held { later: 0 })?;
        let picture = self.picture(&run.folder);
        let calibration = fit(&validation, &predictions, &picture)?;
        let FittedTo { views, checkpoint, step } = run.fitted_to(&sight.views);
        let fitted = FittedCalibration { calibration, views, merge: sight.merge.name().to_owned(), checkpoint, step };
        fitted.write(&file).map_err(|error| failed(&error))?;
        let runs = format!("--run {}", run.folder.root().display());
        let (views, images) = (sight.views.len(), "validation images");
        self.report(&Fitted { calibration: &calibration, views, images, file: &file, picture: &picture, runs })
    }

    /// Fits one temperature to the mean of all models, on images that none of those that are asked was trained on.
    fn calibrate_ensemble(&self, members: &Members) -> Result<String, CommandError> {
        let asked = &self.arguments.views;
        let of_group = members.folder.as_ref();
        let part = self.named_part(of_group);
        let whole = of_group.filter(|_| part.is_none());
        let file = self.arguments.output.clone().or_else(|| whole.map(RunFolder::calibration)).ok_or_else(|| {
            let message = match part {
                Some(part) => format!("the calibration of `{}` is not that of all folds of its folder", part.display()),
                None => "the calibration of several runs belongs to none of their folders".to_owned(),
            };
            CommandError::wrong_request(message).with_hint("say where it goes: `--output both.json`".to_owned())
        })?;
        check_output_file(&file, "--output", "calibration.json")?;
        let sights = members.sights(asked, asked)?;
        let held_out = HeldOut::of(members)?;
        let predictions = held_out.predict(members, &self.task(&held_out.images), &sights)?.predictions;
        let picture = of_group.map_or_else(|| file.with_extension("svg"), |folder| self.picture(folder));
        let calibration = fit(&held_out.images, &predictions, &picture)?;
        let fitted = EnsembleCalibration { calibration, members: members.fitted(&sights)? };
        fitted.write(&file).map_err(|error| failed(&error))?;
        let runs = match (part, of_group) {
            (Some(part), _) => format!("--fold-results {}", part.display()),
            (None, Some(folder)) => format!("--fold-results {}", folder.fold_results().display()),
            (None, None) => members.paths().iter().map(|run| format!("--run {run}")).collect::<Vec<_>>().join(" "),
        };
        let views = sights.iter().map(|sight| sight.views.len()).max().unwrap_or(1);
        let images = if of_group.is_some() { "images out of fold" } else { "common validation images" };
        self.report(&Fitted { calibration: &calibration, views, images, file: &file, picture: &picture, runs })
    }

    /// The file of `--fold-results` where it is not the one that its folder has of all folds.
    fn named_part(&self, group: Option<&RunFolder>) -> Option<&Path> {
        let named = self.arguments.runs.fold_results.as_deref().filter(|path| path.is_file())?;
        let same = |whole: &RunFolder| fs::canonicalize(whole.fold_results()).ok() == fs::canonicalize(named).ok();
        (!group.is_some_and(same)).then_some(named)
    }

    /// Beside the temperature, where that is told where to go.
    fn picture(&self, folder: &RunFolder) -> PathBuf {
        let named = self.arguments.output.as_ref().map(|file| file.with_extension("svg"));
        named.unwrap_or_else(|| folder.reliability())
    }

    /// Prints what came of it, and returns the command that uses it.
    fn report(&self, fitted: &Fitted<'_>) -> Result<String, CommandError> {
        let Calibration { temperature, samples, before, after } = *fitted.calibration;
        ui::out(format_args!("{:<24} {:>8} {:>12} {:>8}", "", "ECE", "NLL, nats", "Brier"))?;
        for (name, scores) in [("as trained", before), ("calibrated", after)] {
            let (error, loss) = (scores.expected_error, scores.negative_log_likelihood);
            ui::out(format_args!("{name:<24} {error:>8.4} {loss:>12.4} {:>8.4}", scores.brier))?;
        }
        let seen = if fitted.views == 1 { "one view".to_owned() } else { format!("{} views", fitted.views) };
        let (temperature, images) = (short_temperature(temperature), fitted.images);
        ui::out(format_args!("temperature {temperature}, fitted on {samples} {images} in {seen} each"))?;
        if fitted.calibration.is_at_bound() {
            ui::note(
                "note: the search ended at its bound: the further, the better, as where all images are predicted right, or all wrong; \
                 more images would show how sure the model may be",
            );
        }
        let (file, picture) = (fitted.file.display(), fitted.picture.display());
        ui::out(format_args!("written to {file} and {picture}"))?;
        let use_it = match &self.arguments.output {
            Some(_) => format!("--calibration {file}"),
            None => "--use-calibration".to_owned(),
        };
        let flags = flags(&self.arguments.views, &self.arguments.runs);
        Ok(next_step(&format!("predict {} --input FOLDER{flags} {use_it}", fitted.runs)))
    }
}

/// The temperature for labelled predictions, and its picture.
fn fit(dataset: &Dataset, predictions: &[Prediction], picture: &Path) -> Result<Calibration, CommandError> {
    let samples = labelled(dataset, predictions).map_err(|error| failed(&error))?;
    let calibration = samples.fit_temperature().expect("there is a sample: `labelled` refuses to give none");
    let svg = reliability_svg(&calibration, &samples.reliability(1.0), &samples.reliability(calibration.temperature));
    write_atomically(picture, svg.as_bytes())
        .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
    Ok(calibration)
}

/// A temperature in as many digits as it has use for.
pub(crate) fn short_temperature(temperature: f64) -> String {
    match (0.01..10_000.0).contains(&temperature) {
        true => format!("{temperature:.4}"),
        false => format!("{temperature:.1e}"),
    }
}

/// The images that the run was validated on, with the classes of its weights.
///
/// # Errors
/// Images that cannot be opened, and others than the run was validated on: it may have been trained on them.
pub(crate) fn validation_of(run: &TrainedRun) -> Result<Dataset, CommandError> {
    let resolved = ResolvedConfig::new(run.config.clone(), &run.folder.resolved_config())?;
    let (train, validation) = train_and_validation(&resolved)?;
    if validation.classes != run.card.classes {
        return Err(other_classes(run, validation.classes.len()));
    }
    check_same_validation(&run.folder, &Listing::of(&train, &validation))?;
    Ok(validation)
}

/// Learns the weights of the views and writes them down.
fn weigh(run: &TrainedRun, task: &Task<'_>, views: &[View]) -> Result<Merge, CommandError> {
    let likelihoods = run.view_likelihoods(task, views)?;
    let images = task.dataset.len();
    let fitted = likelihoods.fit(run.fitted_to(views));
    let fitted = fitted.ok_or_else(|| failed(&CalibrationError::NoLabels { images }))?;
    fitted.write(&run.folder.view_weights()).map_err(|error| failed(&error))?;
    ui::out(format_args!("{:<34} {:>8}", "view", "weight"))?;
    for (view, weight) in views.iter().zip(&fitted.weights) {
        ui::out(format_args!("{:<34} {weight:>8.4}", view.to_string()))?;
    }
    ui::out(format_args!(
        "NLL of {} images: mean {:.4}, weighted {:.4}; weighted on images held out, a {WEIGHT_FOLDS}th at a time: {:.4}",
        fitted.images, fitted.mean_loss, fitted.weighted_loss, fitted.held_out_loss
    ))?;
    if !fitted.learned {
        ui::note("note: learned weights do no better than the mean on images held out: all weights are alike");
    }
    ui::out(format_args!("written to {}\n", run.folder.view_weights().display()))?;
    Ok(Merge::Weighted(fitted.weights))
}

/// How the views were asked for, to be typed again.
fn flags(asked: &ViewArguments, runs: &RunsArguments) -> String {
    let checkpoint = runs.weights.checkpoint;
    let checkpoint = (checkpoint != Checkpoint::Best).then(|| format!(" --checkpoint {}", typed(checkpoint)));
    let tta = asked.tta.map(|tta| format!(" --tta {}", typed(tta)));
    let views: Vec<String> = asked.views.iter().map(ToString::to_string).collect();
    let views = (!views.is_empty()).then(|| format!(" --views {}", views.join(",")));
    let merge = asked.merge.map(|merge| format!(" --merge {}", typed(merge)));
    let by_score = runs.weight_by_score.then(|| " --weight-by-score".to_owned());
    [checkpoint, by_score, tta, views, merge].into_iter().flatten().collect()
}

fn other_classes(run: &TrainedRun, found: usize) -> CommandError {
    let expected = run.card.classes.len();
    let message =
        format!("the run's validation images have {found} classes that are not the {expected} of its weights");
    CommandError::wrong_request(message)
        .with_hint("the data set was changed since training: put it back, or train again".to_owned())
}

/// What went wrong with a calibration, and what to do.
pub(crate) fn failed(error: &CalibrationError) -> CommandError {
    match error {
        CalibrationError::File(error) => CommandError::from_run(error).with_hint(error.hint()),
        CalibrationError::Missing { path }
        | CalibrationError::Malformed { path, .. }
        | CalibrationError::Other { path, .. } => {
            let run = path.parent().unwrap_or(path).display();
            let is_weights = path.file_name().is_some_and(|name| name == "view_weights.json");
            let merge = if is_weights { " --merge weighted" } else { "" };
            let command = next_step(&format!("calibrate --run {run}{merge}"));
            let hint = format!("fit it with the same `--tta` and `--checkpoint`: {command}");
            CommandError::from_request(error).with_hint(hint)
        }
        _ => CommandError::from_run(error),
    }
}
