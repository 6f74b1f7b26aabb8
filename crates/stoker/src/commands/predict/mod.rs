//! `predict`: trained runs, images, a CSV file.

mod members;
mod trained_run;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data_pipeline::Dataset;
use inference::{score, write_csv};

pub(crate) use self::members::{Predicted, members};
pub(crate) use self::trained_run::{Sight, TrainedRun, prediction_precision, runs_of_folds};
use crate::cli::PredictArguments;
use crate::error::CommandError;
use crate::run::checks::check_output_file;
use crate::run::compute::Compute;
use crate::run::recovery::Injection;
use crate::ui;

/// Classifies images and writes the CSV file.
pub(crate) fn predict(arguments: &PredictArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let members = members(&arguments.predictor)?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(arguments.predictor.weights.device)?;
    let dataset = Dataset::open_for_prediction(&arguments.input, &members.classes)
        .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    let dataset = Arc::new(dataset);
    let beside_the_run = members.folder.as_ref().map(|folder| folder.join("predictions.csv"));
    let output = arguments.output.clone().or(beside_the_run).ok_or_else(|| {
        CommandError::wrong_request("the predictions of several runs belong to none of their folders")
            .with_hint("say where they go: `--output predictions.csv`".to_owned())
    })?;
    check_output_file(&output, "--output", "predictions.csv")?;
    let task = Task { dataset: &dataset, compute: &compute, injection: &injection, interrupt };
    let predicted = members.predict(&task)?;
    write_csv(&output, &dataset, &members.classes, &predicted.predictions)
        .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
    report(&dataset, &predicted, &output)
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
fn report(dataset: &Dataset, predicted: &Predicted, output: &Path) -> Result<(), CommandError> {
    let Predicted { predictions, views } = predicted;
    let failed = predictions.iter().filter(|prediction| prediction.outcome.error().is_some()).count();
    let scores = score(dataset, predictions).filter(|_| failed < predictions.len());
    if let Some(scores) = scores {
        ui::out(format_args!("{:<24} {:>10} {:>10} {:>8}", "", "macro-F1", "accuracy", "images"))?;
        let mut rows = vec![("without TTA".to_owned(), &scores.plain)];
        if *views > 1 {
            rows.push((format!("with TTA, {views} views"), &scores.merged));
        }
        for (name, matrix) in rows {
            let (macro_f1, accuracy) = (matrix.macro_f1(), matrix.accuracy());
            ui::out(format_args!("{name:<24} {macro_f1:>10.4} {accuracy:>10.4} {:>8}", matrix.total()))?;
        }
    }
    if failed > 0 {
        ui::out(format_args!(
            "images without a prediction: {failed}, each a row with the reason in the column `error`"
        ))?;
    }
    ui::out(format_args!("{} rows written to {}", predictions.len(), output.display()))?;
    if failed == predictions.len() {
        let message = format!("none of the {failed} images could be read");
        let hint = format!("the column `error` of `{}` says why, image by image", output.display());
        return Err(CommandError::failed(message).with_hint(hint));
    }
    Ok(())
}
