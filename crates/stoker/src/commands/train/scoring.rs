//! A finished run's weights on labelled images.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checkpoint::{RunFolder, shell_word, write_atomically};
use data_pipeline::{CorruptImage, Dataset, LoadError, Loader, LoaderOptions, batches};
use metrics::ValidationScores;
use trainer::{
    Evaluation, Evaluator, FaultPlan, MemoryLog, Phase, Pieces, RecoveryEvent, Scoring, TrainError, evaluate,
};

use super::{Run, failed, interrupted};
use crate::commands::next_step;
use crate::error::CommandError;
use crate::registry::Network;
use crate::run::recovery::tell_out_of_memory;
use crate::ui;

impl Run {
    /// Scores the best weights on the test images, where there are any.
    pub(super) fn test(
        &self,
        folder: &RunFolder,
        model: &Network,
        batch_size: usize,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Option<ValidationScores>, CommandError> {
        let Some(test) = &self.data.test else { return Ok(None) };
        let faults = self.injection.faults.clone();
        let exam = Exam { task: "testing the best weights", model, images: test, batch_size, faults };
        let evaluation = self.score(folder, exam, interrupt)?;
        let scores = evaluation.scores(false);
        ui::out(format_args!(
            "test: accuracy {:.4}, macro-F1 {:.4}, loss {:.4} over {} images",
            scores.accuracy, scores.macro_f1, scores.loss, scores.samples
        ))?;
        list_corrupt_test_images(folder, &evaluation.corrupt)?;
        Ok(Some(scores))
    }

    /// Scores weights on labelled images, in batches that become smaller when memory runs out.
    pub(super) fn score(
        &self,
        folder: &RunFolder,
        exam: Exam<'_>,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Evaluation, CommandError> {
        let Exam { task, model, images, batch_size, faults } = exam;
        let order: Vec<usize> = (0..images.len()).collect();
        let options = LoaderOptions { interrupt: Some(interrupt.clone()), ..self.request.resolved.loader_options() };
        let transform = self.data.training.eval_transform.clone();
        let loader = Loader::new(images.clone(), batches(&order, batch_size), transform, options);
        let evaluator = Evaluator {
            normalization: &self.normalization(),
            device: &self.compute.device,
            precision: self.request.resolved.rung().precision,
            top_k: self.request.resolved.config.train.top_k,
        };
        let mut progress = ui::Progress::start(task, "images", images.len() as u64);
        let mut pieces = Pieces::new(Phase::Evaluation, faults);
        let mut recoveries = Vec::new();
        let evaluation = evaluate(model, images, loader, &evaluator, &mut pieces, &mut |scoring| match scoring {
            Scoring::Done(done) => progress.set(done as u64),
            Scoring::OutOfMemory(event) => {
                tell_out_of_memory(event);
                recoveries.push(event.clone());
            }
        });
        drop(progress);
        self.keep_recoveries(folder, &recoveries)?;
        evaluation.map_err(|error| stopped(&error, folder))
    }

    fn keep_recoveries(&self, folder: &RunFolder, events: &[RecoveryEvent]) -> Result<(), CommandError> {
        let planned = self.request.resolved.train_options(1, &[]).micro_batch_size;
        let mut events = events.iter();
        let kept = events.try_for_each(|event| MemoryLog::of(folder).append(planned, event));
        kept.map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))
    }
}

/// Weights and the images that they are scored on.
pub(super) struct Exam<'a> {
    /// What the progress bar calls it.
    pub(super) task: &'static str,
    pub(super) model: &'a Network,
    pub(super) images: &'a Arc<Dataset>,
    pub(super) batch_size: usize,
    /// Out-of-memory that a test wants.
    pub(super) faults: FaultPlan,
}

/// Work after training that came to nothing.
pub(super) fn stopped(error: &TrainError, folder: &RunFolder) -> CommandError {
    match error {
        // What is left is done on one card.
        TrainError::Load(LoadError::Interrupted) => {
            interrupted(folder, &next_step(&format!("train --resume {}", shell_word(folder.root()))))
        }
        error => failed(error),
    }
}

/// Adds to the list that training left, and tells how many.
fn list_corrupt_test_images(folder: &RunFolder, corrupt: &[CorruptImage]) -> Result<(), CommandError> {
    if corrupt.is_empty() {
        return Ok(());
    }
    let path = folder.corrupt_images();
    let mut lines: BTreeSet<String> =
        std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
    lines.extend(corrupt.iter().map(CorruptImage::line));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    write_atomically(&path, text.as_bytes()).map_err(|error| CommandError::from_run(&error).with_hint(error.hint()))?;
    ui::out(format_args!("corrupt test images skipped: {}, listed in {}", corrupt.len(), path.display()))
}
