//! Several cards of this machine: each alone, and the plan that all of them hold, computed in one way.

use memory_planner::{
    Budget, CardsLadderError, Footprint, MemoryAnalysis, PlanRequest, Rung, SharedRung, plan_for_cards_with_ladder,
};

use super::{Request, output, saving};
use crate::cli::PlanSource;
use crate::config::DeviceRequest;
use crate::error::CommandError;
use crate::run::absent::{PlannedCard, Recorded};
use crate::run::compute::Compute;
use crate::run::memory::{LearnError, Learner, Planned, refused};
use crate::run::precision::{Arithmetic, Precisions};
use crate::run::subject::Subject;

/// A card that takes part.
struct Participant<'a> {
    name: String,
    budget: Budget,
    arithmetic: Arithmetic,
    footprint_of: Box<dyn FnMut(Rung) -> Result<Footprint, LearnError> + 'a>,
}

/// Plans for cards by their numbers, prints the plans, and writes that of the smallest.
pub(super) fn plan_cards(request: &Request<'_>, ids: &[usize]) -> Result<(), CommandError> {
    let selected = ids.iter().map(|id| {
        let compute = request.select(Some(DeviceRequest::Cuda(*id)))?;
        let budget = compute.budget(&request.budget())?;
        Ok((compute, budget))
    });
    let selected: Vec<(Compute, Budget)> = selected.collect::<Result<_, CommandError>>()?;
    // Micro-batches above a card's share of the effective batch are not asked for.
    let (subject, plan) = (request.subject(), request.plan_request().dealt_round(ids.len()));
    let participants =
        selected.iter().map(|(compute, budget)| at_hand(&subject, compute, request.task.source, budget, &plan));
    let (shared, precisions, budget) = together(&subject, participants.collect(), &plan)?;
    let rate = request.rate.of_all_cards(shared.plans.global_batch)?;
    output::show_cards(&shared, rate.as_ref(), request.task.json)?;
    saving::save(request, &smallest(&subject, shared, &precisions, budget))
}

/// A card that is here.
fn at_hand<'a>(
    subject: &'a Subject<'a>,
    compute: &'a Compute,
    source: PlanSource,
    budget: &'a Budget,
    request: &'a PlanRequest,
) -> Participant<'a> {
    let (name, arithmetic) = (compute.selected.describe(), Arithmetic::of(&compute.selected));
    let footprint_of: Box<dyn FnMut(Rung) -> Result<Footprint, LearnError> + 'a> = match (source, &compute.selected) {
        (PlanSource::Captured, device::SelectedDevice::Cuda(card)) => {
            recorded(subject, PlannedCard::of_memory(card.total_bytes), budget, request)
        }
        _ => {
            let mut learner = Learner { subject, compute, source, budget, request, chosen: None };
            Box::new(move |rung| learner.footprint(rung))
        }
    };
    Participant { name, budget: budget.clone(), arithmetic, footprint_of }
}

/// What steps take on a card of which only the memory matters.
fn recorded<'a>(
    subject: &'a Subject<'a>,
    card: PlannedCard,
    budget: &'a Budget,
    request: &'a PlanRequest,
) -> Box<dyn FnMut(Rung) -> Result<Footprint, LearnError> + 'a> {
    let mut recorded = Recorded::of(subject);
    Box::new(move |rung| Ok(recorded.footprint(card.allocator(), rung, budget, request)?.0))
}

/// The plan that all of them hold, in a format that the oldest of them has; with the budget of the smallest.
fn together(
    subject: &Subject<'_>,
    mut participants: Vec<Participant<'_>>,
    request: &PlanRequest,
) -> Result<(SharedRung, Precisions, Budget), CommandError> {
    let all =
        participants.iter().map(|card| subject.precisions(card.arithmetic, &card.name).map(|of| (card.arithmetic, of)));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let oldest = all.into_iter().min_by_key(|(arithmetic, _)| arithmetic.capability());
    let (arithmetic, precisions) = oldest.ok_or_else(|| CommandError::wrong_request("no card is given to plan for"))?;
    let cards: Vec<(String, Budget)> =
        participants.iter().map(|card| (card.name.clone(), card.budget.clone())).collect();
    let mut footprint_of = |card: usize, rung| (participants[card].footprint_of)(rung);
    let rungs = subject.rungs(&precisions, false);
    match plan_for_cards_with_ladder(&rungs, &mut footprint_of, &cards, request) {
        Ok(shared) => {
            let budget = cards[shared.plans.smallest].1.clone();
            Ok((shared, precisions, budget))
        }
        Err(error @ CardsLadderError::NoCard) => Err(CommandError::from_request(&error)),
        Err(CardsLadderError::Card { name, source }) => {
            let budget = cards.iter().find(|(card, _)| *card == name).map_or(&cards[0].1, |(_, budget)| budget);
            let refused = refused(source, subject, budget, arithmetic.half());
            Err(refused.in_context(format!("card `{name}` cannot take part")))
        }
    }
}

