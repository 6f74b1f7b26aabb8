//! The footprint of a step on the device that will train: its own allocator, fusion and choice of kernels, and everything but the computing.

use std::cell::RefCell;

use burn::cubecl::dry_run::DryRun;
use burn::tensor::Device;
use memory_planner::{ExactSource, Footprint, FootprintError, PlanRequest};
use vision_nn::Classifier;

use crate::exact::{Accumulates, exact_footprint};
use crate::rehearsal::{NoPrompter, Rehearsal};
use crate::{StepRequest, capture_step, fixed_memory};

/// The second step meets pools that the first one has cut.
const STEPS: usize = 2;

/// What a dry run is for.
#[derive(Debug, Clone, Copy)]
pub struct DryRunTask<'a> {
    /// No plan takes more.
    pub budget_bytes: u64,
    /// The plan that the footprint is for.
    pub plan: &'a PlanRequest,
    /// The footprint of the recorded step, where it is at hand: most sizes need not be run then.
    pub expected: Option<&'a Footprint>,
    /// Images that an epoch has, where they are known: those of its last step are run too, so that their kernels are tuned here and not in the run.
    pub train_samples: Option<usize>,
    /// A number that is another one as soon as a kernel has been tuned; `None` where that is not known. A size that finds its kernels tuned is run once
    /// less.
    pub tuned: fn() -> Option<u64>,
}

/// The footprint of a step on `device`, which must be one of CubeCL's, for every batch size that a plan asks about.
///
/// Kernels that were never tuned for a shape are tuned first, for real: that takes time, and memory for the shape's own tensors. So no batch is asked for
/// that a step would not have at once; beyond the effective batch the footprint goes on as it has grown, or as the recorded step's does.
///
/// # Errors
/// A [`FootprintError`] when the request admits no batch size at all.
pub fn dry_run_footprint<M: Classifier>(
    request: &StepRequest,
    device: &Device,
    build: &dyn Fn(&Device) -> M,
    task: &DryRunTask<'_>,
) -> Result<Footprint, FootprintError> {
    let from_recording = || fixed_memory(&capture_step(request, 2, build));
    let known = task.expected.map_or_else(from_recording, |expected| expected.fixed);
    let dry = DryRun::new();
    let rehearsed = RefCell::new(None);
    let rehearse = |run: &dyn Fn(&mut Rehearsal<'_, M>) -> Option<u64>| {
        let mut rehearsal = rehearsed.take().unwrap_or_else(|| clean_rehearsal(request, device, build));
        let reserved = run(&mut rehearsal)?;
        // What a failed step leaves behind is not gone on with.
        rehearsed.replace(Some(rehearsal));
        Some(reserved)
    };
    // A buffer that is larger than the device gives at once ends the process, so that such a step is not run.
    let is_hopeless = |batch| task.expected.is_some_and(|expected| expected.peak_bytes(batch) == u64::MAX);
    let reserved = |batch, Accumulates(accumulates)| {
        if is_hopeless(batch) {
            return None;
        }
        rehearse(&|rehearsal: &mut _| dry_reserved(rehearsal, batch, accumulates, (device, task.tuned)))
    };
    let (budget_bytes, plan) = (task.budget_bytes, within_a_step(task.plan));
    let bounds = (budget_bytes, &plan);
    let footprint = exact_footprint(ExactSource::DryRun, request, (known, task.expected), bounds, &reserved);
    if let (Ok(footprint), Some(samples)) = (&footprint, task.train_samples) {
        for batch in smaller_passes(footprint, budget_bytes, plan.effective_batch, samples) {
            rehearse(&|rehearsal: &mut _| reserved_after(1, rehearsal, batch, device));
        }
    }
    drop((rehearsed, dry));
    device.memory_cleanup();
    footprint
}

