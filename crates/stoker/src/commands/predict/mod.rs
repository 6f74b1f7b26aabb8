//! `predict`: trained runs, images, a table.

mod batch;
mod fitting;
mod held_out;
mod inputs;
mod members;
mod one_image;
mod output;
mod parts;
mod temperature;
mod together;
mod trained_run;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data_pipeline::Dataset;
use inference::View;
use trainer::{Phase, Pieces};

pub(crate) use self::batch::Answers;
pub(crate) use self::fitting::{Needs, fitting_batch};
pub(crate) use self::held_out::{HeldOut, Judged};
pub(crate) use self::inputs::{Inputs, is_in_run_root};
use self::members::InParts;
pub(crate) use self::members::{Members, Predicted, of_preset};
use self::output::Output;
use self::parts::{Start, Summary, write_table};
pub(crate) use self::trained_run::{Sight, TrainedRun, prediction_precision, runs_of_folds};
use crate::cli::PredictArguments;
use crate::commands::scores::{score_head, score_row, without_and_with_views};
use crate::commands::unknown_labels::note_unknown_labels;
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::recovery::Injection;
use crate::ui;

/// Classifies images and writes the table.
pub(crate) fn predict(arguments: &PredictArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let members = Members::open(&arguments.predictor.runs)?;
    let injection = Injection::from_environment()?;
    let compute = Compute::select(arguments.predictor.runs.weights.device)?;
    let (dataset, unknown_labels) = Dataset::open_with_unknown_labels(&arguments.input, members.classes())
        .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
    let columns = &members.config().predict.columns;
    let folder = members.folder.as_ref().map(|folder| folder.root());
    let output = Output::resolve(&arguments.output, columns, folder, members.classes())?;
    let inputs = Inputs::of(&arguments.predictor, &arguments.input).with_images(&dataset);
    output.check(&inputs.with("the template", arguments.output.template.as_deref()))?;
    let dataset = Arc::new(output.arrange(dataset)?);
    note_ignored(&dataset);
    note_unknown_labels(&unknown_labels, members.classes());
    let task = Task { dataset: &dataset, compute: &compute, injection: &injection, interrupt };
    let InParts { mut models, place, views, temperature } =
        members.predict_into(&task, &arguments.predictor, &output)?;
    let summary = write_table(&output, &dataset, &mut models, temperature)?;
    // What is kept goes last: until then the same command has nothing to predict again.
    let reported = report(&dataset, &summary, &views, &output);
    place.remove(models)?;
    reported
}

/// Says how many files of the input have no row, for they are no images by their names.
pub(crate) fn note_ignored(dataset: &Dataset) {
    if dataset.ignored_files > 0 {
        let (count, noun) = (dataset.ignored_files, if dataset.ignored_files == 1 { "file" } else { "files" });
        ui::note(format_args!("note: {count} other {noun} passed over (not images)"));
    }
}

/// What is predicted, and where.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) dataset: &'a Arc<Dataset>,
    pub(crate) compute: &'a Compute,
    pub(crate) injection: &'a Injection,
    pub(crate) interrupt: &'a Arc<AtomicBool>,
}

impl Task<'_> {
    /// What a model that goes on at `start` is shown at once.
    fn pieces(&self, start: Start) -> Pieces {
        let pieces = Pieces::new(Phase::Prediction, self.injection.faults.clone());
        pieces.at_most(start.at_once.unwrap_or(start.pass_size))
    }
}

/// Prints where the predictions are, and how good they are where labels are known.
fn report(dataset: &Dataset, summary: &Summary, views: &[View], output: &Output) -> Result<(), CommandError> {
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
    let noun = if *rows == 1 { "row" } else { "rows" };
    ui::out(format_args!("{rows} {noun} written to {path}"))?;
    if failed == rows {
        let message = match failed {
            1 => "the one image could not be read".to_owned(),
            _ => format!("none of the {failed} images could be read"),
        };
        let hint = match output.has_errors() {
            true => format!("the column `error` of `{path}` says why, image by image"),
            false => "predict without `--template` and `--columns`, and the column `error` says why".to_owned(),
        };
        return Err(CommandError::failed(message).with_hint(hint));
    }
    Ok(())
}
