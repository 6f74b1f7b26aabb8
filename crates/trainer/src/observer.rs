use std::path::Path;

use metrics::EpochRecord;

use crate::{NonFiniteStep, RecoveryEvent, UncutWork};

/// One optimizer step, as it is told to an [`Observer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Epoch, from 1.
    pub epoch: u32,
    /// Effective batches of this epoch that are done.
    pub batches_done: usize,
    /// Effective batches in the epoch.
    pub batches: usize,
    /// Samples of this epoch that are trained on.
    pub samples_done: u64,
    /// Optimizer steps since the start of the run.
    pub step: u64,
    /// Mean loss of the epoch so far, nats.
    pub mean_loss: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
    /// Training images a second, this epoch so far.
    pub images_per_second: f64,
    /// Share of this epoch's time so far that was spent waiting for data, 0 to 1.
    pub data_wait_share: f64,
}

/// Hears what a run does; all its methods may be left out.
pub trait Observer {
    /// An epoch starts (from 1), with so many effective batches.
    fn epoch_started(&mut self, _epoch: u32, _epochs: u32, _batches: usize) {}
    /// An optimizer step is done.
    fn step_done(&mut self, _report: &StepReport) {}
    /// A step was left out, because its numbers were not finite.
    fn step_left_out(&mut self, _step: &NonFiniteStep) {}
    /// So many of the validation samples are scored.
    fn validating(&mut self, _done: usize, _total: usize) {}
    /// An epoch is recorded; `improved` when it is the best so far.
    fn epoch_done(&mut self, _record: &EpochRecord, _improved: bool) {}
    /// So many images were skipped and listed before this process took the run up.
    fn corrupt_images_known(&mut self, _count: usize) {}
    /// An image was skipped, for the first time in this run.
    fn corrupt_image(&mut self, _path: &Path, _reason: &str) {}
    /// None of so many validation images of a class could be read; told after each validation.
    fn class_not_validated(&mut self, _class: &str, _images: usize) {}
    /// Memory ran out; the same samples are done again, fewer at once. The event is in the run folder already.
    fn out_of_memory(&mut self, _event: &RecoveryEvent) {}
    /// The heap went above its limit outside of what can be done in smaller parts, before this optimizer step.
    fn limit_passed(&mut self, _step: u64, _work: &UncutWork) {}
    /// The micro-batch grew again, because memory allows it. The event is in the run folder already.
    fn micro_batch_grown(&mut self, _event: &RecoveryEvent) {}
}

/// An observer that hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Tells how much memory is used.
pub trait MemoryGauge {
    /// The most so far, bytes; none where it is not measured.
    fn peak_bytes(&self) -> Option<u64>;
    /// Begins a measurement of its own, for [`lap`](Self::lap). What [`peak_bytes`](Self::peak_bytes) tells is not lost.
    fn begin_lap(&self) {}
    /// What was measured since [`begin_lap`](Self::begin_lap), asked between two optimizer steps; none where it is not measured.
    fn lap(&self) -> Option<MemoryLap> {
        None
    }
    /// Ends a stretch of the run and begins the next. Tells the most in the one that ended, bytes; none where it is not measured. A lap goes on, and what
    /// [`peak_bytes`](Self::peak_bytes) tells is not lost.
    fn end_stretch(&self) -> Option<u64> {
        None
    }
}

/// Memory over several optimizer steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLap {
    /// The most at any moment, bytes.
    pub peak_bytes: u64,
    /// Between two steps: weights, optimizer state and whatever else stays, bytes.
    pub resting_bytes: u64,
    /// What may be used, bytes.
    pub allowed_bytes: u64,
}

impl MemoryLap {
    /// Bytes that steps with micro-batches of `larger` samples would need, when those measured had `size`: what comes and goes in a step grows
    /// at most in proportion, for the gradients among it do not grow at all.
    pub fn peak_bytes_at(&self, size: usize, larger: usize) -> u64 {
        let passing = u128::from(self.peak_bytes.saturating_sub(self.resting_bytes));
        let grown = (passing * larger as u128).div_ceil(size.max(1) as u128);
        self.resting_bytes.saturating_add(u64::try_from(grown).unwrap_or(u64::MAX))
    }

    /// Whether that is allowed.
    pub fn allows_growth(&self, size: usize, larger: usize) -> bool {
        self.peak_bytes_at(size, larger) <= self.allowed_bytes
    }
}
