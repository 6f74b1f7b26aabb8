//! `calibrate`: a trained run or several, images that they were not trained on, a temperature.

mod files;

use std::iter;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::{shell_word, write_atomically};
use data_pipeline::Dataset;
use inference::{
    CalibrationError, EnsembleCalibration, FittedCalibration, FittedTo, Merge, Prediction, View, WEIGHT_FOLDS, labelled,
};
use metrics::{Calibration, reliability_svg};

use self::files::Files;
use crate::cli::{CalibrateArguments, Checkpoint, ViewArguments, typed};
use crate::commands::next_step;
use crate::commands::predict::{Answers, HeldOut, Inputs, Members, Sight, Task, TrainedRun};
use crate::error::CommandError;
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
    files: &'a Files,
    /// How the runs are named on the command line.
    runs: String,
}

impl Setting<'_> {
    fn task<'t>(&'t self, dataset: &'t Arc<Dataset>) -> Task<'t> {
        Task { dataset, compute: &self.compute, injection: &self.injection, interrupt: self.interrupt }
    }

    /// What is read beside what lies in run folders.
    fn inputs<'a>(&'a self, runs: impl Iterator<Item = &'a TrainedRun>, images: &'a Dataset) -> Inputs<'a> {
        let fold_results = self.arguments.runs.fold_results.as_deref();
        Inputs::of_training(runs).with("the file of fold results", fold_results).with_images(images)
    }

    /// Fits the temperature on the run's validation images, and before it the weights of the views where they are merged by those.
    fn calibrate_run(&self, run: &TrainedRun) -> Result<String, CommandError> {
        let asked = &self.arguments.views;
        let views = run.views(asked)?;
        let files = Files::find(self.arguments.output.as_deref(), Some(&run.folder))?.expect("a run has a folder");
        let validation = Arc::new(validation_of(run)?);
        files.check(&self.inputs(iter::once(run), &validation))?;
        let task = self.task(&validation);
        let merge = match run.merge_rule(asked).without_weights() {
            Some(merge) => merge,
            None => weigh(run, &task, &views)?,
        };
        let sight = Sight { views, merge };
        let predictions = run.predict(&task, &sight, Answers::Held { later: 0 })?;
        let calibration = fit(&validation, &predictions, &files.picture)?;
        let FittedTo { views, checkpoint, step, weights } = run.fitted_to(&sight.views)?;
        let merge = sight.merge.name().to_owned();
        let fitted = FittedCalibration { calibration, views, merge, checkpoint, step, weights };
        fitted.write(&files.temperature).map_err(|error| failed(&error))?;
        let runs = format!("--run {}", shell_word(run.folder.root()));
        let (views, images) = (sight.views.len(), "validation images");
        self.report(&Fitted { calibration: &calibration, views, images, files: &files, runs })
    }

    /// Fits one temperature to the mean of all models, on images that none of those that are asked was trained on.
    fn calibrate_ensemble(&self, members: &Members) -> Result<String, CommandError> {
        let asked = &self.arguments.views;
        let (part, of_group) = (members.part(), members.folder.as_ref());
        let files = Files::find(self.arguments.output.as_deref(), of_group.filter(|_| part.is_none()))?;
        let files = files.ok_or_else(|| {
            let message = match part {
                Some(part) => format!("the calibration of `{}` is not that of all folds of its folder", part.display()),
                None => "the calibration of several runs belongs to none of their folders".to_owned(),
            };
            CommandError::wrong_request(message).with_hint("say where it goes: `--output both.json`".to_owned())
        })?;
        let sights = members.sights(asked, asked)?;
        let held_out = HeldOut::of(members)?;
        files.check(&self.inputs(members.runs(), &held_out.images))?;
        let predictions = held_out.predict(members, &self.task(&held_out.images), &sights)?.predictions;
        let calibration = fit(&held_out.images, &predictions, &files.picture)?;
        let fitted = EnsembleCalibration { calibration, members: members.fitted(&sights)? };
        fitted.write(&files.temperature).map_err(|error| failed(&error))?;
        let runs = match of_group.filter(|_| part.is_none()) {
            Some(folder) => format!("--fold-results {}", shell_word(folder.fold_results())),
            None => members.typed(),
        };
        let views = sights.iter().map(|sight| sight.views.len()).max().unwrap_or(1);
        let images = if of_group.is_some() { "images out of fold" } else { "common validation images" };
        self.report(&Fitted { calibration: &calibration, views, images, files: &files, runs })
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
        let (file, picture) = (fitted.files.temperature.display(), fitted.files.picture.display());
        ui::out(format_args!("written to {file} and {picture}"))?;
        let use_it = match &self.arguments.output {
            Some(_) => format!("--calibration {}", shell_word(&fitted.files.temperature)),
            None => "--use-calibration".to_owned(),
        };
        let runs = &self.arguments.runs;
        let flags = flags(&self.arguments.views, runs.weights.checkpoint, runs.weight_by_score);
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
    let fitted = likelihoods.fit(run.fitted_to(views)?);
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

/// The command that fits it: to runs that are named by their flags, seen as [`flags`] say, into `output` where it does not belong to their folder.
pub(crate) fn command(runs: &str, flags: &str, output: Option<&Path>) -> String {
    let output = output.map_or_else(String::new, |file| format!(" --output {}", shell_word(file)));
    next_step(&format!("calibrate {runs}{flags}{output}"))
}

/// What was asked for of the weights and the views, to be typed again.
pub(crate) fn flags(asked: &ViewArguments, checkpoint: Checkpoint, weight_by_score: bool) -> String {
    let checkpoint = (checkpoint != Checkpoint::Best).then(|| format!(" --checkpoint {}", typed(checkpoint)));
    let tta = asked.tta.map(|tta| format!(" --tta {}", typed(tta)));
    let views: Vec<String> = asked.views.iter().map(ToString::to_string).collect();
    let views = (!views.is_empty()).then(|| format!(" --views {}", views.join(",")));
    let merge = asked.merge.map(|merge| format!(" --merge {}", typed(merge)));
    let by_score = weight_by_score.then(|| " --weight-by-score".to_owned());
    [checkpoint, by_score, tta, views, merge].into_iter().flatten().collect()
}

fn other_classes(run: &TrainedRun, found: usize) -> CommandError {
    let expected = run.card.classes.len();
    let message =
        format!("the run's validation images have {found} classes that are not the {expected} of its weights");
    CommandError::wrong_request(message)
        .with_hint("the data set was changed since training: put it back, or train again".to_owned())
}

/// A file of something fitted that does not serve. `remark` follows where it is not there; `hint` is a way out.
pub(crate) fn unusable(error: &CalibrationError, remark: &str, hint: impl FnOnce() -> String) -> CommandError {
    match error {
        CalibrationError::Missing { .. } => {
            let refused = CommandError::from_request(error).with_hint(hint());
            CommandError { message: format!("{}{remark}", refused.message), ..refused }
        }
        CalibrationError::Malformed { .. } | CalibrationError::Other { .. } => {
            CommandError::from_request(error).with_hint(hint())
        }
        _ => failed(error),
    }
}

/// Says of a file from before weights were named in it that it is taken at its word.
pub(crate) fn note_unnamed_weights(path: &Path) {
    ui::note(format_args!(
        "note: `{}` does not name the weights that it was fitted to, as older files do not: of those their step alone was compared",
        path.display()
    ));
}

fn failed(error: &CalibrationError) -> CommandError {
    match error {
        CalibrationError::File(error) => CommandError::from_run(error).with_hint(error.hint()),
        _ => CommandError::from_run(error),
    }
}
