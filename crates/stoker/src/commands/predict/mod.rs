//! `predict`: a trained run, images, a CSV file.

mod batch;
mod members;
mod trained_run;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data_pipeline::Dataset;
use inference::{Prediction, Preset, score, write_csv};

pub(crate) use self::batch::fitting_batch;
pub(crate) use self::members::members;
pub(crate) use self::trained_run::{TrainedRun, prediction_precision};
use crate::cli::PredictArguments;
use crate::commands::scores::{score_head, score_row, without_and_with_views};
use crate::config::Tta;
use crate::error::CommandError;
use crate::run::checks::check_output_file;
use crate::run::compute::Compute;
use crate::run::recovery::Injection;
use crate::ui;

/// Classifies images and writes the CSV file.
pub(crate) fn predict(arguments: &PredictArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let predictor = &arguments.predictor;
    let members = members(predictor)?;
    let run = TrainedRun::open(&members.runs[0])?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(predictor.run.device)?;
    let dataset = Dataset::open_for_prediction(&arguments.input, &run.weights.card.classes)
        .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    let dataset = Arc::new(dataset);
    let tta = predictor.tta.unwrap_or(run.config.predict.tta);
    let output = arguments.output.clone().unwrap_or_else(|| members.folder(&run).join("predictions.csv"));
    check_output_file(&output, "--output", "predictions.csv")?;
    let calibration = predictor.use_calibration.then(|| run.calibration(preset(tta))).transpose()?;
    let classes = run.weights.card.classes.clone();
    let task = Task { dataset: &dataset, preset: preset(tta), compute: &compute, injection: &injection, interrupt };
    let mut predictions = match &members.folds {
        None => run.predict(&task)?,
        Some(_) => {
            drop(run); // one model in memory at a time
            members.predict(&task)?
        }
    };
    if let Some(calibration) = &calibration {
        calibration.apply(&mut predictions);
    }
    write_csv(&output, &dataset, &classes, &predictions)
        .map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
    report(&dataset, &predictions, tta, &output)
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
fn report(dataset: &Dataset, predictions: &[Prediction], tta: Tta, output: &Path) -> Result<(), CommandError> {
    let failed = predictions.iter().filter(|prediction| prediction.outcome.error().is_some()).count();
    let views = preset(tta).views().len();
    let scores = score(dataset, predictions).filter(|_| failed < predictions.len());
    if let Some(scores) = scores {
        ui::out(score_head())?;
        for (name, scores) in without_and_with_views(views, &scores.plain, &scores.merged) {
            ui::out(score_row(&name, scores.macro_f1(), scores.accuracy(), scores.total()))?;
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

pub(crate) fn preset(tta: Tta) -> Preset {
    match tta {
        Tta::None => Preset::None,
        Tta::Legacy => Preset::Legacy,
        Tta::Essential => Preset::Essential,
        Tta::Comprehensive => Preset::Comprehensive,
    }
}
