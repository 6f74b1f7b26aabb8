//! `evaluate`: a trained run, labelled images, scores and what explains them.

mod files;
mod report;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::shell_word;
use data_pipeline::{Dataset, UnknownLabels};
use inference::{Evaluation, Prediction, View};

use self::files::Files;
use crate::cli::EvaluateArguments;
use crate::commands::next_step;
use crate::commands::predict::{Inputs, Members, Predicted, Task, note_ignored};
use crate::commands::scores::is_augmented;
use crate::commands::unknown_labels::{describe, note_unknown_labels, other_spelling};
use crate::error::CommandError;
use crate::run::checks::check_output_folder;
use crate::run::compute::Compute;
use crate::run::recovery::Injection;

/// Predicts labelled images, prints how good that is, and writes what explains it.
pub(crate) fn evaluate(arguments: &EvaluateArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let members = Members::open(&arguments.predictor.runs)?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(arguments.predictor.runs.weights.device)?;
    let (dataset, unknown_labels) = labelled_images(&arguments.input, members.classes())?;
    let dataset = Arc::new(dataset);
    note_ignored(&dataset);
    note_unknown_labels(&unknown_labels, members.classes());
    let in_folder = members.folder.as_ref().map(|folder| folder.root().join("evaluation"));
    let output = arguments.output.clone().or(in_folder).ok_or_else(|| {
        CommandError::wrong_request("the evaluation of several runs belongs to none of their folders")
            .with_hint("say where it goes: `--output evaluation`".to_owned())
    })?;
    check_output_folder(&output, "--output")?;
    let files = Files::new(&output);
    files.check(&Inputs::of(&arguments.predictor, &arguments.input).with_images(&dataset))?;
    let task = Task { dataset: &dataset, compute: &compute, injection: &injection, interrupt };
    let Predicted { predictions, views, temperature } = members.predict(&task, &arguments.predictor)?;
    let subject = Subject {
        predictors: members.paths(),
        checkpoint: arguments.predictor.runs.weights.checkpoint.name(),
        input: &arguments.input,
        views,
        temperature,
    };
    let top_k = members.config().train.top_k;
    let evaluation = inference::evaluate(&dataset, &unknown_labels, &predictions, top_k)
        .expect("an image has the label of a class: it was checked");
    files.write(&subject, &dataset, &predictions, &evaluation)?;
    report::print(&subject, &dataset, &evaluation, &files)?;
    refuse_nothing_read(&evaluation, &predictions, &files)
}

/// What is evaluated, and how, as it is told.
struct Subject<'a> {
    /// The run folders.
    predictors: Vec<String>,
    checkpoint: &'static str,
    input: &'a Path,
    /// Of each image; the most where models differ in it.
    views: Vec<View>,
    /// Of the probabilities with the views, of the mean of all models, where they are calibrated.
    temperature: Option<f64>,
}

impl Subject<'_> {
    /// Whether what is merged is another thing than what the image alone says.
    fn changes_probabilities(&self) -> bool {
        is_augmented(&self.views) || self.temperature.is_some()
    }
}

/// The images, one of which has the label of a class at least, and labels that are no classes.
fn labelled_images(input: &Path, classes: &[String]) -> Result<(Dataset, UnknownLabels), CommandError> {
    let (dataset, unknown) = Dataset::open_with_unknown_labels(input, classes)
        .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    if dataset.samples.iter().any(|sample| sample.label.is_some()) {
        return Ok((dataset, unknown));
    }
    let (images, typed, input) = (dataset.len(), shell_word(input), input.display());
    let message = format!("none of the {images} images in `{input}` has a label to hold a prediction against");
    let named = classes.iter().take(3).map(|class| format!("`{class}`")).collect::<Vec<_>>().join(", ");
    let mut causes = vec![format!("a label is the image's topmost folder there, or the column `label`: {named}, ..")];
    causes.extend((!unknown.is_empty()).then(|| describe(&unknown)));
    let predict = next_step(&format!("predict --input {typed}"));
    let hint = match other_spelling(&unknown, classes) {
        Some(spelling) => format!("{spelling}: write the labels as the classes are written"),
        None => format!("without labels, predict: {predict}"),
    };
    Err(CommandError::wrong_request(message).with_causes(causes).with_hint(hint))
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
