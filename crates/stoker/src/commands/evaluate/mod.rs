//! `evaluate`: a trained run, labelled images, scores and what explains them.

mod files;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data_pipeline::Dataset;
use inference::{Evaluation, Prediction, Preset};

use self::files::Files;
use crate::cli::EvaluateArguments;
use crate::commands::next_step;
use crate::commands::predict::{Task, TrainedRun, members, preset};
use crate::error::CommandError;
use crate::run::checks::check_output_folder;
use crate::run::compute::Compute;
use crate::run::recovery::Injection;

/// Predicts labelled images, prints how good that is, and writes what explains it.
pub(crate) fn evaluate(arguments: &EvaluateArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let predictor = &arguments.predictor;
    let members = members(predictor)?;
    let run = TrainedRun::open(&members.runs[0])?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(predictor.run.device)?;
    let dataset = Arc::new(labelled_images(&arguments.input, &run.weights.card.classes)?);
    let preset = preset(predictor.tta.unwrap_or(run.config.predict.tta));
    let output = arguments.output.clone().unwrap_or_else(|| members.folder(&run).join("evaluation"));
    check_output_folder(&output, "--output")?;
    let calibration = predictor.use_calibration.then(|| run.calibration(preset)).transpose()?;
    let top_k = run.config.train.top_k;
    let subject = Subject {
        predictor: members.folder(&run),
        checkpoint: predictor.run.checkpoint.name(),
        input: &arguments.input,
        preset,
        temperature: calibration.as_ref().map(|fitted| fitted.calibration.temperature),
    };
    let task = Task { dataset: &dataset, preset, compute: &compute, injection: &injection, interrupt };
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
    let evaluation = inference::evaluate(&dataset, &predictions, top_k).expect("an image has a label: it was checked");
    let files = Files::new(&output);
    files.write(&subject, &dataset, &predictions, &evaluation)?;
    report::print(&subject, &dataset, &evaluation, &files)?;
    refuse_nothing_read(&evaluation, &predictions, &files)
}

/// What is evaluated, and how, as it is told.
struct Subject<'a> {
    /// The run folder, or that of all folds.
    predictor: PathBuf,
    checkpoint: &'static str,
    input: &'a Path,
    preset: Preset,
    /// Of the probabilities with the views, where they are calibrated.
    temperature: Option<f64>,
}

impl Subject<'_> {
    /// Whether what is merged is another thing than what the image alone says.
    fn changes_probabilities(&self) -> bool {
        self.preset.views().len() > 1 || self.temperature.is_some()
    }
}

/// The images, one of which has a label at least.
fn labelled_images(input: &Path, classes: &[String]) -> Result<Dataset, CommandError> {
    let dataset = Dataset::open_for_prediction(input, classes)
        .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    if dataset.samples.iter().any(|sample| sample.label.is_some()) {
        return Ok(dataset);
    }
    let (images, input) = (dataset.len(), input.display());
    let message = format!("none of the {images} images in `{input}` has a label to hold a prediction against");
    let named = classes.iter().take(3).map(|class| format!("`{class}`")).collect::<Vec<_>>().join(", ");
    let cause = format!("a label is the image's topmost folder there, or the column `label`: {named}, ..");
    let predict = next_step(&format!("predict --input {input}"));
    Err(CommandError::wrong_request(message)
        .with_causes(vec![cause])
        .with_hint(format!("without labels, predict: {predict}")))
}

/// Labelled images of which not one could be scored are no evaluation.
fn refuse_nothing_read(evaluation: &Evaluation, predictions: &[Prediction], files: &Files) -> Result<(), CommandError> {
    if evaluation.plain.confusion.total() > 0 {
        return Ok(());
    }
    let message = format!("none of the {} images could be scored against a label", predictions.len());
    let hint = format!("`{}` says why, image by image", files.not_evaluated.display());
    Err(CommandError::failed(message).with_hint(hint))
}