/// The passes of a step that is cut at the largest batch that fits, and of the last step of an epoch, that are smaller than the others.
fn smaller_passes(footprint: &Footprint, budget_bytes: u64, effective: Option<usize>, samples: usize) -> Vec<usize> {
    let Some(effective) = effective else { return Vec::new() };
    let fits = |batch: &usize| footprint.step_peak_bytes(effective, *batch) <= budget_bytes;
    let largest = footprint.largest_observed_batch().map_or(effective, |largest| largest.min(effective));
    let Some(micro) = (1..=largest).rev().find(fits) else { return Vec::new() };
    let mut smaller = vec![effective % micro, samples % effective % micro];
    smaller.retain(|batch| *batch > 0);
    smaller.dedup();
    smaller
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
    let mut rehearsal = clean_rehearsal(request, device, build);
    let reserved = dry_reserved(&mut rehearsal, batch, request.accumulates, (device, || None));
    drop((rehearsal, dry));
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
    let mut rehearsal = clean_rehearsal(request, device, build);
    let reserved = reserved_after(STEPS, &mut rehearsal, batch, device);
    at_the_end();
    drop(rehearsal);
    device.memory_cleanup();
    reserved
}

/// A model of its own with its optimizer, in pools that hold nothing else.
fn clean_rehearsal<'a, M: Classifier>(
    request: &'a StepRequest,
    device: &Device,
    build: &dyn Fn(&Device) -> M,
) -> Rehearsal<'a, M> {
    // A device that has failed before fails in the steps too.
    let _ = device.sync();
    device.memory_cleanup();
    Rehearsal::new(request, device, build)
}

/// What steps of a dry run reserve. Where the first one has tuned, or may have, what that took is given back, and they begin anew.
fn dry_reserved<M: Classifier>(
    rehearsal: &mut Rehearsal<'_, M>,
    batch: usize,
    accumulates: bool,
    (device, tuned): (&Device, fn() -> Option<u64>),
) -> Option<u64> {
    rehearsal.accumulates = accumulates;
    let before = tuned();
    reserved_after(1, rehearsal, batch, device)?;
    match before.is_some() && tuned() == before {
        true => reserved_after_more(STEPS - 1, rehearsal, batch, device),
        false => reserved_after(STEPS, rehearsal, batch, device),
    }
}

/// What the pools hold reserved after so many steps that found nothing in them but the model and its optimizer.
fn reserved_after<M: Classifier>(
    steps: usize,
    rehearsal: &mut Rehearsal<'_, M>,
    batch: usize,
    device: &Device,
) -> Option<u64> {
    device.sync().ok()?;
    device.memory_cleanup();
    reserved_after_more(steps, rehearsal, batch, device)
}

/// The same after steps that found what others had left.
fn reserved_after_more<M: Classifier>(
    steps: usize,
    rehearsal: &mut Rehearsal<'_, M>,
    batch: usize,
    device: &Device,
) -> Option<u64> {
    for _ in 0..steps {
        rehearsal.run(batch, &mut NoPrompter);
        device.sync().ok()?;
    }
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

#[cfg(test)]
mod tests {
    use memory_planner::{FixedMemory, Observation};

    use super::*;

    #[test]
    fn the_passes_that_are_smaller_than_the_others_are_run_too() {
        let seen = [(1, 110), (16, 260), (24, 340)].map(|(batch, peak_bytes)| Observation { batch, peak_bytes });
        let footprint = Footprint::from_exact(ExactSource::DryRun, FixedMemory::default(), 1, &seen).unwrap();
        let of = |budget, effective, samples| smaller_passes(&footprint, budget, Some(effective), samples);
        assert_eq!(of(400, 16, 24), [8], "the last step of an epoch");
        assert!(of(400, 16, 32).is_empty());
        assert_eq!(of(260, 24, 48), [8], "what is left of a step that is cut at 16");
        assert_eq!(of(260, 24, 50), [8, 2]);
        assert!(of(90, 24, 50).is_empty(), "nothing fits");
    }

    #[test]
    fn no_batch_is_asked_for_that_a_step_would_not_have_at_once() {
        let plan = PlanRequest { effective_batch: Some(8), ..PlanRequest::default() };
        assert_eq!(within_a_step(&plan).maximum, Some(8));
        assert_eq!(within_a_step(&PlanRequest { maximum: Some(4), ..plan.clone() }).maximum, Some(4));
        assert_eq!(within_a_step(&PlanRequest { maximum: Some(16), ..plan }).maximum, Some(8));
        assert_eq!(within_a_step(&PlanRequest::default()).maximum, None);
    }
}
