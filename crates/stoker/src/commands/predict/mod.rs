//! `predict`: trained runs, images, a table.

mod batch;
mod members;
mod output;
mod parts;
mod trained_run;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data_pipeline::Dataset;

pub(crate) use self::batch::fitting_batch;
pub(crate) use self::members::{Predicted, members};
use self::output::Output;
use self::parts::{Summary, write_table};
pub(crate) use self::trained_run::{Sight, TrainedRun, prediction_precision, runs_of_folds};
use crate::cli::PredictArguments;
use crate::commands::scores::{score_head, score_row, without_and_with_views};
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::recovery::Injection;
use crate::ui;

/// Classifies images and writes the table.
pub(crate) fn predict(arguments: &PredictArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let members = members(&arguments.predictor)?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(arguments.predictor.weights.device)?;
    let dataset = Dataset::open_for_prediction(&arguments.input, &members.classes)
        .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    let columns = &members.config.predict.columns;
    let output = Output::resolve(&arguments.output, columns, members.folder.as_deref(), &members.classes)?;
    let dataset = Arc::new(output.arrange(dataset)?);
    let task = Task { dataset: &dataset, compute: &compute, injection: &injection, interrupt };
    let (kept, views) = members.predict_into(&task, &output)?;
    let summary = write_table(&output, &dataset, kept)?;
    report(&dataset, &summary, views, &output)
}

/// What is predicted, and where.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) dataset: &'a Arc<Dataset>,
    pub(crate) compute: &'a Compute,
    pub(crate) injection: &'a Injection,
    pub(crate) interrupt: &'a Arc<AtomicBool>,
}

/// Prints where the predictions are, and how good they are where labels are known.
fn report(dataset: &Dataset, summary: &Summary, views: usize, output: &Output) -> Result<(), CommandError> {
    let Summary { rows, failed, first_failure, scores } = summary;
    if let Some(scores) = scores.as_ref().filter(|_| failed < rows) {
        ui::out(score_head())?;
        for (name, scores) in without_and_with_views(views, &scores.plain, &scores.merged) {
            ui::out(score_row(&name, scores.macro_f1(), scores.accuracy(), scores.total()))?;
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
