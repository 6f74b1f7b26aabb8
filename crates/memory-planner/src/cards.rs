//! One plan for several cards.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::plan::split_in_words;
use crate::{Budget, Choice, Footprint, Plan, PlanError, PlanRequest, format_bytes, plan_batch_size};

/// A card that is to take part.
#[derive(Debug, Clone)]
pub struct CardToPlan<'a> {
    /// Its name: `cuda:0, NVIDIA GeForce RTX 3060`.
    pub name: String,
    /// What a step takes on it. Cards of the same kind share one.
    pub footprint: &'a Footprint,
    /// What a step may take on it.
    pub budget: Budget,
}

/// Plans for each of several cards, and one that all of them hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultiCardPlan {
    /// Each card with the plan that it could carry alone.
    pub cards: Vec<CardPlan>,
    /// The card whose memory decides, as an index into `cards`.
    pub smallest: usize,
    /// The plan of the smallest card, for all of them: cards that wait for each other go at the same pace only with the
    /// same micro-batch.
    pub shared: Plan,
    /// Samples per optimizer step over all cards: micro-batches of one card x cards.
    pub global_batch: usize,
    /// How the global batch came to be.
    pub choice: Choice,
}

/// A card and its plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CardPlan {
    /// The card.
    pub name: String,
    /// What it could carry alone.
    pub plan: Plan,
}

/// Plans `request` on each card, and takes the plan of the smallest for all of them. The request's effective batch is what
/// one card contributes to an optimizer step.
///
/// # Errors
/// A [`CardsError`] when there is no card, or a card cannot carry the request.
pub fn plan_for_cards(cards: &[CardToPlan<'_>], request: &PlanRequest) -> Result<MultiCardPlan, CardsError> {
    let plans: Vec<CardPlan> = cards
        .iter()
        .map(|card| match plan_batch_size(card.footprint, &card.budget, request) {
            Ok(plan) => Ok(CardPlan { name: card.name.clone(), plan }),
            Err(source) => Err(CardsError::Card { name: card.name.clone(), source }),
        })
        .collect::<Result<_, _>>()?;
    let size = |card: &CardPlan| (card.plan.micro_batch, card.plan.levels.maximum.batch, card.plan.budget_bytes);
    let smallest = (0..plans.len()).min_by_key(|index| size(&plans[*index])).ok_or(CardsError::NoCard)?;
    let shared = plans[smallest].plan.clone();
    let global_batch = shared.effective_batch.saturating_mul(plans.len());
    let choice = global_choice(&plans, smallest, global_batch);
    Ok(MultiCardPlan { cards: plans, smallest, shared, global_batch, choice })
}

fn global_choice(plans: &[CardPlan], smallest: usize, global_batch: usize) -> Choice {
    let card = &plans[smallest];
    let a_card = split_in_words(&card.plan.micro_batches);
    let reason = match plans.len() {
        1 => format!("one card: {a_card}"),
        count => {
            let budget = format_bytes(card.plan.budget_bytes);
            format!("{count} cards with {a_card} each, as the smallest holds: {}, {budget}", card.name)
        }
    };
    Choice::new("global batch", global_batch, reason)
}

/// Why there is no plan for all cards.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CardsError {
    /// Nothing to plan for.
    #[error("no card is given to plan for")]
    NoCard,
    /// One of them cannot carry the request.
    #[error("card `{name}` cannot take part")]
    Card {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: PlanError,
    },
}

impl CardsError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoCard => Some("pass `--gpu-ids 0`".to_owned()),
            Self::Card { source, .. } => source.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BudgetRequest, ExactSource, FixedMemory, MemoryReading, Observation, Tier};

    fn footprint() -> Footprint {
        let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
        let observations = [1, 2].map(|batch| Observation { batch, peak_bytes: 1_000 + 100 * batch as u64 });
        Footprint::from_exact(ExactSource::Captured, known, 1, &observations).unwrap()
    }

    fn plan(sizes: &[u64], effective: Option<usize>) -> Result<MultiCardPlan, CardsError> {
        let footprint = footprint();
        let cards: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(index, &bytes)| {
                let reading = MemoryReading { total_bytes: bytes, free_bytes: bytes, own_bytes: 0 };
                let budget = Budget::for_card(reading, Tier::LowEnd, &BudgetRequest::default()).unwrap();
                CardToPlan { name: format!("cuda:{index}"), footprint: &footprint, budget }
            })
            .collect();
        plan_for_cards(&cards, &PlanRequest { effective_batch: effective, ..PlanRequest::default() })
    }

    #[test]
    fn the_smallest_card_decides_for_all() {
        let plan = plan(&[20_000, 6_000, 9_000], Some(64)).unwrap();
        assert_eq!(plan.cards.iter().map(|card| card.plan.micro_batch).collect::<Vec<_>>(), [64, 32, 64]);
        assert_eq!((plan.smallest, plan.shared.micro_batch), (1, 32));
        assert_eq!(plan.shared.micro_batches.iter().sum::<usize>() * 3, plan.global_batch);
        assert_eq!(plan.global_batch, 192);
        assert_eq!(plan.choice.reason, "3 cards with 2 x 32 = 64 each, as the smallest holds: cuda:1, 5.3 KiB");
    }

    #[test]
    fn the_shared_plan_fits_every_card() {
        for smaller in (2_000..9_000).step_by(331) {
            for effective in [None, Some(7), Some(64), Some(100)] {
                let plan = plan(&[9_000, smaller, 12_000], effective).unwrap();
                for card in &plan.cards {
                    assert!(plan.shared.predicted_peak_bytes <= card.plan.budget_bytes, "{smaller} {effective:?}");
                }
                assert_eq!(plan.global_batch, 3 * plan.shared.effective_batch);
            }
        }
    }

    #[test]
    fn one_card_is_its_own_smallest_and_none_is_an_error() {
        let one = plan(&[9_000], Some(16)).unwrap();
        assert_eq!((one.global_batch, one.choice.reason.as_str()), (16, "one card: 16"));
        assert_eq!(plan(&[], Some(16)).unwrap_err(), CardsError::NoCard);
        let error = plan(&[9_000, 1_000], Some(16)).unwrap_err();
        assert_eq!(error.to_string(), "card `cuda:1` cannot take part");
        assert!(error.hint().unwrap().contains("model.name"));
    }
}
