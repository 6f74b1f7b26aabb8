//! The batch sizes that a budget admits, from bold to cautious.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use crate::{Budget, Footprint, LARGEST_BATCH, PlanRequest, Rounding, largest_fitting_batch};

/// The `safe` level takes this share of the budget. The rest is about twice the 8 % by which the 95th percentile of
/// predictions may be off.
pub(crate) const SAFE_SHARE: f64 = 0.85;

/// Below this share of the recommended batch, the device is mostly idle.
const UNDERUSED_SHARE: f64 = 0.5;

/// Batch sizes for one micro-batch of a step, smallest margin first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchLevels {
    /// The largest batch within the budget.
    pub maximum: Level,
    /// The largest within the budget that the rounding policy admits.
    pub recommended: Level,
    /// The largest that the rounding policy admits within 85 % of the budget.
    pub safe: Level,
    /// The batch that the config asks for, and what to think of it.
    pub current: Option<(Level, Verdict)>,
}

/// A batch size and its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Samples in the micro-batch; 0 when not even one fits.
    pub batch: usize,
    /// Its predicted peak.
    pub peak_bytes: u64,
}

/// What to think of a batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At most half of what is recommended: it runs, and wastes the device.
    Underused,
    /// Within the `safe` level.
    Safe,
    /// Within the budget.
    Fits,
    /// Above the budget, but within free memory and the user's limit: it may run, and may not.
    Risky,
    /// Above all free memory, or above the user's limit.
    TooLarge,
}

impl Verdict {
    /// In a sentence.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Underused => "fits, but uses at most half of what is recommended",
            Self::Safe => "safe",
            Self::Fits => "fits the budget",
            Self::Risky => "risky: above the budget, inside the safety margin",
            Self::TooLarge => "too large: more than is free or allowed",
        }
    }
}

impl BatchLevels {
    pub(crate) fn new(footprint: &Footprint, budget: &Budget, request: &PlanRequest) -> Self {
        let passes = Passes::of(footprint, request);
        let safe_bytes = (budget.budget_bytes as f64 * SAFE_SHARE) as u64;
        let maximum = passes.level(passes.largest_within(budget.budget_bytes));
        let recommended = passes.rounded_within(budget.budget_bytes, request.rounding);
        let safe = passes.rounded_within(safe_bytes, request.rounding);
        let current = request.current.map(|batch| {
            let current = passes.level(batch);
            // No more than the effective batch goes through the model at once, however much would fit.
            let useful = recommended.batch.min(request.effective_batch.unwrap_or(usize::MAX));
            (current, verdict(current, useful, safe, budget))
        });
        Self { maximum, recommended, safe, current }
    }
}

/// What a step takes that is cut into passes of some size: below the effective batch it accumulates, and holds sums of gradients from the second pass on.
pub(crate) struct Passes<'a> {
    whole: &'a Footprint,
    part: Footprint,
    /// Batches below it are parts of a step; none where the effective batch follows the micro-batch.
    effective: usize,
    limit: usize,
}

impl<'a> Passes<'a> {
    fn of(footprint: &'a Footprint, request: &PlanRequest) -> Self {
        Self::new(footprint, request.effective_batch.unwrap_or(0), request.maximum.unwrap_or(LARGEST_BATCH))
    }

    pub(crate) fn new(footprint: &'a Footprint, effective: usize, limit: usize) -> Self {
        Self { whole: footprint, part: footprint.accumulating(), effective, limit: limit.min(LARGEST_BATCH) }
    }

    fn level(&self, batch: usize) -> Level {
        Level { batch, peak_bytes: self.peak_bytes(batch) }
    }

    pub(crate) fn peak_bytes(&self, batch: usize) -> u64 {
        if batch < self.effective {
            self.whole.step_peak_bytes(self.effective, batch)
        } else {
            self.whole.peak_bytes(batch)
        }
    }

