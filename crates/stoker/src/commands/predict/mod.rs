//! `predict`: a trained run, images, a table.

mod members;
mod output;
mod parts;
mod trained_run;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data_pipeline::Dataset;
use inference::Preset;

use self::members::members;
use self::output::Output;
use self::parts::{Summary, write_table};
pub(crate) use self::trained_run::{TrainedRun, prediction_precision};
use crate::cli::PredictArguments;
use crate::config::Tta;
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::recovery::Injection;
use crate::ui;

/// Classifies images and writes the table.
pub(crate) fn predict(arguments: &PredictArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let members = members(arguments)?;
    let run = TrainedRun::open(&members.runs[0])?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(arguments.run.device)?;
    let classes = &run.weights.card.classes;
    let dataset = Dataset::open_for_prediction(&arguments.input, classes)
        .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    let tta = arguments.tta.unwrap_or(run.config.predict.tta);
    let output = Output::resolve(&arguments.output, &run.config, &members.folder(&run), classes)?;
    let dataset = Arc::new(output.arrange(dataset)?);
    let calibration = arguments.use_calibration.then(|| run.calibration(preset(tta))).transpose()?;
    drop(run); // one model in memory at a time
    let task = Task { dataset: &dataset, preset: preset(tta), compute: &compute, injection: &injection, interrupt };
    let mut predicted = members.predict(&task, &output)?;
    predicted.iter_mut().for_each(|model| model.calibration.clone_from(&calibration));
    let summary = write_table(&output, &dataset, predicted)?;
    report(&dataset, &summary, tta, &output)
}

/// What is predicted, how, and where.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) dataset: &'a Arc<Dataset>,
    pub(crate) preset: Preset,
    pub(crate) compute: &'a Compute,
    pub(crate) injection: &'a Injection,
    pub(crate) interrupt: &'a Arc<AtomicBool>,
}

/// Prints where the predictions are, and how good they are where labels are known.
fn report(dataset: &Dataset, summary: &Summary, tta: Tta, output: &Output) -> Result<(), CommandError> {
    let Summary { rows, failed, first_failure, scores } = summary;
    let views = preset(tta).views().len();
    if let Some(scores) = scores.as_ref().filter(|_| failed < rows) {
        ui::out(format_args!("{:<24} {:>10} {:>10} {:>8}", "", "macro-F1", "accuracy", "images"))?;
        let mut rows = vec![("without TTA".to_owned(), &scores.plain)];
        if views > 1 {
            rows.push((format!("with TTA, {views} views"), &scores.merged));
        }
        for (name, matrix) in rows {
            let (macro_f1, accuracy) = (matrix.macro_f1(), matrix.accuracy());
            ui::out(format_args!("{name:<24} {macro_f1:>10.4} {accuracy:>10.4} {:>8}", matrix.total()))?;
        }
    }
    match first_failure {
        Some(_) if output.has_errors() => ui::out(format_args!(
            "images without a prediction: {failed}, each a row with the reason in the column `error`"
        ))?,
        Some((sample, reason)) => ui::out(format_args!(
            "images without a prediction: {failed}, each an empty row; the first is `{}`: {reason}",
            dataset.relative_path(*sample).display()
        ))?,
        None => {}
    }
    let path = output.path.display();
    ui::out(format_args!("{rows} rows written to {path}"))?;
    if failed == rows {
        let message = format!("none of the {failed} images could be read");
        let hint = match output.has_errors() {
            true => format!("the column `error` of `{path}` says why, image by image"),
            false => "predict without `--template` and `--columns`, and the column `error` says why".to_owned(),
        };
        return Err(CommandError::failed(message).with_hint(hint));
    }
    Ok(())
}

pub(crate) fn preset(tta: Tta) -> Preset {
    match tta {
        Tta::None => Preset::None,
        Tta::Legacy => Preset::Legacy,
        Tta::Essential => Preset::Essential,
        Tta::Comprehensive => Preset::Comprehensive,
    }
}
