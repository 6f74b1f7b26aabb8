//! `calibrate`: a trained run, its validation images, a temperature.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::{RunFolder, write_atomically};
use clap::ValueEnum;
use data_pipeline::Dataset;
use inference::{CalibrationError, FittedCalibration, FittedTo, Merge, View, WEIGHT_FOLDS, labelled};
use metrics::{Calibration, reliability_svg};

use crate::cli::{CalibrateArguments, ViewArguments};
use crate::commands::next_step;
use crate::commands::predict::{Sight, Task, TrainedRun};
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::data::train_and_validation;
use crate::run::recovery::Injection;
use crate::run::resolved::ResolvedConfig;
use crate::run::weights::refused;
use crate::ui;

/// Fits the temperature on the run's validation images, and before it the weights of the views where they are merged by those, and keeps
/// both in the run folder.
pub(crate) fn calibrate(arguments: &CalibrateArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    fit(arguments, interrupt)?;
    let asked = flags(&arguments.views);
    let run = RunFolder::open(&arguments.run.run).map_err(|error| refused(&error))?;
    let run = run.root().display();
    let command = next_step(&format!("predict --run {run} --input FOLDER{asked} --use-calibration"));
    ui::out(format_args!("\nnext, predict:\n  {command}"))
}

/// Fits and keeps it, and prints what came of it.
pub(crate) fn fit(arguments: &CalibrateArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let run = TrainedRun::open(&arguments.run.run, &arguments.run.weights)?;
    let views = run.views(&arguments.views)?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(arguments.run.weights.device)?;
    let validation = Arc::new(validation_of(&run)?);
    let task = Task { dataset: &validation, compute: &compute, injection: &injection, interrupt };
    let merge = match run.merge_rule(&arguments.views).without_weights() {
        Some(merge) => merge,
        None => weigh(&run, &task, &views)?,
    };
    let sight = Sight { views, merge };
    let predictions = run.predict(&task, &sight)?;
    let samples = labelled(&validation, &predictions).map_err(|error| failed(&error))?;
    let calibration = samples.fit_temperature().expect("there is a sample: `labelled` refuses to give none");
    let FittedTo { views, checkpoint, step } = run.fitted_to(&sight.views);
    let fitted = FittedCalibration { calibration, views, merge: sight.merge.name().to_owned(), checkpoint, step };
    let picture =
        reliability_svg(&calibration, &samples.reliability(1.0), &samples.reliability(calibration.temperature));
    write_atomically(&run.folder.reliability(), picture.as_bytes())
        .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
    fitted.write(&run.folder.calibration()).map_err(|error| failed(&error))?;
    report(&run, &fitted)
}

/// The images that the run was validated on, with the classes of its weights.
pub(crate) fn validation_of(run: &TrainedRun) -> Result<Dataset, CommandError> {
    let resolved = ResolvedConfig::new(run.config.clone(), &run.folder.resolved_config());
    let (_, validation) = train_and_validation(&resolved)?;
    match validation.classes == run.weights.card.classes {
        true => Ok(validation),
        false => Err(other_classes(run, validation.classes.len())),
    }
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

fn report(run: &TrainedRun, fitted: &FittedCalibration) -> Result<(), CommandError> {
    let Calibration { temperature, samples, before, after } = fitted.calibration;
    ui::out(format_args!("{:<24} {:>8} {:>12} {:>8}", "", "ECE", "NLL, nats", "Brier"))?;
    for (name, scores) in [("as trained", before), ("calibrated", after)] {
        let (error, loss) = (scores.expected_error, scores.negative_log_likelihood);
        ui::out(format_args!("{name:<24} {error:>8.4} {loss:>12.4} {:>8.4}", scores.brier))?;
    }
    let views = fitted.views.len();
    let seen = if views == 1 { "one view".to_owned() } else { format!("{views} views") };
    ui::out(format_args!("temperature {temperature:.4}, fitted on {samples} validation images in {seen} each"))?;
    let (file, picture) = (run.folder.calibration(), run.folder.reliability());
    ui::out(format_args!("written to {} and {}", file.display(), picture.display()))
}

/// How the views were asked for, to be typed again.
fn flags(asked: &ViewArguments) -> String {
    let tta = asked.tta.map(|tta| format!(" --tta {}", typed(tta)));
    let views: Vec<String> = asked.views.iter().map(ToString::to_string).collect();
    let views = (!views.is_empty()).then(|| format!(" --views {}", views.join(",")));
    let merge = asked.merge.map(|merge| format!(" --merge {}", typed(merge)));
    [tta, views, merge].into_iter().flatten().collect()
}

/// A value of a flag, as it is typed.
pub(crate) fn typed(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn other_classes(run: &TrainedRun, found: usize) -> CommandError {
    let expected = run.weights.card.classes.len();
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
