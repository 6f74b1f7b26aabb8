//! When a larger batch is no faster, a smaller one will do.

use serde::{Deserialize, Serialize};

use crate::{BatchLevels, Choice};

/// A batch within this share of the best speed counts as fast as that: timings of the same batch differ by as much.
const PLATEAU_SHARE: f64 = 0.02;

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
    use crate::Level;

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
    fn without_a_timing_that_fits_nothing_is_chosen() {
        assert!(choose(64, &[]).is_none());
        assert!(choose(64, &[(65, 10.0), (0, 10.0), (8, 0.0)]).is_none());
    }
}
