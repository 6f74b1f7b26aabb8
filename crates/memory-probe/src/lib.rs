//! Obtains memory footprints with Burn: runs real training steps on a throwaway model, at growing batch sizes, and measures the peak.
//!
//! It never plans: what a footprint means for a batch size is `memory-planner`'s. It never touches the model that will train.

#![warn(missing_docs)]

mod meter;
mod training;

pub use meter::{HeapMeter, Meter, PoolMeter};
pub use training::{ProbeError, ProbeOptions, measure_training, parameter_memory};
