//! What holds for every plan, over a grid of footprints, budgets and requests.

use std::error::Error;

use crate::*;

const MIB: u64 = 1 << 20;

fn footprint(fixed_mib: u64, sample_kib: u64, accumulation_extra: u64) -> Footprint {
    let known = FixedMemory { weights: fixed_mib * MIB, ..FixedMemory::default() };
    let observations = [1usize, 2, 8]
        .map(|batch| Observation { batch, peak_bytes: fixed_mib * MIB + 3 * MIB + batch as u64 * (sample_kib << 10) });
    let footprint = Footprint::from_measurements(known, 1 << 10, &observations).unwrap();
    footprint.with_accumulation_extra(accumulation_extra)
}

/// Evaluated in whole pages of 8 MiB, with and without accumulation: a staircase, and not a line.
fn in_pages(fixed_mib: u64, sample_kib: u64, extra: u64) -> Footprint {
    let known = FixedMemory { weights: fixed_mib * MIB, ..FixedMemory::default() };
    let pages = |batch: usize, extra: u64| {
        let bytes = fixed_mib * MIB + extra + batch as u64 * (sample_kib << 10);
        Observation { batch, peak_bytes: bytes.next_multiple_of(8 * MIB) }
    };
    let batches = [1, 2, 3, 4, 8, 12, 16, 24, 32, 33, 64, 128, 129];
    let once = batches.map(|batch| pages(batch, 0));
    let often = batches.map(|batch| pages(batch, extra));
    let footprint = Footprint::from_exact(ExactSource::DryRun, known, 1 << 10, &once).unwrap();
    footprint.with_accumulation_extra(extra).with_accumulating_observations(&often).unwrap()
}

fn budget(limit_mib: u64) -> Budget {
    let reading = MemoryReading { total_bytes: 64 << 30, free_bytes: 60 << 30, own_bytes: 0 };
    let request = BudgetRequest { limit_bytes: Some(limit_mib * MIB), ..BudgetRequest::default() };
    Budget::for_host(reading, &request).unwrap()
}

fn request(effective: usize, rounding: Rounding) -> PlanRequest {
    PlanRequest { effective_batch: Some(effective), rounding, ..PlanRequest::default() }
}

fn for_every_case(mut claim: impl FnMut(&Footprint, &Budget, &PlanRequest, Result<Plan, PlanError>)) {
    for sample_kib in [1, 700, 5_000] {
        let exact = in_pages(40, sample_kib, 40 * MIB);
        for footprint in [footprint(40, sample_kib, 0), footprint(40, sample_kib, 40 * MIB), exact] {
            for limit_mib in [10, 44, 60, 90, 300, 2_000] {
                let budget = budget(limit_mib);
                for rounding in [Rounding::MultipleOf(4), Rounding::PowerOfTwo, Rounding::MultipleOf(1)] {
                    for effective in (1..40).chain([64, 96, 100, 127, 128, 1000, 4096]) {
                        let request = request(effective, rounding);
                        claim(&footprint, &budget, &request, plan_batch_size(&footprint, &budget, &request));
                    }
                }
            }
        }
    }
}

#[test]
fn micro_batches_sum_to_the_effective_batch_exactly() {
    let mut plans = 0;
    for_every_case(|_, _, request, plan| {
        let Ok(plan) = plan else { return };
        plans += 1;
        assert_eq!(plan.micro_batches.iter().sum::<usize>(), request.effective_batch.unwrap());
        assert_eq!(plan.micro_batches.len(), plan.accumulation_steps);
        assert!(plan.micro_batches.iter().all(|part| (1..=plan.micro_batch).contains(part)));
    });
    assert!(plans > 1_000, "{plans}");
}

#[test]
fn no_plan_exceeds_its_budget() {
    for_every_case(|footprint, budget, _, plan| {
        let Ok(plan) = plan else { return };
        let passes = plan.micro_batches.iter().enumerate().map(|(pass, batch)| match pass {
            0 => footprint.peak_bytes(*batch),
            _ => footprint.accumulating().peak_bytes(*batch),
        });
        let peak = passes.max().unwrap();
        assert!(plan.predicted_peak_bytes >= peak, "a pass needs {peak}: {plan:?}");
        assert_eq!(plan.predicted_peak_bytes, footprint.step_peak_bytes(plan.effective_batch, plan.micro_batch));
        assert!(plan.predicted_peak_bytes <= budget.budget_bytes);
        assert!(plan.levels.maximum.peak_bytes <= budget.budget_bytes || plan.levels.maximum.batch == 0);
    });
}