/// The shared plan as one for the smallest card.
fn smallest(subject: &Subject<'_>, shared: SharedRung, precisions: &Precisions, budget: Budget) -> Planned {
    let SharedRung { rung, mut footprints, plans } = shared;
    let analysis = MemoryAnalysis {
        device: plans.cards[plans.smallest].name.clone(),
        model: subject.describe(),
        footprint: footprints.swap_remove(plans.smallest),
        budget,
        plan: plans.shared,
        at_peak: None,
    };
    Planned::new(subject, analysis, rung, precisions)
}

#[cfg(test)]
mod tests {
    use memory_planner::{BudgetRequest, Precision};

    use super::*;
    use crate::run::absent::catalogue_card;
    use crate::run::subject::bare_config;

    fn shared(model: &str, side: usize, cards: &[&str], request: &PlanRequest) -> Result<SharedRung, CommandError> {
        let resolved = bare_config(model, side)?;
        let architecture = resolved.architecture()?;
        let subject = Subject::without_data(&resolved, &architecture, 10);
        let cards: Vec<PlannedCard> = cards
            .iter()
            .map(|name| catalogue_card(name).map(|card| PlannedCard::of(card, None)))
            .collect::<Result<_, _>>()?;
        let budgets: Vec<Budget> =
            cards.iter().map(|card| card.budget(&BudgetRequest::default())).collect::<Result<_, _>>()?;
        let participants = cards.iter().zip(&budgets).map(|(card, budget)| Participant {
            name: card.title.clone(),
            budget: budget.clone(),
            arithmetic: card.arithmetic,
            footprint_of: recorded(&subject, card.clone(), budget, request),
        });
        Ok(together(&subject, participants.collect(), request)?.0)
    }

    fn request(effective: usize) -> PlanRequest {
        PlanRequest { effective_batch: Some(effective), ..PlanRequest::default() }
    }

    /// One has bf16, one fp16 alone, and one is best off in fp32: they share a step, so that they compute it in one format.
    #[test]
    fn cards_of_three_kinds_share_one_format_and_a_batch_that_fits_each() {
        let request = request(256);
        let shared = shared("convnext_atto", 224, &["rtx3060", "t4", "gtx1060-6gb"], &request).unwrap();
        assert_eq!(shared.rung.precision, Precision::Fp32);
        let plans = &shared.plans;
        assert_eq!(plans.cards[plans.smallest].name, "NVIDIA GeForce GTX 1060 6GB");
        assert_eq!(plans.global_batch, 256);
        assert!(plans.shared.micro_batch <= 86, "{:?}", plans.shared.micro_batches);
        assert_eq!(plans.shared.micro_batches.iter().sum::<usize>(), 256);
        for (card, footprint) in plans.cards.iter().zip(&shared.footprints) {
            let footprint =
                if plans.shared.accumulation_steps > 1 { footprint.accumulating() } else { footprint.clone() };
            assert!(footprint.peak_bytes(plans.shared.micro_batch) <= card.plan.budget_bytes, "{}", card.name);
        }
        assert!(plans.cards.iter().all(|card| card.plan.micro_batch >= plans.shared.micro_batch));
    }

    /// The rung is the first on which the smallest fits, for the large one, too.
    #[test]
    fn a_small_card_has_all_of_them_climb() {
        let shared = shared("convnext_large", 224, &["h100", "gtx1060-3gb"], &request(8));
        let error = shared.unwrap_err();
        assert!(error.message.contains("card `NVIDIA GeForce GTX 1060 3GB` cannot take part"), "{error}");
        let shared = self::shared(
            "convnext_base",
            384,
            &["h100", "rtx2060-6gb"],
            &PlanRequest { minimum: Some(6), ..request(64) },
        );
        let shared = shared.unwrap();
        assert_eq!(shared.rung.precision, Precision::Fp16);
        assert!(shared.plans.cards.iter().all(|card| card.plan.micro_batch >= 6));
    }
}
