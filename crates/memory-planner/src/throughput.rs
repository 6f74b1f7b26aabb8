//! When a larger batch is no faster, a smaller one will do.

use serde::{Deserialize, Serialize};

use crate::{BatchLevels, Choice, Plan, PlanRequest};

/// A batch within this share of the best speed counts as fast as that: timings of the same batch differ by as much.
const PLATEAU_SHARE: f64 = 0.02;

/// Halvings of the planned micro-batch that are worth timing.
const HALVINGS: u32 = 3;

/// The micro-batches that are worth timing, in ascending order: the planned one, and halves of it as the rounding admits them. None where there is nothing
/// to choose: the user has chosen, or the step is one pass, which no smaller pieces make faster.
pub fn throughput_candidates(plan: &Plan, request: &PlanRequest) -> Vec<usize> {
    if request.micro_batch.is_some() || plan.accumulation_steps < 2 {
        return Vec::new();
    }
    let smallest = request.minimum.unwrap_or(1);
    let halves = (0..=HALVINGS).map(|halving| request.rounding.round_down(plan.micro_batch >> halving));
    let mut candidates: Vec<usize> = halves.filter(|batch| *batch >= smallest).collect();
    candidates.sort_unstable();
    candidates.dedup();
    if candidates.len() < 2 { Vec::new() } else { candidates }
}

/// How fast a batch size went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ThroughputSample {
    /// Samples in the micro-batch.
    pub batch: usize,
    /// Samples trained in a second.
    pub samples_per_second: f64,
}

/// The smallest batch that is as fast as the best among those that fit, and why; `None` when nothing that fits was timed.
///
/// Pass it as the [`maximum`](crate::PlanRequest::maximum) of a second plan. A batch timed twice counts with its best
/// time, for what disturbs a timing only slows it. Times that are no positive number are not counted.
pub fn prefer_throughput(levels: &BatchLevels, samples: &[ThroughputSample]) -> Option<(usize, Choice)> {
    let timed: Vec<_> = samples.iter().filter(|sample| is_usable(sample, levels.maximum.batch)).collect();
    let best = timed.iter().max_by(|a, b| a.samples_per_second.total_cmp(&b.samples_per_second))?;
    let lowest = best.samples_per_second * (1.0 - PLATEAU_SHARE);
    let chosen = timed.iter().filter(|sample| sample.samples_per_second >= lowest).min_by_key(|sample| sample.batch)?;
    let fastest = timed
        .iter()
        .filter(|sample| sample.batch == chosen.batch)
        .map(|sample| sample.samples_per_second)
        .fold(0.0, f64::max);
    let reason = if chosen.batch == best.batch {
        format!("the fastest of {} sizes: {fastest:.1} samples/s", distinct(&timed))
    } else {
        format!(
            "within 2 % of the best: {fastest:.1} samples/s, and {} takes {:.1}",
            best.batch, best.samples_per_second
        )
    };
    Some((chosen.batch, Choice::new("throughput", chosen.batch, reason)))
}

fn is_usable(sample: &ThroughputSample, maximum: usize) -> bool {
    (1..=maximum).contains(&sample.batch) && sample.samples_per_second.is_finite() && sample.samples_per_second > 0.0
}

fn distinct(timed: &[&ThroughputSample]) -> usize {
    let batches: std::collections::BTreeSet<usize> = timed.iter().map(|sample| sample.batch).collect();
    batches.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Budget, BudgetRequest, FixedMemory, Footprint, Level, MemoryReading, Observation, plan_batch_size};

    fn choose(maximum: usize, timed: &[(usize, f64)]) -> Option<(usize, Choice)> {
        let level = Level { batch: maximum, peak_bytes: 1 };
        let levels = BatchLevels { maximum: level, recommended: level, safe: level, current: None };
        let samples: Vec<_> =
            timed.iter().map(|&(batch, samples_per_second)| ThroughputSample { batch, samples_per_second }).collect();
        prefer_throughput(&levels, &samples)
    }

    #[test]
    fn the_smallest_batch_of_the_plateau_is_taken() {
        let timed = [(8, 400.0), (16, 700.0), (32, 985.0), (64, 1_000.0), (128, 1_001.0)];
        let (batch, choice) = choose(128, &timed).unwrap();
        assert_eq!(batch, 32);
        assert_eq!(choice.reason, "within 2 % of the best: 985.0 samples/s, and 128 takes 1001.0");
        assert_eq!(choose(16, &timed).unwrap().0, 16, "what does not fit is not the best");
        assert_eq!(choose(16, &timed).unwrap().1.reason, "the fastest of 2 sizes: 700.0 samples/s");
    }

    #[test]
    fn a_disturbed_timing_counts_for_nothing_beside_a_better_one() {
        assert_eq!(choose(64, &[(32, 100.0), (64, 900.0), (32, 899.0)]).unwrap().0, 32);
        assert_eq!(choose(64, &[(32, f64::NAN), (16, -5.0), (8, f64::INFINITY), (4, 50.0)]).unwrap().0, 4);
    }

    #[test]
    fn halves_of_the_planned_micro_batch_are_timed_unless_there_is_nothing_to_choose() {
        let known = FixedMemory { weights: 1 << 20, ..FixedMemory::default() };
        let observations = [(1, 2 << 20), (16, 17 << 20)].map(|(batch, peak_bytes)| Observation { batch, peak_bytes });
        let footprint = Footprint::from_measurements(known, 12_288, &observations).unwrap();
        let reading = MemoryReading { total_bytes: 8 << 30, free_bytes: 8 << 30, own_bytes: 0 };
        let limit = BudgetRequest { limit_bytes: Some(64 << 20), ..BudgetRequest::default() };
        let budget = Budget::for_host(reading, &limit).unwrap();
        let candidates = |request: PlanRequest| {
            throughput_candidates(&plan_batch_size(&footprint, &budget, &request).unwrap(), &request)
        };
        let cut = PlanRequest { effective_batch: Some(100), ..PlanRequest::default() };
        assert_eq!(candidates(cut.clone()), [4, 12, 28, 60]);
        assert_eq!(candidates(PlanRequest { minimum: Some(20), ..cut.clone() }), [28, 60]);
        assert!(candidates(PlanRequest { minimum: Some(50), ..cut.clone() }).is_empty());
        assert!(candidates(PlanRequest { micro_batch: Some(20), ..cut.clone() }).is_empty());
        assert!(candidates(PlanRequest { effective_batch: Some(50), ..cut }).is_empty());
    }

    #[test]
    fn without_a_timing_that_fits_nothing_is_chosen() {
        assert!(choose(64, &[]).is_none());
        assert!(choose(64, &[(65, 10.0), (0, 10.0), (8, 0.0)]).is_none());
    }
}
