use std::path::Path;

use metrics::EpochRecord;

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
}

/// Hears what a run does; all its methods may be left out.
pub trait Observer {
    /// An epoch starts (from 1), with so many effective batches.
    fn epoch_started(&mut self, _epoch: u32, _epochs: u32, _batches: usize) {}
    /// An optimizer step is done.
    fn step_done(&mut self, _report: &StepReport) {}
    /// So many of the validation samples are scored.
    fn validating(&mut self, _done: usize, _total: usize) {}
    /// An epoch is recorded; `improved` when it is the best so far.
    fn epoch_done(&mut self, _record: &EpochRecord, _improved: bool) {}
    /// An image was skipped, for the first time in this run.
    fn corrupt_image(&mut self, _path: &Path, _reason: &str) {}
}

/// An observer that hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Tells the highest memory use so far.
pub trait MemoryGauge {
    /// Bytes; none where it is not measured.
    fn peak_bytes(&self) -> Option<u64>;
}
