//! The choice of the micro-batch, given the effective batch.

use crate::levels::{Passes, largest_batch};
use crate::{Budget, Footprint, LARGEST_BATCH, PlanError, PlanRequest, format_bytes};

/// An uneven last micro-batch costs a second set of kernel shapes and an idle tail. To avoid it, the micro-batch may
/// shrink to this share, even if that takes more passes.
const EVEN_SPLIT_SHARE: f64 = 0.90;

/// Memory that is paid for and left alone weighs more than an even cut: a cut must fill this share of the budget. 85 % are to be in use, and predictions
/// lie up to 6 % above what is then measured (`docs/benchmarks/memory.md`).
const EVEN_SPLIT_USE: f64 = 0.90;

/// Unless the uneven cut would use no more than this share of the budget beyond it.
const SMALL_GAIN: f64 = 0.03;

/// A micro-batch within the budget.
pub(crate) struct ChosenMicroBatch {
    pub(crate) batch: usize,
    pub(crate) peak_bytes: u64,
    pub(crate) reason: String,
}

pub(crate) fn choose_micro_batch(
    footprint: &Footprint,
    budget: &Budget,
    request: &PlanRequest,
    effective: usize,
) -> Result<ChosenMicroBatch, PlanError> {
    if let Some(asked) = request.micro_batch {
        return take_as_asked(footprint, budget, asked, effective);
    }
    if let Some(cards) = request.cards.filter(|cards| *cards > 1 && effective > 1) {
        return choose_share(footprint, budget, request, (effective, cards));
    }
    let peak_bytes = footprint.peak_bytes(effective);
    if effective <= most_at_once(request) && peak_bytes <= budget.budget_bytes {
        let reason = format!("the whole effective batch fits at once: {}", of_budget(peak_bytes, budget));
        return Ok(ChosenMicroBatch { batch: effective, peak_bytes, reason });
    }
    choose_part(footprint, budget, request, effective)
}

/// No pass has more samples, whatever memory there is.
fn most_at_once(request: &PlanRequest) -> usize {
    request.maximum.unwrap_or(LARGEST_BATCH).min(LARGEST_BATCH)
}

/// The user's word is not rounded; it is only held to the budget.
fn take_as_asked(
    footprint: &Footprint,
    budget: &Budget,
    asked: usize,
    effective: usize,
) -> Result<ChosenMicroBatch, PlanError> {
    let batch = asked.min(effective);
    let (pass, samples) = footprint.largest_pass(effective, batch);
    let peak_bytes = pass.peak_bytes(samples);
    if peak_bytes > budget.budget_bytes {
        let largest_fitting = largest_batch(&pass, budget.budget_bytes, samples);
        return Err(PlanError::does_not_fit(&pass, budget, samples, largest_fitting));
    }
    let origin = if asked > effective {
        format!("the whole effective batch: `train.micro_batch_size` {asked} is more than that")
    } else {
        "set by `train.micro_batch_size`".to_owned()
    };
    Ok(ChosenMicroBatch { batch, peak_bytes, reason: format!("{origin}: {}", of_budget(peak_bytes, budget)) })
}

/// Each card has one part of the effective batch, or as few as fit: the card with the most work is the one that all wait for.
fn choose_share(
    footprint: &Footprint,
    budget: &Budget,
    request: &PlanRequest,
    (effective, cards): (usize, usize),
) -> Result<ChosenMicroBatch, PlanError> {
    let minimum = request.minimum.unwrap_or(1);
    let accumulating = footprint.accumulating();
    let share = effective.div_ceil(cards);
    let ceiling = most_at_once(request).min(share.max(minimum)).min(effective);
    let largest = largest_batch(&accumulating, budget.budget_bytes, ceiling);
    if largest < minimum {
        return Err(PlanError::does_not_fit(&accumulating, budget, minimum, largest));
    }
    let rounds = share.div_ceil(largest);
    let even = share.div_ceil(rounds).max(minimum);
    let (batch, why) = if rounds == 1 {
        (even, format!("a part for each of {cards} cards"))
    } else {
        let welcome = (even..=largest).find(|batch| request.rounding.allows(*batch));
        let batch = welcome.unwrap_or_else(|| request.rounding.round_down(largest).max(minimum));
        (batch, format!("{} parts for each of {cards} cards", share.div_ceil(batch)))
    };
    let peak_bytes = accumulating.peak_bytes(batch);
    Ok(ChosenMicroBatch { batch, peak_bytes, reason: format!("{why}: {}", of_budget(peak_bytes, budget)) })
}

