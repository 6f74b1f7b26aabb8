//! Obtains memory footprints with Burn: runs real training steps on a throwaway model, at growing batch sizes, and measures the peak.
//!
//! It never plans: what a footprint means for a batch size is `memory-planner`'s. It never touches the model that will train.

#![warn(missing_docs)]

mod capture;
mod dry_run;
mod meter;
mod rehearsal;
mod training;

pub use capture::{AllocatorModel, captured_reserved, captured_trace, print_events, print_recording};
pub use dry_run::{dry_run_reserved, real_reserved};
pub use meter::{HeapMeter, Meter, PoolMeter};
pub use rehearsal::StepRequest;
pub use training::{ProbeError, ProbeOptions, measure_training, parameter_memory};
