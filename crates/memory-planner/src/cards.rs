//! One plan for several cards.

use std::error::Error;

use serde::{Deserialize, Serialize};

use crate::ladder::climbed;
use crate::levels::largest_batch;
use crate::plan::split_in_words;
use crate::{
    Budget, Choice, Footprint, LARGEST_EFFECTIVE_BATCH, LadderError, NothingFits, Plan, PlanError, PlanRequest, Rung,
    RungNeed, format_bytes, plan_batch_size,
};

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
    /// same micro-batch. Its micro-batches are dealt round the cards.
    pub shared: Plan,
    /// Samples per optimizer step over all cards: the effective batch of `shared`.
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

/// One way to compute the step, for all of several cards.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedRung {
    /// The way.
    pub rung: Rung,
    /// What a step computed so takes on each card.
    pub footprints: Vec<Footprint>,
    /// The plans, each computed so.
    pub plans: MultiCardPlan,
}

/// Plans `request` on each card, and takes the plan of the smallest for all of them, once every card is known to hold it. The request's effective
/// batch is that of all cards together, of which no micro-batch takes more than a card's share; without one, every card has one micro-batch of a step.
///
/// # Errors
/// A [`CardsError`] when there is no card, or a card cannot carry the request.
pub fn plan_for_cards(cards: &[CardToPlan<'_>], request: &PlanRequest) -> Result<MultiCardPlan, CardsError> {
    let request = &request.clone().dealt_round(cards.len());
    let plans: Vec<CardPlan> = cards
        .iter()
        .map(|card| Ok(CardPlan { name: card.name.clone(), plan: plan_on(card, request)? }))
        .collect::<Result<_, _>>()?;
    let size = |card: &CardPlan| (card.plan.micro_batch, card.plan.levels.maximum.batch, card.plan.budget_bytes);
    let smallest = (0..plans.len()).min_by_key(|index| size(&plans[*index])).ok_or(CardsError::NoCard)?;
    let mut shared = held_by_all(cards, plans[smallest].plan.clone(), smallest, request)?;
    if request.effective_batch.is_none() && cards.len() > 1 {
        shared = one_pass_each(cards, shared.micro_batch, smallest, request)?;
    }
    let choice = global_choice(&plans[smallest].name, &shared, plans.len());
    Ok(MultiCardPlan { global_batch: shared.effective_batch, cards: plans, smallest, shared, choice })
}

/// A step in which each card has a micro-batch of at most `largest`. It keeps sums of gradients, so that it may have to be less than what fits alone.
fn one_pass_each(
    cards: &[CardToPlan<'_>],
    largest: usize,
    smallest: usize,
    request: &PlanRequest,
) -> Result<Plan, CardsError> {
    let mut largest = with_sums_on_all(cards, largest, request).min(LARGEST_EFFECTIVE_BATCH / cards.len().max(1));
    loop {
        let effective_batch = Some(largest.saturating_mul(cards.len()));
        let request =
            PlanRequest { effective_batch, maximum: Some(largest), ..request.clone() }.dealt_round(cards.len());
        let plan = held_by_all(cards, plan_on(&cards[smallest], &request)?, smallest, &request)?;
        if plan.micro_batch == largest {
            return Ok(plan);
        }
        largest = plan.micro_batch;
    }
}

/// What every card holds beside its sums of gradients, rounded and at most `largest`: a step of more would be cut in two even rounds, each of which leaves
/// much memory unused. `largest` as it is where the user chose the micro-batch, and where a card does not hold the fewest samples, which is then refused.
fn with_sums_on_all(cards: &[CardToPlan<'_>], largest: usize, request: &PlanRequest) -> usize {
    let held = |card: &CardToPlan<'_>| largest_batch(&card.footprint.accumulating(), card.budget.budget_bytes, largest);
    let least = cards.iter().map(held).min().unwrap_or(largest);
    let minimum = request.minimum.unwrap_or(1);
    if request.micro_batch.is_some() || least < minimum || least == largest {
        return largest;
    }
    request.rounding.round_down(least).max(minimum)
}

/// As [`plan_for_cards`], on the first of `rungs` on which every card carries the request: cards that share an optimizer step compute it alike.
/// `footprint_of` is asked for a card, by its index, and a rung.
///
/// # Errors
/// A [`CardsLadderError`] when no rung fits every card, with the card that is in the way on the last one.
pub fn plan_for_cards_with_ladder<E: Error + 'static>(
    rungs: &[Rung],
    footprint_of: &mut dyn FnMut(usize, Rung) -> Result<Footprint, E>,
    cards: &[(String, Budget)],
    request: &PlanRequest,
) -> Result<SharedRung, CardsLadderError<E>> {
    let mut failed: Vec<RungNeed> = Vec::new();
    let mut in_the_way = None;
    for &rung in rungs {
        let footprints: Vec<Footprint> = (0..cards.len())
            .map(|index| {
                let refused = |source| LadderError::Footprint { rung, source };
                footprint_of(index, rung).map_err(|error| of_card(&cards[index].0, refused(error)))
            })
            .collect::<Result<_, _>>()?;
        let named = cards.iter().zip(&footprints);
        let to_plan: Vec<CardToPlan<'_>> = named
            .map(|((name, budget), footprint)| CardToPlan { name: name.clone(), footprint, budget: budget.clone() })
            .collect();
        match plan_for_cards(&to_plan, request) {
            Ok(mut plans) => {
                let budget = &cards[plans.smallest].1;
                plans.shared.choices.splice(0..0, climbed(rung, &footprints[plans.smallest], &failed, budget));
                return Ok(SharedRung { rung, footprints, plans });
            }
            Err(CardsError::Card { name, source: PlanError::DoesNotFit { batch, breakdown, way_out, .. } }) => {
                failed.push(RungNeed { rung, batch, needed_bytes: breakdown.total });
                in_the_way = Some((name, way_out));
            }
            Err(CardsError::Card { name, source }) => return Err(of_card(&name, LadderError::Request(source))),
            Err(CardsError::NoCard) => return Err(CardsLadderError::NoCard),
        }
    }
    let Some((name, way_out)) = in_the_way else { return Err(CardsLadderError::NoCard) };
    let budget = cards.iter().find(|(card, _)| *card == name).map(|(_, budget)| budget.clone());
    let budget = budget.ok_or(CardsLadderError::NoCard)?;
    Err(of_card(&name, LadderError::NothingFits(Box::new(NothingFits { needs: failed, budget, way_out }))))
}

fn of_card<E: Error + 'static>(name: &str, source: LadderError<E>) -> CardsLadderError<E> {
    CardsLadderError::Card { name: name.to_owned(), source }
}

fn plan_on(card: &CardToPlan<'_>, request: &PlanRequest) -> Result<Plan, CardsError> {
    let planned = plan_batch_size(card.footprint, &card.budget, request);
    planned.map_err(|source| CardsError::Card { name: card.name.clone(), source })
}

/// The smallest card's plan, with a smaller micro-batch where another card cannot hold this one: a card that takes the whole batch at once keeps no
/// sums, and may not have room for them; and cards of other sizes cut their memory otherwise.
fn held_by_all(
    cards: &[CardToPlan<'_>],
    mut shared: Plan,
    smallest: usize,
    request: &PlanRequest,
) -> Result<Plan, CardsError> {
    while let Some(too_small) = cards.iter().find(|card| !holds(card, &shared)) {
        let Some(fewer) = shared.micro_batch.checked_sub(1).filter(|fewer| *fewer >= request.minimum.unwrap_or(1))
        else {
            let accumulating = too_small.footprint.accumulating();
            let source = PlanError::does_not_fit(&accumulating, &too_small.budget, shared.micro_batch, 0);
            return Err(CardsError::Card { name: too_small.name.clone(), source });
        };
        shared = plan_on(&cards[smallest], &PlanRequest { maximum: Some(fewer), ..request.clone() })?;
    }
    Ok(shared)
}

fn holds(card: &CardToPlan<'_>, plan: &Plan) -> bool {
    let peak_bytes = match plan.accumulation_steps {
        1 => card.footprint.peak_bytes(plan.micro_batch),
        _ => card.footprint.accumulating().peak_bytes(plan.micro_batch),
    };
    peak_bytes <= card.budget.budget_bytes
}

fn global_choice(smallest: &str, shared: &Plan, count: usize) -> Choice {
    let step = split_in_words(&shared.micro_batches);
    let reason = match count {
        1 => format!("one card: {step}"),
        count => {
            let budget = format_bytes(shared.budget_bytes);
            format!("{step} dealt round {count} cards, as the smallest holds: {smallest}, {budget}")
        }
    };
    Choice::new("global batch", shared.effective_batch, reason)
}

/// Why there is no plan for all cards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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

/// Why no way to compute the step carries a plan for all cards.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CardsLadderError<E: Error + 'static> {
    /// Nothing to plan for.
    #[error("no card is given to plan for")]
    NoCard,
    /// One of them is in the way.
    #[error("card `{name}` cannot take part")]
    Card {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: LadderError<E>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BudgetRequest, ExactSource, FixedMemory, MemoryReading, Observation, Precision, Tier};

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
        let plan = plan(&[20_000, 6_000, 9_000], Some(192)).unwrap();
        assert_eq!(plan.cards.iter().map(|card| card.plan.micro_batch).collect::<Vec<_>>(), [64, 32, 64]);
        assert_eq!((plan.smallest, plan.shared.micro_batch), (1, 32), "44 would fit, and make one card's turn longer");
        assert_eq!(plan.shared.micro_batches.iter().sum::<usize>(), plan.global_batch);
        assert_eq!(plan.global_batch, 192);
        let reason = "6 x 32 = 192 dealt round 3 cards, as the smallest holds: cuda:1, 5.3 KiB";
        assert_eq!(plan.choice.reason, reason);
    }

    #[test]
    fn every_card_has_a_part_of_a_step_that_one_alone_would_hold() {
        assert_eq!(plan(&[20_000, 20_000], Some(64)).unwrap().shared.micro_batches, [32, 32]);
        assert_eq!(plan(&[20_000, 20_000, 20_000], Some(64)).unwrap().shared.micro_batches, [22, 22, 20]);
        let free = plan(&[20_000, 6_000], None).unwrap();
        assert_eq!((free.shared.micro_batches.as_slice(), free.global_batch), ([44, 44].as_slice(), 88));
    }

    #[test]
    fn the_shared_plan_fits_every_card() {
        for smaller in (2_000..9_000).step_by(331) {
            for effective in [None, Some(7), Some(64), Some(100)] {
                let plan = plan(&[9_000, smaller, 12_000], effective).unwrap();
                for card in &plan.cards {
                    assert!(plan.shared.predicted_peak_bytes <= card.plan.budget_bytes, "{smaller} {effective:?}");
                }
                assert_eq!(plan.global_batch, plan.shared.effective_batch);
                assert!(effective.is_none_or(|effective| plan.global_batch == effective), "{smaller} {effective:?}");
                assert!(plan.shared.accumulation_steps >= 3, "{smaller} {effective:?}: every card has work");
            }
        }
    }

    /// Either card takes 24 images alone. In a step that they share there are sums, for which the one that takes more has little room.
    #[test]
    fn a_card_that_would_keep_no_sums_alone_must_have_room_for_them_together() {
        let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
        let of = |base: u64, sums: u64| {
            let at =
                |extra: u64| [1, 64].map(|batch| Observation { batch, peak_bytes: base + extra + 100 * batch as u64 });
            let footprint = Footprint::from_exact(ExactSource::Captured, known, 1, &at(0)).unwrap();
            footprint.with_accumulating_observations(&at(sums)).unwrap()
        };
        let (large, small) = (of(1_000, 2_000), of(1_000, 0));
        let budget = |bytes| {
            let reading = MemoryReading { total_bytes: 9_000, free_bytes: 9_000, own_bytes: 0 };
            let request = BudgetRequest { limit_bytes: Some(bytes), ..Default::default() };
            Budget::for_host(reading, &request).unwrap()
        };
        let card = |name: &str, footprint, budget| CardToPlan { name: name.to_owned(), footprint, budget };
        let cards = [card("large", &large, budget(4_100)), card("small", &small, budget(3_500))];
        let plan = |effective_batch| {
            plan_for_cards(&cards, &PlanRequest { effective_batch, ..PlanRequest::default() }).unwrap()
        };
        let of_any = plan(None);
        assert_eq!(of_any.cards.iter().map(|card| card.plan.micro_batch).collect::<Vec<_>>(), [28, 24]);
        assert_eq!(of_any.shared.micro_batches, [8, 8]);
        let of_30 = plan(Some(30));
        assert_eq!(of_30.cards.iter().map(|card| card.plan.micro_batch).collect::<Vec<_>>(), [8, 15]);
        assert_eq!((of_30.smallest, of_30.shared.micro_batches.as_slice()), (0, [8, 8, 8, 6].as_slice()));
    }

    /// Alone each takes 40 at once, and 38 beside sums of gradients. Two rounds of 20 would leave half of the memory unused.
    #[test]
    fn sums_of_gradients_cost_a_shared_step_their_own_room_and_no_more() {
        let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
        let at = |sums: u64| [1, 64].map(|batch| Observation { batch, peak_bytes: 1_000 + sums + 100 * batch as u64 });
        let footprint = Footprint::from_exact(ExactSource::Captured, known, 1, &at(0)).unwrap();
        let footprint = footprint.with_accumulating_observations(&at(200)).unwrap();
        let reading = MemoryReading { total_bytes: 9_000, free_bytes: 9_000, own_bytes: 0 };
        let request = BudgetRequest { limit_bytes: Some(5_000), ..Default::default() };
        let budget = Budget::for_host(reading, &request).unwrap();
        let cards = ["cuda:0", "cuda:1"].map(|name| CardToPlan {
            name: name.to_owned(),
            footprint: &footprint,
            budget: budget.clone(),
        });
        let plan = plan_for_cards(&cards, &PlanRequest::default()).unwrap();
        assert_eq!(plan.cards.iter().map(|card| card.plan.micro_batch).collect::<Vec<_>>(), [40, 40]);
        assert_eq!((plan.shared.micro_batches.as_slice(), plan.global_batch), ([36, 36].as_slice(), 72));
    }

    /// In fp32 the larger card holds the step and the smaller one does not: both compute in the format in which both do.
    #[test]
    fn all_cards_compute_the_step_in_one_way() {
        let rungs = Rung::ladder(Rung::default(), Some(Precision::Fp16), &[]);
        let of = |rung: Rung| {
            let sample = 500 * rung.precision.bytes_per_number();
            let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
            let at = [1, 2].map(|batch| Observation { batch, peak_bytes: 1_000 + sample * batch as u64 });
            Footprint::from_exact(ExactSource::Captured, known, 1, &at).unwrap()
        };
        let cards = [4_000, 2_800].map(|bytes| {
            let reading = MemoryReading { total_bytes: bytes, free_bytes: bytes, own_bytes: 0 };
            let budget = Budget::for_card(reading, Tier::LowEnd, &BudgetRequest::default()).unwrap();
            (format!("cuda:{bytes}"), budget)
        });
        let mut asked = Vec::new();
        let mut footprint_of = |card, rung: Rung| {
            asked.push((card, rung.precision));
            Ok::<_, CardsError>(of(rung))
        };
        let request = PlanRequest { effective_batch: Some(4), ..PlanRequest::default() };
        let shared = plan_for_cards_with_ladder(&rungs, &mut footprint_of, &cards, &request).unwrap();
        assert_eq!((shared.rung.precision, shared.plans.smallest), (Precision::Fp16, 1));
        for ((_, budget), footprint) in cards.iter().zip(&shared.footprints) {
            assert!(footprint.peak_bytes(shared.plans.shared.micro_batch) <= budget.budget_bytes);
        }
        assert_eq!(shared.plans.shared.choices[0].name, "fp32");
        let (fp32, fp16) = (Precision::Fp32, Precision::Fp16);
        assert_eq!(asked, [(0, fp32), (1, fp32), (0, fp16), (1, fp16)]);

        let mut large = |_, rung: Rung| {
            let mut footprint = of(rung);
            footprint.fixed.overhead += 2_000;
            Ok::<_, CardsError>(footprint)
        };
        let error = plan_for_cards_with_ladder(&rungs, &mut large, &cards, &request).unwrap_err();
        assert_eq!(error.to_string(), "card `cuda:4000` cannot take part");
        assert!(error.source().unwrap().to_string().contains("fp32 needs 4.9 KiB, fp16 needs 3.9 KiB"));
        let none = plan_for_cards_with_ladder(&rungs, &mut large, &[], &request).unwrap_err();
        assert_eq!(none, CardsLadderError::NoCard);
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
