//! The training loop: exact gradient accumulation, AdamW, schedule, clipping, weight averaging, validation, checkpoints, resume.
//!
//! Everything random is a function of the seed, the epoch and the position of a sample, so that a run that was killed and resumed
//! writes the same bytes as one that was not.
//!
//! It never chooses a batch size, never reads a config file and never prints: it reports through [`Observer`].

#![warn(missing_docs)]

mod evaluate;
mod fit;
mod options;
mod session;
mod step;

mod ema;
mod gradients;
mod input;
mod loss;
mod optimizer;
mod schedule;

mod error;
mod observer;

pub use error::TrainError;
pub use evaluate::{Evaluation, Evaluator, evaluate};
pub use fit::{FitOutcome, TrainingData, fit};
pub use gradients::Gradients;
pub use input::{Normalization, images_to_tensor};
pub use loss::{cross_entropy_sum, smoothed_targets};
pub use observer::{MemoryGauge, Observer, Silent, StepReport};
pub use optimizer::{AdamW, AdamWOptions};
pub use options::TrainOptions;
pub use schedule::WarmupCosine;
pub use session::TrainSession;
pub use step::{StepScores, TrainStep, mean_loss};
