//! Obtains memory footprints with Burn, in three ways: real steps on a throwaway model, measured; the step without its computing, on the
//! device that will train; the step's graph, recorded on no device at all and laid out by the rules of the one that is meant.
//!
//! It never plans: what a footprint means for a batch size is `memory-planner`'s. It never touches the model that will train.

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
pub use dry_run::{dry_run_footprint, dry_run_reserved, reserved_by_real_steps};
pub use launches::{LaunchLog, LaunchesError};
pub use meter::{HeapMeter, Meter, PoolMeter};
pub use pools::PoolLayout;
pub use prediction::measure_prediction;
pub use rehearsal::StepRequest;
pub use throughput::{Clock, WallClock, measure_throughput};
pub use training::{ProbeError, ProbeOptions, RealSteps, measure_peak, measure_training, parameter_memory};