fn choose_part(
    footprint: &Footprint,
    budget: &Budget,
    request: &PlanRequest,
    effective: usize,
) -> Result<ChosenMicroBatch, PlanError> {
    let minimum = request.minimum.unwrap_or(1);
    if minimum >= effective {
        let largest_fitting = largest_batch(footprint, budget.budget_bytes, effective);
        return Err(PlanError::does_not_fit(footprint, budget, effective, largest_fitting));
    }
    let passes = Passes::new(footprint, effective, most_at_once(request));
    let round = |largest: usize| request.rounding.round_down(largest).max(minimum);
    let largest = passes.largest_part_within(budget.budget_bytes, round);
    if largest < minimum {
        return Err(PlanError::does_not_fit(&footprint.accumulating(), budget, minimum, largest));
    }
    let rounded = round(largest);
    let peak_bytes = |batch: usize| passes.peak_bytes(batch);
    let fits = |batch: usize| peak_bytes(batch) <= budget.budget_bytes;
    let even = even_divisor(request, effective, rounded).filter(|even| fits(*even));
    let even = even.filter(|even| uses_enough([*even, rounded].map(peak_bytes), budget));
    let batch = even.unwrap_or(rounded);
    let why = explain(request, batch, largest, effective);
    Ok(ChosenMicroBatch {
        batch,
        peak_bytes: peak_bytes(batch),
        reason: format!("{why}: {}", of_budget(peak_bytes(batch), budget)),
    })
}

/// Whether an even cut's peak is near what the budget, or else the uneven cut, would hold.
fn uses_enough([even_bytes, uneven_bytes]: [u64; 2], budget: &Budget) -> bool {
    let budget_bytes = budget.budget_bytes as f64;
    let gain_bytes = uneven_bytes.saturating_sub(even_bytes) as f64;
    even_bytes as f64 >= EVEN_SPLIT_USE * budget_bytes || gain_bytes <= SMALL_GAIN * budget_bytes
}

/// The largest admissible divisor of `effective` that needs as few passes as `rounded`, or is at most 10 % smaller.
pub(crate) fn even_divisor(request: &PlanRequest, effective: usize, rounded: usize) -> Option<usize> {
    let minimum = request.minimum.unwrap_or(1);
    let is_even =
        |batch: &usize| *batch >= minimum && effective.is_multiple_of(*batch) && request.rounding.allows(*batch);
    let passes = effective.div_ceil(rounded);
    let in_as_few_passes = effective.is_multiple_of(passes).then(|| effective / passes);
    let lowest = (rounded as f64 * EVEN_SPLIT_SHARE).ceil() as usize;
    in_as_few_passes.filter(is_even).or_else(|| (lowest..=rounded).rev().find(is_even))
}

fn explain(request: &PlanRequest, batch: usize, largest: usize, effective: usize) -> String {
    let policy = request.rounding.describe();
    let rounded = request.rounding.round_down(largest);
    if request.maximum == Some(batch) {
        format!("held to the maximum of {batch}")
    } else if batch < rounded {
        let bound = if request.maximum == Some(largest) { "is allowed" } else { "fits" };
        format!("divides {effective} evenly, and {rounded}, the largest {policy} that {bound}, does not")
    } else if batch > rounded {
        format!("held to the minimum of {batch}, though no {policy}")
    } else if batch == LARGEST_BATCH {
        format!("no more than {batch} are computed at once")
    } else if batch == largest {
        "the largest that fits".to_owned()
    } else if request.maximum == Some(largest) {
        format!("the largest {policy} within the maximum of {largest}")
    } else {
        format!("the largest {policy} that fits")
    }
}

