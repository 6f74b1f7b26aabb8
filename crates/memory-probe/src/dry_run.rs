//! The footprint of a step on the device that will train: its own allocator, fusion and choice of kernels, and everything but the computing.

use burn::cubecl::dry_run::DryRun;
use burn::tensor::Device;
use memory_planner::{ExactSource, Footprint, FootprintError, PlanRequest};
use vision_nn::Classifier;

use crate::exact::{Accumulates, exact_footprint};
use crate::rehearsal::{NoPrompter, Rehearsal};
use crate::{StepRequest, capture_step, fixed_memory};

/// The footprint of a step on `device`, which must be one of CubeCL's, for every batch size that a plan for `budget_bytes` asks about.
///
/// Kernels that were never tuned for a shape are tuned first, for real: that takes time, and memory for the shape's own tensors. So no batch is asked for
/// that a step would not have at once; beyond the effective batch the footprint goes on as it has grown.
///
/// # Errors
/// A [`FootprintError`] when the request admits no batch size at all.
pub fn dry_run_footprint<M: Classifier>(
    request: &StepRequest,
    device: &Device,
    build: &dyn Fn(&Device) -> M,
    budget_bytes: u64,
    plan: &PlanRequest,
) -> Result<Footprint, FootprintError> {
    let known = fixed_memory(&capture_step(request, 2, build));
    let reserved = |batch, Accumulates(accumulates)| {
        dry_run_reserved(&StepRequest { accumulates, ..request.clone() }, batch, device, build)
    };
    exact_footprint(ExactSource::DryRun, request, known, budget_bytes, &within_a_step(plan), &reserved)
}

/// The same plan, with no batch beyond the effective one.
fn within_a_step(plan: &PlanRequest) -> PlanRequest {
    let largest = [plan.maximum, plan.effective_batch].into_iter().flatten().min();
    PlanRequest { maximum: largest, ..plan.clone() }
}

/// Bytes that the device's pools hold reserved after optimizer steps over micro-batches of `batch`, none of them computed. `None` when the
/// device could not hold them.
pub fn dry_run_reserved<M: Classifier>(
    request: &StepRequest,
    batch: usize,
    device: &Device,
    build: &dyn Fn(&Device) -> M,
) -> Option<u64> {
    let dry = DryRun::new();
    // The first pass tunes, and what tuning takes stays in the pools until they are cleaned up.
    let again = || reserved_after_steps(request, batch, device, build, &mut || {});
    let reserved = again().and_then(|_| again());
    drop(dry);
    device.memory_cleanup();
    reserved
}

/// The same with computing: what a dry run is held against. `at_the_end` is called while the pools hold all of it.
pub fn reserved_by_real_steps<M: Classifier>(
    request: &StepRequest,
    batch: usize,
    device: &Device,
    build: &dyn Fn(&Device) -> M,
    at_the_end: &mut dyn FnMut(),
) -> Option<u64> {
    let reserved = reserved_after_steps(request, batch, device, build, at_the_end);
    device.memory_cleanup();
    reserved
}

/// Two steps: the first makes the optimizer's state, the second has it from its start.
fn reserved_after_steps<M: Classifier>(
    request: &StepRequest,
    batch: usize,
    device: &Device,
    build: &dyn Fn(&Device) -> M,
    at_the_end: &mut dyn FnMut(),
) -> Option<u64> {
    device.sync().ok()?;
    device.memory_cleanup();
    let mut rehearsal = Rehearsal::new(request, device, build);
    for _ in 0..2 {
        rehearsal.run(batch, &mut NoPrompter);
        device.sync().ok()?;
    }
    let usage = device.memory_pool_usage();
    at_the_end();
    drop(rehearsal);
    device.sync().ok()?;
    usage.map(|usage| usage.bytes_reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_is_asked_for_that_a_step_would_not_have_at_once() {
        let plan = PlanRequest { effective_batch: Some(8), ..PlanRequest::default() };
        assert_eq!(within_a_step(&plan).maximum, Some(8));
        assert_eq!(within_a_step(&PlanRequest { maximum: Some(4), ..plan.clone() }).maximum, Some(4));
        assert_eq!(within_a_step(&PlanRequest { maximum: Some(16), ..plan }).maximum, Some(8));
        assert_eq!(within_a_step(&PlanRequest::default()).maximum, None);
    }
}