    /// The largest batch within so many bytes, or 0.
    fn largest_within(&self, bytes: u64) -> usize {
        match largest_batch(self.whole, bytes, self.limit) {
            whole if whole >= self.effective => whole,
            _ => self.largest_part_within(bytes, |batch| batch),
        }
    }

    /// The largest part of the effective batch that is within so many bytes, also when it is rounded, or 0.
    ///
    /// Of two passes the first may be larger than what has room beside sums of gradients.
    pub(crate) fn largest_part_within(&self, bytes: u64, round: impl Fn(usize) -> usize) -> usize {
        let limit = self.limit.min(self.effective.saturating_sub(1));
        let beside_sums = largest_batch(&self.part, bytes, limit);
        let before_sums = largest_batch(self.whole, bytes, limit);
        let is_within = |batch| self.peak_bytes(batch) <= bytes;
        if before_sums > beside_sums && is_within(before_sums) && is_within(round(before_sums)) {
            return before_sums;
        }
        beside_sums
    }

    /// The largest within so many bytes that the policy admits, or 0.
    fn rounded_within(&self, bytes: u64, rounding: Rounding) -> Level {
        let round = |batch| rounding.round_down(batch);
        let rounded = self.level(round(self.largest_within(bytes)));
        if rounded.peak_bytes <= bytes {
            return rounded;
        }
        // Rounded below the effective batch, which alone fits without sums.
        self.level(round(self.largest_part_within(bytes, round)))
    }
}

/// The largest batch of `footprint` within `bytes`, or 0.
pub(crate) fn largest_batch(footprint: &Footprint, bytes: u64, limit: usize) -> usize {
    let found = largest_fitting_batch(limit, bytes, |batch| Ok::<_, Infallible>(footprint.peak_bytes(batch)));
    found.unwrap_or_else(|never| match never {})
}

