//! Steps whose loss or gradients are not finite: left out and counted, and after too many of them in a row the end of the run, with all that is
//! needed to look into it.

use std::path::PathBuf;

use checkpoint::write_atomically;
use data_pipeline::Batch;
use serde::Serialize;
use vision_nn::Classifier;

use crate::fit::{Run, step_seed};
use crate::{Gradients, StepScores, TrainError};

/// A step that moved nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NonFiniteStep {
    /// Optimizer step, from 0.
    pub step: u64,
    /// `loss` or `gradient norm`.
    pub what: &'static str,
    /// Its value.
    pub value: f64,
    /// Such steps in a row, this one included.
    pub in_a_row: u64,
}

impl StepScores {
    /// What is not finite, and its value; none when all is well.
    pub(crate) fn nonfinite(&self) -> Option<(&'static str, f64)> {
        let numbers = [("loss", self.loss_sum), ("gradient norm", self.gradient_norm)];
        numbers.into_iter().find(|(_, value)| !value.is_finite())
    }
}

/// The step at which a run ended, as JSON beside its weights.
#[derive(Serialize)]
struct Snapshot<'a> {
    step: u64,
    epoch: u32,
    what: &'static str,
    /// As text: JSON has no number for it.
    value: String,
    /// Seed of what is random in the forward pass.
    step_seed: u64,
    micro_batch_size: usize,
    /// Parameters whose gradients are not finite.
    gradients: Vec<&'a str>,
    samples: Vec<SnapshotSample>,
}

#[derive(Serialize)]
struct SnapshotSample {
    /// In the training set.
    index: usize,
    path: PathBuf,
    label: Option<u32>,
}

impl<M: Classifier> Run<'_, M> {
    /// Leaves a step out: nothing moves, and training goes on with the next batch.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] when it is one too many in a row.
    pub(crate) fn leave_out(
        &mut self,
        batch: &Batch,
        gradients: &Gradients,
        left: NonFiniteStep,
    ) -> Result<(), TrainError> {
        let progress = &mut self.session.card.progress;
        progress.nonfinite_in_a_row = left.in_a_row;
        progress.idle_steps += 1;
        progress.sums.nonfinite_steps += 1;
        self.observer.step_left_out(&left);
        if left.in_a_row < self.session.step.options().max_nonfinite_steps.max(1) {
            return Ok(());
        }
        let snapshot = self.save_snapshot(batch, gradients, left)?;
        let NonFiniteStep { step, what, value, in_a_row } = left;
        let epoch = self.session.card.progress.epochs_done + 1;
        Err(TrainError::NotFinite { what, value, step, epoch, in_a_row, snapshot })
    }

    /// Writes the state before the step, and what the step was, beside it.
    fn save_snapshot(&self, batch: &Batch, gradients: &Gradients, left: NonFiniteStep) -> Result<PathBuf, TrainError> {
        let options = self.session.step.options();
        let path = self.session.folder.nonfinite_step();
        let dataset = &self.data.train.samples;
        let samples = batch.samples.iter().zip(&batch.labels);
        let snapshot = Snapshot {
            step: left.step,
            epoch: self.session.card.progress.epochs_done + 1,
            what: left.what,
            value: left.value.to_string(),
            step_seed: step_seed(options.seed, left.step),
            micro_batch_size: self.session.micro_batch.size(),
            gradients: gradients.nonfinite_names(),
            samples: samples
                .map(|(&index, &label)| SnapshotSample { index, path: dataset[index].path.clone(), label })
                .collect(),
        };
        let json = serde_json::to_string_pretty(&snapshot).expect("a snapshot has string keys and plain values");
        write_atomically(&path.with_extension("json"), json.as_bytes())?;
        self.session.save_state(&path)?;
        Ok(path)
    }
}
