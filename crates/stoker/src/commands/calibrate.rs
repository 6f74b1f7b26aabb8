//! `calibrate`: a trained run, its validation images, a temperature.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::write_atomically;
use inference::{CalibrationError, FittedCalibration, labelled};
use metrics::{Calibration, reliability_svg};

use crate::cli::CalibrateArguments;
use crate::commands::next_step;
use crate::commands::predict::{Task, TrainedRun, preset};
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::data::train_and_validation;
use crate::run::recovery::Injection;
use crate::run::resolved::ResolvedConfig;
use crate::ui;

/// Fits the temperature on the run's validation images, and keeps it in the run folder.
pub(crate) fn calibrate(arguments: &CalibrateArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let run = TrainedRun::open(&arguments.run)?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(arguments.run.device)?;
    let resolved = ResolvedConfig::new(run.config.clone(), &run.folder.resolved_config());
    let (_, validation) = train_and_validation(&resolved)?;
    if validation.classes != run.weights.card.classes {
        return Err(other_classes(&run, validation.classes.len()));
    }
    let validation = Arc::new(validation);
    let views = preset(arguments.tta.unwrap_or(run.config.predict.tta));
    let predictions = run.predict(&Task {
        dataset: &validation,
        preset: views,
        compute: &compute,
        injection: &injection,
        interrupt,
    })?;
    let samples = labelled(&validation, &predictions).map_err(|error| failed(&error))?;
    let calibration = samples.fit_temperature().expect("there is a sample: `labelled` refuses to give none");
    let fitted = run.calibration_of(calibration, views);
    let picture =
        reliability_svg(&calibration, &samples.reliability(1.0), &samples.reliability(calibration.temperature));
    write_atomically(&run.folder.reliability(), picture.as_bytes())
        .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
    fitted.write(&run.folder.calibration()).map_err(|error| failed(&error))?;
    report(&run, &fitted, arguments)
}

fn report(run: &TrainedRun, fitted: &FittedCalibration, arguments: &CalibrateArguments) -> Result<(), CommandError> {
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
    ui::out(format_args!("written to {} and {}", file.display(), picture.display()))?;
    let tta = arguments.tta.map_or(String::new(), |tta| format!(" --tta {}", preset(tta)));
    let run = run.folder.root().display();
    let command = next_step(&format!("predict --run {run} --input FOLDER{tta} --use-calibration"));
    ui::out(format_args!("\nnext, predict:\n  {command}"))
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
            let command = next_step(&format!("calibrate --run {run}"));
            let hint = format!("fit it with the same `--tta` and `--checkpoint`: {command}");
            CommandError::from_request(error).with_hint(hint)
        }
        _ => CommandError::from_run(error),
    }
}