fn verdict(current: Level, recommended: usize, safe: Level, budget: &Budget) -> Verdict {
    let room_bytes = budget.free_bytes.min(budget.user_limit_bytes.unwrap_or(u64::MAX));
    if current.peak_bytes > room_bytes {
        Verdict::TooLarge
    } else if current.peak_bytes > budget.budget_bytes {
        Verdict::Risky
    } else if current.batch as f64 <= recommended as f64 * UNDERUSED_SHARE {
        Verdict::Underused
    } else if current.batch <= safe.batch {
        Verdict::Safe
    } else {
        Verdict::Fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BudgetRequest, FixedMemory, MemoryReading, Observation};

    /// 1000 bytes fixed, 10 a sample; 10,000 bytes free of which 8,000 are the budget: 700 samples.
    fn levels(current: Option<usize>, maximum: Option<usize>) -> BatchLevels {
        levels_under(BudgetRequest::default(), current, maximum)
    }

    fn levels_under(request: BudgetRequest, current: Option<usize>, maximum: Option<usize>) -> BatchLevels {
        let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
        let observations = [(1, 1_010), (2, 1_020)].map(|(batch, peak_bytes)| Observation { batch, peak_bytes });
        let footprint = Footprint::from_measurements(known, 1, &observations).unwrap();
        let reading = MemoryReading { total_bytes: 12_000, free_bytes: 10_000, own_bytes: 0 };
        let budget = Budget::for_host(reading, &request).unwrap();
        BatchLevels::new(&footprint, &budget, &PlanRequest { current, maximum, ..PlanRequest::default() })
    }

    #[test]
    fn levels_go_from_bold_to_cautious() {
        let levels = levels(None, Some(699));
        assert_eq!(levels.maximum, Level { batch: 699, peak_bytes: 7_990 });
        assert_eq!(levels.recommended, Level { batch: 696, peak_bytes: 7_960 });
        assert_eq!(levels.safe, Level { batch: 580, peak_bytes: 6_800 });
    }

    #[test]
    fn the_current_batch_is_judged_by_what_it_takes() {
        let expected = [
            (350, Verdict::Underused),
            (351, Verdict::Safe),
            (580, Verdict::Safe),
            (581, Verdict::Fits),
            (700, Verdict::Fits),
            (701, Verdict::Risky),
            (900, Verdict::Risky),
            (901, Verdict::TooLarge),
        ];
        for (batch, verdict) in expected {
            assert_eq!(levels(Some(batch), None).current.unwrap().1, verdict, "{batch}");
        }
    }

    /// 700 would fit, and a step has 16.
    #[test]
    fn the_whole_effective_batch_wastes_nothing() {
        let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
        let observations = [(1, 1_010), (2, 1_020)].map(|(batch, peak_bytes)| Observation { batch, peak_bytes });
        let footprint = Footprint::from_measurements(known, 1, &observations).unwrap();
        let reading = MemoryReading { total_bytes: 12_000, free_bytes: 10_000, own_bytes: 0 };
        let budget = Budget::for_host(reading, &BudgetRequest::default()).unwrap();
        let verdict_on = |current: usize| {
            let (effective_batch, current) = (Some(16), Some(current));
            let request = PlanRequest { effective_batch, current, ..PlanRequest::default() };
            BatchLevels::new(&footprint, &budget, &request).current.unwrap().1
        };
        assert_eq!([16, 9, 8].map(verdict_on), [Verdict::Safe, Verdict::Safe, Verdict::Underused]);
    }

    /// Sums of gradients take 500 bytes beside 1000 fixed and 10 a sample, of 8,000.
    #[test]
    fn a_batch_below_the_effective_one_is_judged_with_the_sums_that_it_accumulates() {
        let known = FixedMemory { weights: 1_000, ..FixedMemory::default() };
        let observations = [(1, 1_010), (2, 1_020)].map(|(batch, peak_bytes)| Observation { batch, peak_bytes });
        let footprint = Footprint::from_measurements(known, 1, &observations).unwrap().with_accumulation_extra(500);
        let reading = MemoryReading { total_bytes: 12_000, free_bytes: 10_000, own_bytes: 0 };
        let budget = Budget::for_host(reading, &BudgetRequest::default()).unwrap();
        let levels = |effective: usize, current: usize| {
            let (effective_batch, current) = (Some(effective), Some(current));
            BatchLevels::new(&footprint, &budget, &PlanRequest { effective_batch, current, ..PlanRequest::default() })
        };
        let parts = levels(2_000, 651);
        assert_eq!(parts.maximum, Level { batch: 650, peak_bytes: 8_000 });
        assert_eq!(parts.recommended, Level { batch: 648, peak_bytes: 7_980 });
        assert_eq!(parts.current, Some((Level { batch: 651, peak_bytes: 8_010 }, Verdict::Risky)));
        // The whole effective batch fits without sums, and what it rounds to does not fit with them.
        let whole = levels(699, 699);
        assert_eq!(whole.maximum, Level { batch: 700, peak_bytes: 8_000 });
        assert_eq!(whole.recommended, Level { batch: 700, peak_bytes: 8_000 });
        assert_eq!(whole.current, Some((Level { batch: 699, peak_bytes: 7_990 }, Verdict::Fits)));
        // Of two passes the first is over before there are sums.
        let two = levels(1_000, 651);
        assert_eq!([two.maximum, two.recommended], [Level { batch: 700, peak_bytes: 8_000 }; 2]);
        assert_eq!(two.current, Some((Level { batch: 651, peak_bytes: 7_510 }, Verdict::Fits)));
        assert_eq!(two.safe, Level { batch: 580, peak_bytes: 6_800 });
        assert_eq!(levels(1_351, 1).maximum.batch, 650, "651 do not fit beside the sums of 700");
    }

    #[test]
    fn nothing_above_the_users_limit_is_called_risky() {
        let limited = BudgetRequest { limit_bytes: Some(3_000), ..BudgetRequest::default() };
        assert_eq!(levels_under(limited, Some(200), None).current.unwrap().1, Verdict::Fits);
        assert_eq!(levels_under(limited, Some(201), None).current.unwrap().1, Verdict::TooLarge);
    }
}