pub(crate) fn of_budget(bytes: u64, budget: &Budget) -> String {
    format!("{} of {}", format_bytes(bytes), format_bytes(budget.budget_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BudgetChange, BudgetRequest, FixedMemory, MemoryReading, Observation, Plan, Rounding, WayOut, plan_batch_size,
    };

    /// 1 MiB fixed and 1 MiB a sample, so that a limit of `n + 1` MiB holds `n` samples.
    fn plan(fits: u64, request: PlanRequest) -> Result<Plan, PlanError> {
        let known = FixedMemory { weights: 1 << 20, ..FixedMemory::default() };
        let observations = [(1, 2 << 20), (16, 17 << 20)].map(|(batch, peak_bytes)| Observation { batch, peak_bytes });
        let footprint = Footprint::from_measurements(known, 12_288, &observations).unwrap();
        let reading = MemoryReading { total_bytes: 8 << 30, free_bytes: 8 << 30, own_bytes: 0 };
        let limit = BudgetRequest { limit_bytes: Some((fits + 1) << 20), ..BudgetRequest::default() };
        plan_batch_size(&footprint, &Budget::for_host(reading, &limit).unwrap(), &request)
    }

    fn effective(batch: usize) -> PlanRequest {
        PlanRequest { effective_batch: Some(batch), ..PlanRequest::default() }
    }

    fn reason_of(plan: &Plan, name: &str) -> String {
        plan.choices.iter().find(|choice| choice.name == name).unwrap().reason.clone()
    }

    #[test]
    fn an_effective_batch_that_fits_is_taken_whole_and_unrounded() {
        let plan = plan(70, effective(50)).unwrap();
        assert_eq!(plan.micro_batches, [50]);
        assert_eq!(reason_of(&plan, "micro-batch"), "the whole effective batch fits at once: 51.0 MiB of 71.0 MiB");
        assert_eq!(reason_of(&plan, "accumulation"), "one forward pass a step");
    }

    #[test]
    fn an_effective_batch_beyond_the_samples_is_said_to_be_all_of_them() {
        let request = PlanRequest { effective_batch_beyond_samples: Some(1000), ..effective(72) };
        let cut = plan(100, request).unwrap();
        assert_eq!(cut.effective_batch, 72);
        let reason = "all images to train on: `train.effective_batch_size` 1000 is more than that";
        assert_eq!(reason_of(&cut, "effective batch"), reason);
        let whole = plan(100, effective(72)).unwrap();
        assert_eq!(reason_of(&whole, "effective batch"), "set by `train.effective_batch_size`");
    }

    #[test]
    fn a_larger_one_is_cut_at_the_largest_admissible_size() {
        let plan = plan(63, effective(100)).unwrap();
        assert_eq!(plan.micro_batches, [60, 40]);
        assert_eq!(reason_of(&plan, "micro-batch"), "the largest multiple of 4 that fits: 61.0 MiB of 64.0 MiB");
        assert_eq!(reason_of(&plan, "accumulation"), "60 + 40 = 100");
        assert!(reason_of(&plan, "per sample").ends_with("; 3.8 times beyond the largest batch run"));
    }

    #[test]
    fn of_two_passes_the_first_may_take_the_room_that_sums_will_need() {
        let known = FixedMemory { weights: 1 << 20, ..FixedMemory::default() };
        let observations = [(1, 2 << 20), (16, 17 << 20)].map(|(batch, peak_bytes)| Observation { batch, peak_bytes });
        let footprint = Footprint::from_measurements(known, 12_288, &observations).unwrap();
        let footprint = footprint.with_accumulation_extra(4 << 20);
        let reading = MemoryReading { total_bytes: 8 << 30, free_bytes: 8 << 30, own_bytes: 0 };
        let cut = |limit_mib: u64, batch: usize| {
            let limit = BudgetRequest { limit_bytes: Some(limit_mib << 20), ..BudgetRequest::default() };
            let budget = Budget::for_host(reading, &limit).unwrap();
            let plan = plan_batch_size(&footprint, &budget, &effective(batch)).unwrap();
            assert!(plan.predicted_peak_bytes <= budget.budget_bytes, "{plan:?}");
            plan.micro_batches
        };
        assert_eq!(cut(21, 24), [20, 4], "beside sums there is room for 16");
        assert_eq!(cut(21, 32), [16, 16], "as few passes as 20 and 12");
        assert_eq!(cut(21, 37), [16, 16, 5], "17 do not fit beside the sums of 20");
        let asked = PlanRequest { micro_batch: Some(20), ..effective(24) };
        let limit = BudgetRequest { limit_bytes: Some(20 << 20), ..BudgetRequest::default() };
        let refused = plan_batch_size(&footprint, &Budget::for_host(reading, &limit).unwrap(), &asked).unwrap_err();
        assert!(refused.to_string().starts_with("batch size 20 needs 21.0 MiB"), "{refused}");
    }

    #[test]
    fn an_even_cut_that_leaves_much_memory_unused_is_not_taken() {
        assert_eq!(plan(127, effective(128)).unwrap().micro_batches, [124, 4], "64 would use half");
        assert_eq!(plan(35, effective(96)).unwrap().micro_batches, [32; 3], "92 %");
        assert_eq!(plan(20, effective(64)).unwrap().micro_batches, [20, 20, 20, 4], "16 would use 81 %");
        assert_eq!(plan(17, effective(64)).unwrap().micro_batches, [16; 4], "17 of 18 MiB");
    }

    #[test]
    fn where_a_maximum_holds_the_batch_an_even_cut_is_taken_again() {
        let held = |fits| plan(fits, PlanRequest { maximum: Some(20), ..effective(64) }).unwrap().micro_batches;
        assert_eq!(held(200), [16; 4], "20 would use 2 % more of the memory");
        assert_eq!(held(30), [20, 20, 20, 4], "20 would use 13 % more");
    }

    #[test]
    fn an_even_cut_is_worth_a_tenth_of_the_size_and_no_more() {
        let near = plan(71, effective(128)).unwrap();
        assert_eq!(near.micro_batches, [64, 64]);
        assert_eq!(
            reason_of(&near, "micro-batch"),
            "divides 128 evenly, and 68, the largest multiple of 4 that fits, does not: 65.0 MiB of 72.0 MiB"
        );
        assert_eq!(plan(39, effective(144)).unwrap().micro_batches, [36; 4]);
        assert_eq!(plan(43, effective(144)).unwrap().micro_batches, [40, 40, 40, 24], "36 would use 84 %");
        assert_eq!(plan(27, effective(96)).unwrap().micro_batches, [24; 4], "as few passes");
        assert_eq!(plan(31, effective(96)).unwrap().micro_batches, [28, 28, 28, 12], "24 would use 78 %");
        assert_eq!(plan(35, effective(256)).unwrap().micro_batches, [32; 8]);
        assert_eq!(plan(39, effective(100)).unwrap().micro_batches, [36, 36, 28]);
    }

    #[test]
    fn the_rounding_policy_is_kept() {
        let request = PlanRequest { rounding: Rounding::PowerOfTwo, ..effective(100) };
        assert_eq!(plan(63, request).unwrap().micro_batches, [32, 32, 32, 4]);
        assert_eq!(plan(3, effective(8)).unwrap().micro_batches, [3, 3, 2]);
    }

    #[test]
    fn the_sums_of_accumulation_make_the_micro_batch_smaller() {
        let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
        let observations = [(1, 1_100), (2, 1_200)].map(|(batch, peak_bytes)| Observation { batch, peak_bytes });
        let footprint = Footprint::from_measurements(known, 1, &observations).unwrap().with_accumulation_extra(400);
        let reading = MemoryReading { total_bytes: 9_000, free_bytes: 9_000, own_bytes: 0 };
        let limit = BudgetRequest { limit_bytes: Some(2_650), ..BudgetRequest::default() };
        let budget = Budget::for_host(reading, &limit).unwrap();
        let micro = |batch| plan_batch_size(&footprint, &budget, &effective(batch)).unwrap().micro_batch;
        assert_eq!(micro(16), 16, "one pass holds no sums");
        assert_eq!(micro(17), 16, "the first of two passes holds none either");
        assert_eq!(micro(40), 12);
    }

    #[test]
    fn the_users_micro_batch_is_taken_as_it_is_or_refused() {
        let request = |micro| PlanRequest { micro_batch: Some(micro), ..effective(8) };
        assert_eq!(plan(10, request(3)).unwrap().micro_batches, [3, 3, 2]);
        assert_eq!(plan(10, request(64)).unwrap().micro_batches, [8]);
        let PlanError::DoesNotFit { batch, way_out, .. } = plan(4, request(6)).unwrap_err() else {
            panic!("another error");
        };
        assert_eq!((batch, way_out), (6, WayOut::SmallerBatch(4)));
    }

    #[test]
    fn without_an_effective_batch_the_recommended_one_is_taken() {
        let free = plan(63, PlanRequest::default()).unwrap();
        assert_eq!((free.effective_batch, free.accumulation_steps), (60, 1));
        let micro = PlanRequest { micro_batch: Some(7), ..PlanRequest::default() };
        assert_eq!(plan(63, micro).unwrap().effective_batch, 7);
    }

    #[test]
    fn bounds_hold_and_contradictions_are_refused() {
        let request = |minimum, maximum| PlanRequest { minimum, maximum, ..effective(64) };
        let held = plan(63, request(None, Some(16))).unwrap();
        assert_eq!(held.micro_batch, 16);
        assert!(reason_of(&held, "micro-batch").starts_with("held to the maximum of 16"));
        assert_eq!(plan(7, request(Some(6), None)).unwrap().micro_batch, 6);
        assert!(matches!(plan(5, request(Some(6), None)), Err(PlanError::DoesNotFit { batch: 6, .. })));
        assert!(matches!(plan(9, request(Some(9), Some(8))), Err(PlanError::MinimumAboveMaximum { .. })));
        assert!(matches!(plan(9, request(Some(65), None)), Err(PlanError::OutsideBounds { value: 64, .. })));
        assert!(matches!(plan(9, effective(0)), Err(PlanError::ZeroBatch { .. })));
        assert!(matches!(plan(9, effective(usize::MAX)), Err(PlanError::AbsurdBatch { .. })));
    }

    #[test]
    fn a_maximum_that_is_rounded_down_is_named() {
        let held = plan(63, PlanRequest { maximum: Some(9), ..effective(64) }).unwrap();
        assert_eq!(held.micro_batch, 8);
        assert!(reason_of(&held, "micro-batch").starts_with("the largest multiple of 4 within the maximum of 9: "));
        let by_memory = plan(9, PlanRequest { maximum: Some(30), ..effective(64) }).unwrap();
        assert!(reason_of(&by_memory, "micro-batch").starts_with("the largest multiple of 4 that fits: "));
    }

    /// Configurations have no larger micro-batch, and a plan is written into one.
    #[test]
    fn no_pass_has_more_samples_than_a_configuration_may_ask_for() {
        let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
        let observations = [(1, 1_001), (2, 1_002)].map(|(batch, peak_bytes)| Observation { batch, peak_bytes });
        let footprint = Footprint::from_measurements(known, 1, &observations).unwrap();
        let reading = MemoryReading { total_bytes: 8 << 30, free_bytes: 8 << 30, own_bytes: 0 };
        let budget = Budget::for_host(reading, &BudgetRequest::default()).unwrap();
        let plan = |request: &PlanRequest| plan_batch_size(&footprint, &budget, request).unwrap();
        let whole = plan(&effective(1 << 20));
        assert_eq!((whole.micro_batch, whole.accumulation_steps), (LARGEST_BATCH, 16));
        assert!(reason_of(&whole, "micro-batch").starts_with("no more than 65536 are computed at once"));
        assert_eq!(whole.levels.maximum.batch, LARGEST_BATCH);
        assert_eq!(plan(&PlanRequest::default()).micro_batch, LARGEST_BATCH);
        let shared = plan(&effective(1 << 20).dealt_round(2));
        assert_eq!((shared.micro_batch, shared.accumulation_steps), (LARGEST_BATCH, 16));
        let absurd = plan_batch_size(&footprint, &budget, &effective((1 << 20) + 1)).unwrap_err();
        assert!(absurd.to_string().ends_with("the largest batch size is 1048576"), "{absurd}");
    }

    #[test]
    fn what_would_help_depends_on_what_is_in_the_way() {
        let PlanError::DoesNotFit { way_out, .. } = plan(0, effective(8)).unwrap_err() else { panic!("another error") };
        let limit_bytes = Some(2 << 20);
        assert_eq!(way_out, WayOut::HigherBudget(BudgetChange { limit_bytes, ..BudgetChange::default() }));
        let known = FixedMemory { weights: 900, ..FixedMemory::default() };
        let help = |sample: u64| {
            let observations = [1usize, 2].map(|batch| Observation { batch, peak_bytes: 900 + batch as u64 * sample });
            let footprint = Footprint::from_measurements(known, 1, &observations).unwrap();
            let reading = MemoryReading { total_bytes: 1_000, free_bytes: 1_000, own_bytes: 0 };
            let budget = Budget::for_host(reading, &BudgetRequest::default()).unwrap();
            plan_batch_size(&footprint, &budget, &effective(8)).unwrap_err().hint().unwrap()
        };
        assert!(help(5_000).contains("`model.image_size`"));
        assert!(help(50).contains("smaller `model.name`"));
    }
}
