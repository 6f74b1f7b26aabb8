//! What is tried when a step does not fit: lower precision, then checkpointing, then the user is asked.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::plan_error::WayOut;
use crate::{Budget, Checkpointing, Choice, Footprint, Plan, PlanError, PlanRequest, Precision};
use crate::{format_bytes, plan_batch_size};

/// Of a card's memory, the most that nobody can get, by the rule of `configs/gpus.yaml`: a sixteenth for error correction, 0.5 % for the driver, and
/// 512 MiB for a CUDA context.
const KEPT_SHARE: f64 = 1.0 / 16.0 + 0.005;
const KEPT_BYTES: f64 = (512u64 << 20) as f64;

/// The margin of the largest tiers: another card may be of one.
const LARGEST_MARGIN_SHARE: f64 = 0.20;

/// A way to compute a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rung {
    /// The format that it computes in.
    pub precision: Precision,
    /// What it keeps for its backward pass.
    pub checkpointing: Checkpointing,
}

impl Rung {
    /// The rungs from `first` down: the same in a `lower` precision where one may be taken, then with each way of
    /// `checkpointing` that may be switched on. What the user decided is not offered: pass `None` or nothing for it.
    pub fn ladder(first: Self, lower: Option<Precision>, checkpointing: &[Checkpointing]) -> Vec<Self> {
        let mut rungs = vec![first];
        let lowest = lower.unwrap_or(first.precision);
        rungs.push(Self { precision: lowest, ..first });
        rungs.extend(checkpointing.iter().map(|&checkpointing| Self { precision: lowest, checkpointing }));
        rungs.dedup();
        rungs
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.checkpointing {
            Checkpointing::None => write!(formatter, "{}", self.precision),
            Checkpointing::Balanced => write!(formatter, "{} with checkpointing", self.precision),
            Checkpointing::Segments => write!(formatter, "{} with segments recomputed", self.precision),
        }
    }
}

/// What a rung would have needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RungNeed {
    /// The rung.
    pub rung: Rung,
    /// The smallest micro-batch that the request admits.
    pub batch: usize,
    /// What one step of it holds; [`u64::MAX`] when the device could not even try, or there was no room to learn it.
    pub needed_bytes: u64,
}

/// Plans on the first of `rungs` whose smallest admitted micro-batch fits. Each rung that was tried and failed becomes a
/// choice of the plan, with what it needed and what there was.
///
/// `footprint_of` is asked for a rung only when all before it have failed.
///
/// # Errors
/// A [`LadderError`] when no rung fits, the request contradicts itself, or `footprint_of` fails.
pub fn plan_with_ladder<E: Error + 'static>(
    rungs: &[Rung],
    footprint_of: &mut dyn FnMut(Rung) -> Result<Footprint, E>,
    budget: &Budget,
    request: &PlanRequest,
) -> Result<(Rung, Footprint, Plan), LadderError<E>> {
    plan_with_ladder_past(rungs, footprint_of, &|_: &E| false, budget, request)
}

/// As [`plan_with_ladder`], but a rung of which `footprint_of` fails with an error that `lacks_memory` counts as one that does not fit: the next may
/// take less.
///
/// # Errors
/// A [`LadderError`] as there; the last error that lacked memory when no rung could be learnt.
pub fn plan_with_ladder_past<E: Error + 'static>(
    rungs: &[Rung],
    footprint_of: &mut dyn FnMut(Rung) -> Result<Footprint, E>,
    lacks_memory: &dyn Fn(&E) -> bool,
    budget: &Budget,
    request: &PlanRequest,
) -> Result<(Rung, Footprint, Plan), LadderError<E>> {
    let mut failed = Failed { needs: Vec::new(), least: None };
    let mut not_learnt = None;
    for &rung in rungs {
        let footprint = match footprint_of(rung) {
            Ok(footprint) => footprint,
            Err(source) if lacks_memory(&source) => {
                failed.needs.push(RungNeed { rung, batch: request.smallest_batch(), needed_bytes: u64::MAX });
                not_learnt = Some(LadderError::Footprint { rung, source });
                continue;
            }
            Err(source) => return Err(LadderError::Footprint { rung, source }),
        };
        match plan_batch_size(&footprint, budget, request) {
            Ok(mut plan) => {
                plan.choices.splice(0..0, climbed(rung, &footprint, &failed.needs, budget));
                return Ok((rung, footprint, plan));
            }
            Err(PlanError::DoesNotFit { batch, breakdown, way_out, .. }) => {
                let need = RungNeed { rung, batch, needed_bytes: breakdown.total };
                failed.push(need, request.way_out(way_out));
            }
            Err(wrong_request) => return Err(LadderError::Request(wrong_request)),
        }
    }
    Err(failed.error(budget, not_learnt))
}

