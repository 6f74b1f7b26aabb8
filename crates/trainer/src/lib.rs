//! The training loop: exact gradient accumulation, optimizers, parameter groups, schedule, clipping, weight averaging, validation, checkpoints, resume, and recovery
//! when memory runs out.
//!
//! Everything random is a function of the seed, the epoch and the position of a sample, so that a run that was killed and resumed
//! writes the same bytes as one that was not, and so that a step can be done again in smaller parts.
//!
//! It never chooses a batch size, but for halving one that does not fit, never reads a config file and never prints: it reports through [`Observer`].

#![warn(missing_docs)]

mod all_reduce;
mod average;
mod evaluate;
mod fit;
mod options;
mod recovery;
mod session;
mod step;
mod taken;

mod backpropagation;
mod corrupt_list;
mod faults;
mod keeping;
mod lanes;
mod memory_log;
mod micro_batch;
mod nonfinite;
mod out_of_memory;
mod scoring;
mod unread_classes;

mod early_stopping;
mod ema;
mod gradients;
mod groups;
mod input;
mod loss;
mod loss_scale;
mod optimizer;
mod pattern;
mod schedule;

mod error;
mod observer;

pub use average::AveragedWeights;
pub use backpropagation::{Recompute, backpropagate};
pub use early_stopping::EarlyStopping;
pub use error::TrainError;
pub use evaluate::{Evaluation, Evaluator, evaluate};
pub use faults::{FaultPlan, FaultPlanError};
pub use fit::{FitOutcome, TrainingData, fit};
pub use gradients::Gradients;
pub use groups::{GroupError, GroupOptions, ParameterGroup, ParameterGroups, ParameterRule};
pub use input::{Normalization, images_of_batch, images_to_tensor, storage_type};
pub use lanes::Exchange;
pub use loss::{LossKind, LossOptions, balanced_class_weights, cross_entropy_sum, target_tensor};
pub use memory_log::{MemoryLog, Phase, RecoveryEvent};
pub use micro_batch::STEPS_BEFORE_GROWTH;
pub use nonfinite::NonFiniteStep;
pub use observer::{MemoryGauge, MemoryLap, Observer, Silent, StepReport};
pub use optimizer::{
    AdafactorOptions, AdamWOptions, LambOptions, LionOptions, MuonOptions, MuonStepLength, Optimizer, OptimizerOptions,
    SgdOptions,
};
pub use options::TrainOptions;
pub use out_of_memory::{ComputeError, MemoryWatch, OutOfMemory, UncutWork};
pub use schedule::{Constant, OneCycle, Plateau, Schedule, StepDecay, WarmupCosine};
pub use scoring::{Pieces, Scoring};
pub use session::TrainSession;
pub use step::{StepScores, TrainStep, mean_loss};
