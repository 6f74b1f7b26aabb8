use std::convert::Infallible;

use memory_planner::{ExactSource, FixedMemory, Footprint, FootprintError, PlanRequest, SearchBounds, observe};

use crate::StepRequest;

/// The footprint of a step from a source that is exact, for every batch size that a plan for `budget_bytes` asks about. `reserved` tells what a batch
/// takes, alone or as one of several micro-batches whose gradients are summed; `None` is a batch that the device cannot hold. What another source says of
/// the step is `expected`: with it few sizes are asked for.
///
/// # Errors
/// A [`FootprintError`] when the request admits no batch size at all.
pub(crate) fn exact_footprint(
    kind: ExactSource,
    step: &StepRequest,
    (known, expected): (FixedMemory, Option<&Footprint>),
    (budget_bytes, plan): (u64, &PlanRequest),
    reserved: &dyn Fn(usize, Accumulates) -> Option<u64>,
) -> Result<Footprint, FootprintError> {
    let observed = |accumulates| {
        let Accumulates(sums) = accumulates;
        let bounds = SearchBounds {
            expected: expected.map(|expected| if sums { expected.accumulating() } else { expected.clone() }),
            whole_steps_only: expected.is_some() && !sums,
            ..SearchBounds::of(plan)
        };
        let mut source = |batch| Ok::<u64, Infallible>(reserved(batch, accumulates).unwrap_or(u64::MAX));
        let Ok(observations) = observe(&mut source, budget_bytes, &bounds);
        observations
    };
    let mut footprint = Footprint::from_exact(kind, known, step.image_bytes(), &observed(Accumulates(false)))?;
    if let Some(expected) = expected {
        footprint = footprint.with_growth_of(expected, budget_bytes);
    }
    let footprint = footprint.with_accumulation_extra(known.gradients);
    match plan.effective_batch {
        Some(effective) if is_cut(plan, effective) || footprint.peak_bytes(effective) > budget_bytes => {
            footprint.with_accumulating_observations(&observed(Accumulates(true)))
        }
        // A step that is taken whole sums nothing.
        _ => Ok(footprint),
    }
}

/// Whether the request itself has the effective batch cut, whatever fits.
fn is_cut(plan: &PlanRequest, effective: usize) -> bool {
    [plan.micro_batch, plan.maximum].into_iter().flatten().any(|most| most < effective)
}

/// Whether a step sums the gradients of several micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accumulates(pub(crate) bool);

#[cfg(test)]
mod tests {
    use trainer::TrainOptions;

    use super::*;

    const SUMS: u64 = 400;

    /// 1000 bytes and 10 a sample, and the sums of gradients where there are any.
    fn footprint(plan: &PlanRequest) -> Footprint {
        let step = StepRequest {
            image: [1, 1, 1],
            num_classes: 2,
            options: TrainOptions::default(),
            accumulates: false,
            checkpointing: false,
            predicts: false,
        };
        let known = FixedMemory { weights: 500, gradients: SUMS, ..FixedMemory::default() };
        let reserved = |batch: usize, Accumulates(sums): Accumulates| {
            Some(1_000 + 10 * batch as u64 + if sums { SUMS } else { 0 })
        };
        exact_footprint(ExactSource::Captured, &step, (known, None), (100_000, plan), &reserved).unwrap()
    }

    /// 128 images would fit at once many times over. A maximum of 16 has them accumulated all the same.
    #[test]
    fn a_step_that_a_maximum_cuts_holds_the_sums_of_its_gradients() {
        let whole = PlanRequest { effective_batch: Some(128), ..PlanRequest::default() };
        assert_eq!(footprint(&whole).peak_bytes(128), 2_280);
        for cut in
            [PlanRequest { maximum: Some(16), ..whole.clone() }, PlanRequest { micro_batch: Some(16), ..whole.clone() }]
        {
            let accumulating = footprint(&cut).accumulating();
            assert_eq!(accumulating.peak_bytes(16), 1_160 + SUMS, "{cut:?}");
            assert_eq!(accumulating.fixed.gradients, 2 * SUMS);
        }
    }

    /// A plan may be cut later, as for several cards of which one is small: what was not evaluated is added.
    #[test]
    fn sums_that_were_not_evaluated_are_added() {
        let whole = PlanRequest { effective_batch: Some(128), ..PlanRequest::default() };
        assert_eq!(footprint(&whole).accumulating().peak_bytes(16), 1_160 + SUMS);
    }
}