/// What was tried in vain.
struct Failed {
    needs: Vec<RungNeed>,
    /// The least that a rung needs of which that is known, and what would help there.
    least: Option<(u64, WayOut)>,
}

impl Failed {
    fn push(&mut self, need: RungNeed, way_out: WayOut) {
        self.needs.push(need);
        if self.least.is_none_or(|(least_bytes, _)| need.needed_bytes < least_bytes) {
            self.least = Some((need.needed_bytes, way_out));
        }
    }

    fn error<E: Error + 'static>(self, budget: &Budget, not_learnt: Option<LadderError<E>>) -> LadderError<E> {
        match (self.least, not_learnt) {
            (Some((_, way_out)), _) => {
                LadderError::NothingFits(Box::new(NothingFits { needs: self.needs, budget: budget.clone(), way_out }))
            }
            (None, Some(error)) => error,
            (None, None) => LadderError::NoRung,
        }
    }
}

impl PlanRequest {
    /// The smallest micro-batch that it admits.
    fn smallest_batch(&self) -> usize {
        self.micro_batch.or(self.minimum).unwrap_or(1)
    }

    /// What helps where that is too much: a minimum above 1 that was asked for comes before all else.
    fn way_out(&self, found: WayOut) -> WayOut {
        let fitting = match found {
            WayOut::SmallerBatch(batch) => batch,
            _ => 0,
        };
        match (self.micro_batch, self.minimum) {
            (None, Some(minimum)) if minimum > 1 => WayOut::LowerMinimum { minimum, fitting },
            _ => found,
        }
    }
}

/// What was tried and failed, and the outcome when that is not the first rung.
pub(crate) fn climbed(rung: Rung, footprint: &Footprint, failed: &[RungNeed], budget: &Budget) -> Vec<Choice> {
    let mut choices: Vec<Choice> = failed.iter().map(|need| need.choice(budget)).collect();
    if let Some(first) = failed.first() {
        let saved_bytes = first.needed_bytes.saturating_sub(footprint.peak_bytes(first.batch));
        let saved = match first.needed_bytes {
            u64::MAX => String::new(),
            _ => format!("; saves {} at batch size {}", format_bytes(saved_bytes), first.batch),
        };
        choices.push(Choice::new("taken", rung, format!("the first that fits{saved}")));
    }
    choices
}

impl RungNeed {
    fn choice(&self, budget: &Budget) -> Choice {
        let (needed, available) = (need_in_words(self.needed_bytes), format_bytes(budget.budget_bytes));
        let reason = format!("batch size {} needs {needed}, and {available} is available", self.batch);
        Choice::new(&self.rung.to_string(), "no", reason)
    }
}

/// Why no rung carries a plan.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LadderError<E: Error + 'static> {
    /// An empty ladder.
    #[error("no way to compute the step is admitted")]
    NoRung,
    /// A rung's footprint is not to be had.
    #[error("cannot find what a step in {rung} needs")]
    Footprint {
        /// The rung.
        rung: Rung,
        /// Why.
        #[source]
        source: E,
    },
    /// The request contradicts itself, on any rung.
    #[error(transparent)]
    Request(PlanError),
    /// Not the smallest micro-batch, on no rung.
    #[error("{0}")]
    NothingFits(Box<NothingFits>),
}

/// What each rung needs, and what there is.
#[derive(Debug, Clone, PartialEq)]
pub struct NothingFits {
    /// Every rung that was tried.
    pub needs: Vec<RungNeed>,
    /// What a step may hold.
    pub budget: Budget,
    /// What would help, on the rung that needs least.
    pub way_out: WayOut,
}

impl NothingFits {
    /// The rung that needs least.
    fn least(&self) -> Option<&RungNeed> {
        self.needs.iter().min_by_key(|need| need.needed_bytes)
    }

    /// What the rung that needs least lacks; none where it is not known what any needs.
    pub fn gap_bytes(&self) -> Option<u64> {
        let needed_bytes = self.least()?.needed_bytes;
        (needed_bytes < u64::MAX).then(|| needed_bytes.saturating_sub(self.budget.budget_bytes))
    }

