//! `gpu`: the devices at hand, and the test-time augmentation that they have time for.

mod estimate;
mod listing;
mod recommend;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(crate) use self::recommend::choose_preset;
use crate::cli::GpuArguments;
use crate::error::CommandError;

/// Lists the devices, or recommends a preset.
pub(crate) fn gpu(arguments: &GpuArguments, interrupt: &Arc<AtomicBool>) -> Result<(), CommandError> {
    match arguments.recommend_tta {
        true => recommend::recommend(arguments, interrupt),
        false => listing::list(arguments.detailed),
    }
}
