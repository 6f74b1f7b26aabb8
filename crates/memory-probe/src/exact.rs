use std::convert::Infallible;

use memory_planner::{ExactSource, FixedMemory, Footprint, FootprintError, PlanRequest, SearchBounds, observe};

use crate::StepRequest;

/// The footprint of a step from a source that is exact, for every batch size that a plan for `budget_bytes` asks about. `reserved` tells what a batch
/// takes, alone or as one of several micro-batches whose gradients are summed; `None` is a batch that the device cannot hold.
///
/// # Errors
/// A [`FootprintError`] when the request admits no batch size at all.
pub(crate) fn exact_footprint(
    kind: ExactSource,
    step: &StepRequest,
    known: FixedMemory,
    budget_bytes: u64,
    plan: &PlanRequest,
    reserved: &dyn Fn(usize, Accumulates) -> Option<u64>,
) -> Result<Footprint, FootprintError> {
    let bounds = SearchBounds::of(plan);
    let observed = |accumulates| {
        let mut source = |batch| Ok::<u64, Infallible>(reserved(batch, accumulates).unwrap_or(u64::MAX));
        let Ok(observations) = observe(&mut source, budget_bytes, &bounds);
        observations
    };
    let footprint = Footprint::from_exact(kind, known, step.image_bytes(), &observed(Accumulates(false)))?;
    // A step that fits whole does not accumulate.
    match plan.effective_batch {
        Some(effective) if footprint.peak_bytes(effective) > budget_bytes || plan.micro_batch.is_some() => {
            footprint.with_accumulating_observations(&observed(Accumulates(true)))
        }
        _ => Ok(footprint),
    }
}

/// Whether a step sums the gradients of several micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accumulates(pub(crate) bool);