#[test]
fn a_request_without_bounds_fails_only_when_one_sample_does_not_fit() {
    for_every_case(|footprint, budget, request, plan| {
        let accumulating = request.effective_batch > Some(1);
        let smallest = if accumulating { footprint.accumulating().peak_bytes(1) } else { footprint.peak_bytes(1) };
        let whole = footprint.peak_bytes(request.effective_batch.unwrap());
        assert_eq!(plan.is_ok(), smallest.min(whole) <= budget.budget_bytes);
    });
}

#[test]
fn a_part_of_the_batch_is_admissible_and_near_the_largest_that_fits() {
    for_every_case(|footprint, budget, request, plan| {
        let Ok(plan) = plan else { return };
        if plan.accumulation_steps == 1 {
            assert_eq!(plan.micro_batch, plan.effective_batch);
            return;
        }
        assert!(request.rounding.allows(plan.micro_batch));
        let step = match request.rounding {
            Rounding::MultipleOf(step) => step.min(plan.micro_batch),
            Rounding::PowerOfTwo => plan.micro_batch,
        };
        let larger = plan.micro_batch + step;
        if plan.effective_batch.div_ceil(larger) == plan.accumulation_steps {
            return;
        }
        let next = (plan.micro_batch as f64 / 0.9).floor() as usize + step;
        let fits = next < plan.effective_batch && footprint.accumulating().peak_bytes(next) <= budget.budget_bytes;
        assert!(!fits, "{} was chosen of {}, but {next} fits", plan.micro_batch, plan.effective_batch);
    });
}

#[test]
fn a_larger_budget_never_gives_a_smaller_maximum() {
    let footprint = footprint(40, 700, 0);
    let mut previous = 0;
    for limit_mib in 44..400 {
        let plan = plan_batch_size(&footprint, &budget(limit_mib), &PlanRequest::default()).unwrap();
        let levels = plan.levels;
        assert!(levels.maximum.batch >= previous);
        assert!(levels.safe.batch <= levels.recommended.batch && levels.recommended.batch <= levels.maximum.batch);
        previous = levels.maximum.batch;
    }
}

#[test]
fn an_exact_footprint_never_falls_and_never_lies_below_what_was_evaluated() {
    for sample_kib in [1, 700, 5_000] {
        let footprint = in_pages(40, sample_kib, 40 * MIB);
        for footprint in [footprint.accumulating(), footprint] {
            let peaks: Vec<u64> = (0..300).map(|batch| footprint.peak_bytes(batch)).collect();
            assert!(peaks.is_sorted());
            for seen in footprint.source.observations() {
                assert_eq!(peaks[seen.batch], seen.peak_bytes);
            }
        }
    }
}

#[test]
fn splitting_is_exact_for_any_sizes() {
    for effective in 0..200 {
        for micro in 0..210 {
            let parts = split_effective_batch(effective, micro);
            assert_eq!(parts.iter().sum::<usize>(), effective);
            assert!(parts.iter().all(|part| *part > 0 && *part <= micro.max(1)));
            assert!(parts.windows(2).all(|pair| pair[0] >= pair[1]));
        }
    }
    assert_eq!(split_effective_batch(8, 3), [3, 3, 2]);
}

#[test]
fn every_choice_has_a_value_and_a_reason() {
    for_every_case(|_, _, _, plan| {
        let Ok(plan) = plan else { return };
        assert!(plan.choices.iter().all(|choice| !choice.value.is_empty() && !choice.reason.is_empty()));
    });
}

#[test]
fn a_refusal_names_the_sizes_its_parts_and_a_way_out() {
    let error = plan_batch_size(&footprint(40, 5_000, 0), &budget(44), &request(8, Rounding::default())).unwrap_err();
    assert_eq!(error.to_string(), "batch size 1 needs 47.9 MiB, but the budget is 44.0 MiB (`memory.limit` 44.0 MiB)");
    let cause = error.source().unwrap().to_string();
    assert_eq!(cause, "weights 40.0 MiB, activations 4.9 MiB, workspace 3.0 MiB, input 1.0 KiB");
    assert_eq!(error.hint().unwrap(), "set `memory.limit: 48MiB`");
}