    /// The smallest change that the user must make.
    fn hint(&self) -> Option<String> {
        let least = self.least()?;
        let change = self.way_out.hint();
        match self.way_out {
            WayOut::SmallerBatch(_) => return Some(change),
            WayOut::HigherBudget(_) => {
                return Some(format!("{change}: that holds {}", least.rung));
            }
            _ => {}
        }
        // Where the user's limit is in the way, no card helps.
        if least.needed_bytes > self.budget.usable_limit_bytes() || least.needed_bytes == u64::MAX {
            return Some(change);
        }
        Some(format!("{change}; or take a card with at least {}", format_bytes(self.card_bytes(least))))
    }

    /// An idle card, of whatever tier, holds the step with this much memory, rounded up to half a GiB: no card is made in smaller steps.
    fn card_bytes(&self, least: &RungNeed) -> u64 {
        let margin_share = self.budget.margin_share.max(LARGEST_MARGIN_SHARE);
        let free_bytes = least.needed_bytes as f64 / (1.0 - margin_share).clamp(0.05, 1.0);
        let under_fraction =
            least.needed_bytes as f64 / self.budget.user_fraction.unwrap_or(1.0).max(f64::MIN_POSITIVE);
        let bytes = ((free_bytes + KEPT_BYTES) / (1.0 - KEPT_SHARE)).max(under_fraction).ceil() as u64;
        bytes.div_ceil(1 << 29).saturating_mul(1 << 29)
    }
}

impl fmt::Display for NothingFits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batch = self.least().map_or(0, |need| need.batch);
        write!(formatter, "batch size {batch} does not fit in {}", format_bytes(self.budget.budget_bytes))?;
        write!(formatter, " ({}): ", self.budget.reason)?;
        for (index, need) in self.needs.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{} needs {}", need.rung, need_in_words(need.needed_bytes))?;
        }
        Ok(())
    }
}

impl<E: Error + 'static> LadderError<E> {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRung => Some("leave precision and checkpointing out".to_owned()),
            Self::Footprint { .. } => None,
            Self::Request(error) => error.hint(),
            Self::NothingFits(nothing) => nothing.hint(),
        }
    }
}

