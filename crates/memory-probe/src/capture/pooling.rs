//! Which pools hold the largest batch of a recorded step.

use std::convert::Infallible;

use memory_planner::{LARGEST_BATCH, PlanRequest, largest_fitting_batch, largest_fitting_batch_from};

use super::{AllocatorModel, CapturedSource, fixed_memory};
use crate::PoolLayout;
use crate::exact::Accumulates;
use crate::pools::PAGE_COUNTS;

/// Pools, and what they gain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChosenPools {
    /// The pools.
    pub layout: PoolLayout,
    /// The largest micro-batch that fits in them, as far as the plan asks.
    pub largest: usize,
    /// The largest that fits in CubeCL's own.
    pub largest_in_runtime: usize,
}

impl CapturedSource<'_> {
    /// The pools that hold the largest micro-batch within `budget_bytes`. CubeCL's own stay where the plan gains nothing by others: they take less
    /// than the whole budget when a step does.
    pub fn best_pools(&self, allocator: AllocatorModel, budget_bytes: u64, plan: &PlanRequest) -> ChosenPools {
        let known = fixed_memory(self.alone.trace());
        // Running statistics lie with the weights.
        let apart = known.weights + known.buffers;
        let pages = PAGE_COUNTS.map(|count| PoolLayout::pages(count, budget_bytes, apart));
        let layouts = [PoolLayout::Runtime].into_iter().chain(pages);
        let search = Search { source: self, allocator, budget_bytes };
        let limit = plan.maximum.unwrap_or(LARGEST_BATCH);
        if let Some(whole) = plan.effective_batch.filter(|effective| *effective <= limit && plan.micro_batch.is_none())
            && let Some(layout) = layouts.clone().find(|layout| search.fits(*layout, whole, Accumulates(false)))
        {
            let largest_in_runtime = if layout == PoolLayout::Runtime {
                whole
            } else {
                search.largest(PoolLayout::Runtime, whole - 1, Accumulates(true))
            };
            return ChosenPools { layout, largest: whole, largest_in_runtime };
        }
        let limit = plan.micro_batch.or(plan.effective_batch).unwrap_or(LARGEST_BATCH).min(limit);
        let accumulates = Accumulates(plan.effective_batch.is_some());
        let in_runtime = search.largest(PoolLayout::Runtime, limit, accumulates);
        let mut best = ChosenPools { layout: PoolLayout::Runtime, largest: in_runtime, largest_in_runtime: in_runtime };
        for layout in layouts {
            // One question is enough for pools that gain nothing.
            if best.largest < limit && search.fits(layout, best.largest + 1, accumulates) {
                let Ok(largest) = largest_fitting_batch_from(best.largest + 1, limit, budget_bytes, |batch| {
                    Ok::<u64, Infallible>(search.reserved(layout, batch, accumulates))
                });
                if plan.micro_batch.is_some()
                    || plan.rounding.round_down(largest) > plan.rounding.round_down(best.largest)
                {
                    best = ChosenPools { layout, largest, ..best };
                }
            }
        }
        best
    }
}

struct Search<'a> {
    source: &'a CapturedSource<'a>,
    allocator: AllocatorModel,
    budget_bytes: u64,
}

impl Search<'_> {
    fn fits(&self, layout: PoolLayout, batch: usize, accumulates: Accumulates) -> bool {
        self.reserved(layout, batch, accumulates) <= self.budget_bytes
    }

    fn largest(&self, layout: PoolLayout, limit: usize, accumulates: Accumulates) -> usize {
        let Ok(largest) = largest_fitting_batch(limit, self.budget_bytes, |batch| {
            Ok::<u64, Infallible>(self.reserved(layout, batch, accumulates))
        });
        largest
    }

    fn reserved(&self, layout: PoolLayout, batch: usize, accumulates: Accumulates) -> u64 {
        let step = self.source.step(accumulates);
        step.reserved_bytes(batch, self.allocator.with_pools(layout)).unwrap_or(u64::MAX)
    }
}
