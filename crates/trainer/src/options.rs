use memory_planner::Precision;

use crate::{AdamWOptions, FaultPlan, WarmupCosine};

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
    /// The optimizer's constants.
    pub adamw: AdamWOptions,
    /// Learning rate at every step.
    pub schedule: WarmupCosine,
    /// Share of the target spread evenly over all classes, in `[0, 1)`.
    pub label_smoothing: f32,
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
    /// Out-of-memory that a test wants; empty otherwise.
    pub faults: FaultPlan,
}
