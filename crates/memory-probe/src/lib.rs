//! Obtains memory footprints with Burn, in three ways: real steps on a throwaway model, measured; the step without its computing, on the
//! device that will train; the step's graph, recorded on no device at all and laid out by the rules of the one that is meant.
//!
//! It never plans: what a footprint means for a batch size is `memory-planner`'s. It never touches the model that will train.
//!
//! From a model to the batch that a card holds, without the card:
//!
//! ```
//! use convnext::ConvNextConfig;
//! use memory_planner::{Budget, BudgetRequest, PlanRequest, Tier, recommend_batch_size};
//! use memory_probe::{AllocatorModel, CapturedSource, StepRequest};
//! use trainer::TrainOptions;
//! use vision_nn::ClassifierSpec;
//!
//! const CARD_BYTES: u64 = 12 << 30;
//! let config = ConvNextConfig {
//!     depths: [2, 2, 6, 2],
//!     widths: [40, 80, 160, 320],
//!     pointwise_mlp: true,
//!     response_norm: false,
//! };
//! let step = StepRequest {
//!     image: [224, 224, 3],
//!     num_classes: 10,
//!     options: TrainOptions { clip_norm: Some(1.0), ..TrainOptions::default() },
//!     accumulates: false,
//!     checkpointing: false,
//!     predicts: false,
//! };
//! let recorded = CapturedSource::record(&step, |device| config.init(&ClassifierSpec::new(10, device)));
//!
//! let budget = Budget::for_absent_card(CARD_BYTES, CARD_BYTES - (512 << 20), Tier::MidRange, &BudgetRequest::default())?;
//! let allocator = AllocatorModel::cuda(CARD_BYTES);
//! let footprint = recorded.footprint(allocator, budget.budget_bytes, &PlanRequest::default())?;
//! let batch = recommend_batch_size(&footprint, &budget)?;
//!
//! assert!(batch >= 100, "{batch}");
//! assert!(recorded.reserved_bytes(batch, allocator).is_some_and(|reserved| reserved <= budget.budget_bytes));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(missing_docs)]

mod capture;
mod dry_run;
mod exact;
mod launches;
mod meter;
mod pools;
mod prediction;
mod rehearsal;
mod throughput;
mod training;

pub use capture::{
    AllocatorModel, CapturedSource, ChosenPools, SavedActivations, SavedPart, Traffic, capture_step, fixed_memory,
    saved_activations, step_traffic,
};
pub use dry_run::{DryRunTask, dry_run_footprint, dry_run_reserved, reserved_by_real_steps};
pub use launches::{LaunchLog, LaunchesError};
pub use meter::{HeapMeter, Meter, PoolMeter};
pub use pools::PoolLayout;
pub use prediction::measure_prediction;
pub use rehearsal::StepRequest;
pub use throughput::{Clock, WallClock, measure_throughput};
pub use training::{ProbeError, ProbeOptions, RealSteps, measure_peak, measure_training, parameter_memory};