fn need_in_words(bytes: u64) -> String {
    if bytes == u64::MAX { "more than can be tried".to_owned() } else { format_bytes(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BudgetRequest, ExactSource, FixedMemory, MemoryReading, Observation, PlanError, Tier};

    const MIB: u64 = 1 << 20;
    type Climbed = Result<(Rung, Footprint, Plan), LadderError<PlanError>>;

    const WAYS: [Checkpointing; 1] = [Checkpointing::Balanced];

    /// 100 MiB fixed; a sample takes 400 MiB in fp32, half of it in 16 bits, and half of that with checkpointing.
    fn footprint(rung: Rung) -> Footprint {
        let full = 100 * rung.precision.bytes_per_number();
        let sample = if rung.checkpointing == Checkpointing::Balanced { full / 2 } else { full } * MIB;
        let known = FixedMemory { weights: 100 * MIB, ..FixedMemory::default() };
        let observations = [1, 2].map(|batch| Observation { batch, peak_bytes: 100 * MIB + batch as u64 * sample });
        Footprint::from_exact(ExactSource::Captured, known, 4, &observations).unwrap()
    }

    fn climb(total_mib: u64, limit: Option<u64>, tried: &mut Vec<Rung>) -> Climbed {
        let reading = MemoryReading { total_bytes: total_mib * MIB, free_bytes: total_mib * MIB, own_bytes: 0 };
        let request = BudgetRequest { limit_bytes: limit, ..BudgetRequest::default() };
        let budget = Budget::for_card(reading, Tier::MidRange, &request).unwrap();
        let rungs = Rung::ladder(Rung::default(), Some(Precision::Bf16), &WAYS);
        let mut footprint_of = |rung| {
            tried.push(rung);
            Ok(footprint(rung))
        };
        let request = PlanRequest { effective_batch: Some(8), ..PlanRequest::default() };
        plan_with_ladder(&rungs, &mut footprint_of, &budget, &request)
    }

    #[test]
    fn a_ladder_has_no_rung_twice_and_none_that_is_forbidden() {
        let words = |rungs: Vec<Rung>| rungs.iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = Rung::default();
        assert_eq!(
            words(Rung::ladder(first, Some(Precision::Bf16), &WAYS)),
            ["fp32", "bf16", "bf16 with checkpointing"]
        );
        let both = [Checkpointing::Balanced, Checkpointing::Segments];
        let expected = ["fp32", "fp32 with checkpointing", "fp32 with segments recomputed"];
        assert_eq!(words(Rung::ladder(first, None, &both)), expected);
        assert_eq!(words(Rung::ladder(first, None, &[])), ["fp32"]);
        let bf16 = Rung { precision: Precision::Bf16, checkpointing: Checkpointing::Balanced };
        assert_eq!(words(Rung::ladder(bf16, Some(Precision::Bf16), &WAYS)), ["bf16 with checkpointing"]);
    }

    #[test]
    fn the_first_rung_that_fits_wins_and_no_other_is_evaluated() {
        let mut tried = Vec::new();
        let (rung, _, plan) = climb(8_000, None, &mut tried).unwrap();
        assert_eq!((rung, tried.len()), (Rung::default(), 1));
        assert!(plan.choices.iter().all(|choice| choice.value != "no"));
    }

    #[test]
    fn a_rung_that_fails_is_told_with_its_need() {
        let mut tried = Vec::new();
        let (rung, footprint, plan) = climb(400, None, &mut tried).unwrap();
        assert_eq!(rung.to_string(), "bf16");
        assert_eq!(tried.len(), 2);
        assert_eq!(plan.micro_batches, [1; 8]);
        assert_eq!(footprint.peak_bytes(1), 300 * MIB);
        assert_eq!(plan.choices[0].name, "fp32");
        assert_eq!(plan.choices[0].reason, "batch size 1 needs 500.0 MiB, and 320.0 MiB is available");
        assert_eq!((plan.choices[1].name.as_str(), plan.choices[1].value.as_str()), ("taken", "bf16"));
        assert_eq!(plan.choices[1].reason, "the first that fits; saves 200.0 MiB at batch size 1");
    }

    #[test]
    fn when_nothing_fits_each_need_is_told_and_the_smallest_change() {
        let error = climb(200, None, &mut Vec::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "batch size 1 does not fit in 160.0 MiB (200.0 MiB free, less a 20 % margin): \
             fp32 needs 500.0 MiB, bf16 needs 300.0 MiB, bf16 with checkpointing needs 200.0 MiB"
        );
        assert_eq!(error.hint().unwrap(), "choose a smaller `model.name`; or take a card with at least 1.0 GiB");
        let limited = climb(8_000, Some(150 * MIB), &mut Vec::new()).unwrap_err();
        assert_eq!(limited.hint().unwrap(), "set `memory.limit: 200MiB`: that holds bf16 with checkpointing");
    }

    #[test]
    fn a_card_of_the_size_that_the_hint_names_does_fit() {
        for total_mib in (20..240).step_by(11) {
            let error = climb(total_mib, None, &mut Vec::new()).unwrap_err();
            let LadderError::NothingFits(nothing) = &error else { panic!("{error}") };
            let larger_mib = nothing.card_bytes(nothing.least().unwrap()) / MIB;
            assert!(climb(larger_mib, None, &mut Vec::new()).is_ok(), "{total_mib}: {larger_mib}");
        }
    }

    /// What `lacks_memory` is told of: rungs in 16 bits without checkpointing cannot be learnt, as where measuring has no room.
    fn climb_past(total_mib: u64, not_learnt: &[&str]) -> Climbed {
        let reading = MemoryReading { total_bytes: total_mib * MIB, free_bytes: total_mib * MIB, own_bytes: 0 };
        let budget = Budget::for_card(reading, Tier::MidRange, &BudgetRequest::default()).unwrap();
        let rungs = Rung::ladder(Rung::default(), Some(Precision::Bf16), &WAYS);
        let mut footprint_of = |rung: Rung| match not_learnt.contains(&rung.to_string().as_str()) {
            true => Err(PlanError::ZeroBatch { setting: "room" }),
            false => Ok(footprint(rung)),
        };
        let lacks_memory = |error: &PlanError| *error == PlanError::ZeroBatch { setting: "room" };
        let request = PlanRequest { effective_batch: Some(8), ..PlanRequest::default() };
        plan_with_ladder_past(&rungs, &mut footprint_of, &lacks_memory, &budget, &request)
    }

    #[test]
    fn a_rung_that_there_is_no_room_to_learn_is_climbed_over() {
        let (rung, _, plan) = climb_past(300, &["bf16"]).unwrap();
        assert_eq!(rung.to_string(), "bf16 with checkpointing");
        let reasons: Vec<&str> = plan.choices[..2].iter().map(|choice| choice.reason.as_str()).collect();
        let bf16 = "batch size 1 needs more than can be tried, and 240.0 MiB is available";
        assert_eq!(reasons, ["batch size 1 needs 500.0 MiB, and 240.0 MiB is available", bf16]);
    }

    #[test]
    fn what_the_learnt_rungs_need_is_told_before_what_could_not_be_learnt() {
        let error = climb_past(300, &["bf16", "bf16 with checkpointing"]).unwrap_err();
        let LadderError::NothingFits(nothing) = &error else { panic!("{error}") };
        assert_eq!((nothing.needs.len(), nothing.gap_bytes()), (3, Some(260 * MIB)));
        assert!(
            error.to_string().ends_with(
                "fp32 needs 500.0 MiB, bf16 needs more than can be tried, \
            bf16 with checkpointing needs more than can be tried"
            ),
            "{error}"
        );
        let none = climb_past(300, &["fp32", "bf16", "bf16 with checkpointing"]).unwrap_err();
        let LadderError::Footprint { rung, .. } = none else { panic!("{none}") };
        assert_eq!(rung.to_string(), "bf16 with checkpointing", "the last");
    }

    #[test]
    fn a_minimum_that_does_not_fit_is_named() {
        let reading = MemoryReading { total_bytes: 8_000 * MIB, free_bytes: 8_000 * MIB, own_bytes: 0 };
        let budget = Budget::for_card(reading, Tier::MidRange, &BudgetRequest::default()).unwrap();
        let refused = |minimum| {
            let request = PlanRequest { effective_batch: Some(200), minimum: Some(minimum), ..PlanRequest::default() };
            let mut footprint_of = |rung| Ok::<_, PlanError>(footprint(rung));
            plan_with_ladder(&[Rung::default()], &mut footprint_of, &budget, &request).unwrap_err()
        };
        let hint = refused(150).hint().unwrap();
        let named = "ask for fewer than `--min-batch-size 150` images at once: 15 fit; or take a card with at least ";
        assert!(hint.starts_with(named), "{hint}");
    }

    /// A tenth of the card is 20 MiB where its margin leaves 3200.
    #[test]
    fn a_fraction_that_is_in_the_way_is_the_setting_to_change() {
        let reading = MemoryReading { total_bytes: 4_000 * MIB, free_bytes: 4_000 * MIB, own_bytes: 0 };
        let with = |memory_fraction| {
            let request = BudgetRequest { memory_fraction: Some(memory_fraction), ..BudgetRequest::default() };
            let budget = Budget::for_card(reading, Tier::MidRange, &request).unwrap();
            let mut footprint_of = |rung| Ok::<_, PlanError>(footprint(rung));
            let request = PlanRequest { effective_batch: Some(1), ..PlanRequest::default() };
            plan_with_ladder(&[Rung::default()], &mut footprint_of, &budget, &request)
        };
        let hint = with(0.005).unwrap_err().hint().unwrap();
        assert_eq!(hint, "raise `memory.fraction` to 0.125: that holds fp32");
        assert!(with(0.125).is_ok());
    }

    #[test]
    fn other_errors_are_not_climbed_over() {
        let budget = Budget::for_host(
            MemoryReading { total_bytes: 1 << 30, free_bytes: 1 << 30, own_bytes: 0 },
            &BudgetRequest::default(),
        )
        .unwrap();
        let request = PlanRequest { effective_batch: Some(0), ..PlanRequest::default() };
        let mut fine = |rung| Ok::<_, PlanError>(footprint(rung));
        let error = plan_with_ladder(&[Rung::default()], &mut fine, &budget, &request).unwrap_err();
        assert!(matches!(error, LadderError::Request(PlanError::ZeroBatch { .. })));
        let error = plan_with_ladder(&[], &mut fine, &budget, &PlanRequest::default()).unwrap_err();
        assert_eq!(error, LadderError::NoRung);
        let mut broken = |_| Err(PlanError::ZeroBatch { setting: "image" });
        let error = plan_with_ladder(&[Rung::default()], &mut broken, &budget, &PlanRequest::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot find what a step in fp32 needs");
        assert!(error.source().unwrap().to_string().contains("`image` is 0"));
    }
}
