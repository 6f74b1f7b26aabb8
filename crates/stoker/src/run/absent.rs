//! Plans for cards that are not here: the step is recorded, not run.

use burn::tensor::Device;
use device::{Card, CardCatalogue};
use memory_planner::{
    Budget, BudgetRequest, Footprint, FootprintError, LadderError, MemoryAnalysis, PlanRequest, Rung, Tier,
    plan_with_ladder,
};
use memory_probe::{AllocatorModel, CapturedSource, ChosenPools};

use crate::error::CommandError;
use crate::run::memory::{Planned, tell_pools};
use crate::run::precision::{Arithmetic, Precisions};
use crate::run::subject::Subject;

/// A card as far as a plan needs to know it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlannedCard {
    /// Its name in words.
    pub(crate) title: String,
    /// Its name in the catalogue, where it has one.
    pub(crate) name: Option<String>,
    pub(crate) memory_bytes: u64,
    pub(crate) usable_bytes: u64,
    pub(crate) tier: Tier,
    pub(crate) arithmetic: Arithmetic,
}

/// The card of a name.
///
/// # Errors
/// A card that the catalogue does not have; the hint has the nearest names.
pub(crate) fn catalogue_card(name: &str) -> Result<&'static Card, CommandError> {
    let found = CardCatalogue::embedded().find(name);
    found.map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))
}

/// Of a card's memory, what its driver and a CUDA context keep: the rule of `configs/gpus.yaml`.
const KEPT_BYTES: u64 = 512 << 20;

/// Compute capability taken for a card that is known by its memory alone: Turing, the middle of what is in use.
const ASSUMED_CAPABILITY: (u32, u32) = (7, 5);

impl PlannedCard {
    /// A card of the catalogue, with less memory where `memory_bytes` says so.
    pub(crate) fn of(card: &Card, memory_bytes: Option<u64>) -> Self {
        let kept = card.memory_bytes - card.usable_bytes;
        let memory = memory_bytes.unwrap_or(card.memory_bytes);
        let limited = if memory == card.memory_bytes {
            String::new()
        } else {
            format!(" with {}", memory_planner::format_bytes(memory))
        };
        Self {
            title: format!("{}{limited}", card.title),
            name: Some(card.name.clone()),
            memory_bytes: memory,
            usable_bytes: memory.saturating_sub(kept),
            tier: card.tier,
            arithmetic: Arithmetic::Card(card.compute_capability),
        }
    }

    /// A card that is known by its memory alone.
    pub(crate) fn of_memory(memory_bytes: u64) -> Self {
        Self {
            title: format!("a card with {}", memory_planner::format_bytes(memory_bytes)),
            name: None,
            memory_bytes,
            usable_bytes: memory_bytes.saturating_sub(KEPT_BYTES),
            tier: Tier::of_unknown_card(memory_bytes, ASSUMED_CAPABILITY),
            arithmetic: Arithmetic::UnknownCard,
        }
    }

    /// What a run may take of it, with nothing else on it.
    pub(crate) fn budget(&self, request: &BudgetRequest) -> Result<Budget, CommandError> {
        Budget::for_absent_card(self.memory_bytes, self.usable_bytes, self.tier, request)
            .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))
    }

    /// How CubeCL would manage its memory.
    pub(crate) fn allocator(&self) -> AllocatorModel {
        AllocatorModel::cuda(self.memory_bytes)
    }
}

/// A step recorded once for each way to compute it, to plan for any number of cards.
pub(crate) struct Recorded<'a> {
    subject: &'a Subject<'a>,
    sources: Vec<(Rung, CapturedSource<'a>)>,
}

impl<'a> Recorded<'a> {
    /// Nothing is recorded before it is asked for.
    pub(crate) fn of(subject: &'a Subject<'a>) -> Self {
        Self { subject, sources: Vec::new() }
    }

    /// Plans the step for a card, in one of the formats that it may be computed in.
    pub(crate) fn plan(
        &mut self,
        card: &PlannedCard,
        precisions: &Precisions,
        budget: Budget,
        request: &PlanRequest,
    ) -> Result<Planned, LadderError<FootprintError>> {
        let subject = self.subject;
        let mut chosen = None;
        let mut footprint_of = |rung| {
            let (footprint, pools) = self.footprint(card.allocator(), rung, &budget, request)?;
            chosen = Some(pools);
            Ok::<_, FootprintError>(footprint)
        };
        let rungs = subject.rungs(precisions, false);
        let (rung, footprint, mut plan) = plan_with_ladder(&rungs, &mut footprint_of, &budget, request)?;
        tell_pools(&mut plan, chosen, &budget);
        let (device, model) = (card.title.clone(), subject.describe());
        let analysis = MemoryAnalysis { device, model, footprint, budget, plan, at_peak: None };
        Ok(Planned::new(subject, analysis, rung, precisions))
    }

    /// What a step takes that is computed as `rung` says, in the pools that hold most.
    pub(crate) fn footprint(
        &mut self,
        allocator: AllocatorModel,
        rung: Rung,
        budget: &Budget,
        request: &PlanRequest,
    ) -> Result<(Footprint, ChosenPools), FootprintError> {
        let source = self.source(rung);
        let pools = source.best_pools(allocator, budget.budget_bytes, request);
        let footprint = source.footprint(allocator.with_pools(pools.layout), budget.budget_bytes, request)?;
        Ok((footprint, pools))
    }

    fn source(&mut self, rung: Rung) -> &CapturedSource<'a> {
        let known = self.sources.iter().position(|(recorded, _)| *recorded == rung);
        let position = known.unwrap_or_else(|| {
            let subject = self.subject;
            let build = |device: &Device| subject.build(device);
            self.sources.push((rung, CapturedSource::record(&subject.step(rung), build)));
            self.sources.len() - 1
        });
        &self.sources[position].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hint speaks of "a card with at least so much": whichever of the catalogue it is, of whatever tier, and with error correction or without.
    #[test]
    fn every_card_of_the_catalogue_that_is_as_large_as_a_hint_says_holds_the_step() {
        let mut checked = 0;
        for needed_mib in (900..60_000).step_by(777) {
            let needed_bytes = needed_mib << 20;
            let known = memory_planner::FixedMemory { weights: needed_bytes, ..Default::default() };
            let one = [memory_planner::Observation { batch: 1, peak_bytes: needed_bytes }];
            let mut footprint_of = |_| Footprint::from_exact(memory_planner::ExactSource::Captured, known, 0, &one);
            let smallest = PlannedCard::of_memory(700 << 20);
            let budget = smallest.budget(&BudgetRequest::default()).unwrap();
            let request = PlanRequest { effective_batch: Some(1), ..PlanRequest::default() };
            let refused = plan_with_ladder(&[Rung::default()], &mut footprint_of, &budget, &request).unwrap_err();
            let hint = refused.hint().unwrap();
            assert!(!hint.contains("free memory"), "nobody can on a card that is not here: {hint}");
            let (_, size) = hint.split_once("a card with at least ").unwrap();
            let size = memory_planner::parse_bytes(size).unwrap();
            for card in CardCatalogue::embedded().cards.iter().filter(|card| card.memory_bytes >= size) {
                let budget = PlannedCard::of(card, None).budget(&BudgetRequest::default()).unwrap();
                let planned = plan_with_ladder(&[Rung::default()], &mut footprint_of, &budget, &request);
                let refused: Option<LadderError<FootprintError>> = planned.err();
                assert!(refused.is_none(), "{}: {needed_mib} MiB, told {hint}", card.name);
                checked += 1;
            }
        }
        assert!(checked > 500, "{checked}");
    }
}
