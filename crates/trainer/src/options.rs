use std::time::Duration;

use memory_planner::Precision;

use crate::{Constant, EarlyStopping, FaultPlan, GroupOptions, LossOptions, OptimizerOptions, Recompute, Schedule};

/// What a training run does, with nothing left undecided.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Passes over the training set.
    pub epochs: u32,
    /// Samples in one optimizer step.
    pub effective_batch_size: usize,
    /// Most samples in one forward and backward pass.
    pub micro_batch_size: usize,
    /// What maps are stored in, and what matrix products and dense convolutions compute in. Weights, gradients and optimizer stay in f32.
    pub precision: Precision,
    /// What the backward pass computes again.
    pub recompute: Recompute,
    /// The rule that moves the weights, with its constants.
    pub optimizer: OptimizerOptions,
    /// Which parameters train, and how fast.
    pub groups: GroupOptions,
    /// Learning rate at every step.
    pub schedule: Schedule,
    /// What is minimised.
    pub loss: LossOptions,
    /// Largest global gradient norm.
    pub clip_norm: Option<f64>,
    /// Decay of the averaged weights, a step; none keeps no average.
    pub ema_decay: Option<f64>,
    /// The k of top-k accuracy.
    pub top_k: usize,
    /// Seed of shuffling, augmentation and stochastic depth.
    pub seed: u64,
    /// Whether a micro-batch that was reduced for lack of memory may grow again; see [`STEPS_BEFORE_GROWTH`](crate::STEPS_BEFORE_GROWTH).
    pub adaptive_batch: bool,
    /// Steps in a row whose loss or gradients are not finite, at which training stops; below that they are left out. At least 1.
    pub max_nonfinite_steps: u64,
    /// When to stop before the last epoch.
    pub early_stopping: Option<EarlyStopping>,
    /// Epochs whose weights are kept, the best ones; `best` is always there, and above 1 each of them has a file of its own beside it. At least 1.
    pub keep_best: usize,
    /// Out-of-memory that a test wants; empty otherwise.
    pub faults: FaultPlan,
    /// Time after which `last` is saved also in mid-epoch; none saves at the ends of epochs alone.
    pub save_interval: Option<Duration>,
    /// Whether the device takes the last steps of augmentation as it makes numbers of pixels, where the loader may leave them: turns and flips, erasing, and
    /// mixing where a whole effective batch is on one device at once. No image is another one for it.
    pub finishes_images: bool,
}

impl Default for TrainOptions {
    /// One epoch in whole batches of 32: f32, AdamW and cross-entropy as PyTorch has them, a constant learning rate of 1e-3, nothing clipped or averaged.
    fn default() -> Self {
        Self {
            epochs: 1,
            effective_batch_size: 32,
            micro_batch_size: 32,
            precision: Precision::Fp32,
            recompute: Recompute::Nothing,
            optimizer: OptimizerOptions::default(),
            groups: GroupOptions::default(),
            schedule: Schedule::Constant(Constant { peak: 1e-3, warmup_steps: 0 }),
            loss: LossOptions::default(),
            clip_norm: None,
            ema_decay: None,
            top_k: 1,
            seed: 0,
            adaptive_batch: false,
            max_nonfinite_steps: 1,
            early_stopping: None,
            keep_best: 1,
            faults: FaultPlan::default(),
            save_interval: None,
            finishes_images: false,
        }
    }
}
