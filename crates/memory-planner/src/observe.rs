//! Which batch sizes an exact source is asked for, so that a plan rests on evaluated peaks.

use crate::levels::{SAFE_SHARE, largest_batch};
use crate::micro_batch::even_divisor;
use crate::{Footprint, LARGEST_BATCH, LARGEST_EFFECTIVE_BATCH, Observation, PlanRequest};

/// Where what is expected is wrong, the search goes away from it by this part of it at first.
const FIRST_STRIDE: usize = 64;

/// Where to search, and how finely.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchBounds {
    /// No smaller batch is evaluated, but for those that the request names.
    pub smallest: usize,
    /// No larger batch is evaluated, but for those that the request names.
    pub largest: usize,
    /// From 16 times this many samples on, the search goes in steps of so many: a source that takes its time (a dry run
    /// on a card) need not tell 1001 from 1002. 1 pins every batch.
    pub resolution: usize,
    /// The plan that the observations are for: its sizes are evaluated too.
    pub request: PlanRequest,
    /// What another source says of the same step: the search goes there at once, asks only beside what it finds, and only for batches that the request's
    /// rounding admits. Without it, it doubles the batch.
    pub expected: Option<Footprint>,
    /// Whether a step that is cut is a question of its own: once the effective batch cannot fit, nothing more is asked.
    pub whole_steps_only: bool,
}

impl SearchBounds {
    /// All batches that a request admits, each pinned.
    pub fn of(request: &PlanRequest) -> Self {
        Self {
            smallest: request.minimum.unwrap_or(1).clamp(1, LARGEST_BATCH),
            largest: request.maximum.unwrap_or(LARGEST_BATCH).clamp(1, LARGEST_BATCH),
            resolution: 1,
            request: request.clone(),
            expected: None,
            whole_steps_only: false,
        }
    }

    /// Whether a batch that is too large settles that the effective batch is.
    fn is_settled_by(&self, too_large: usize) -> bool {
        self.whole_steps_only && self.request.effective_batch.is_some_and(|effective| effective >= too_large)
    }
}

/// Asks an exact source for the peaks that a plan within `budget_bytes` needs: 1, 2, 4, 8 and so on until the budget is
/// passed, then by bisection the largest batch that fits and the next one, and the sizes of the levels, of the request
/// and of the likely micro-batch. No batch is asked for twice: as many observations come back as questions were asked.
/// Where something is [expected](SearchBounds::expected), it begins there: a step that fits whole takes two questions.
///
/// A source that cannot hold a batch at all answers [`u64::MAX`].
///
/// ```
/// use memory_planner::{PlanRequest, SearchBounds, observe};
///
/// let mut source = |batch: usize| Ok::<u64, String>(1_000 + 30 * batch as u64);
/// let observations = observe(&mut source, 10_000, &SearchBounds::of(&PlanRequest::default()))?;
/// let largest = observations.iter().filter(|seen| seen.peak_bytes <= 10_000).map(|seen| seen.batch).max();
/// assert_eq!(largest, Some(300));
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// The first error of `source`.
pub fn observe<E>(
    source: &mut dyn FnMut(usize) -> Result<u64, E>,
    budget_bytes: u64,
    bounds: &SearchBounds,
) -> Result<Vec<Observation>, E> {
    let mut search = Search { source, seen: Vec::new() };
    let maximum = search.pin(budget_bytes, bounds)?;
    if !bounds.is_settled_by(maximum + 1) {
        let safe_bytes = (budget_bytes as f64 * SAFE_SHARE) as u64;
        let safe = match &bounds.expected {
            // A level to look at is not worth the neighbour that shows it to be the largest.
            Some(expected) => search.expected(expected, safe_bytes).clamp(1, maximum.max(1)),
            None => search.pin(safe_bytes, bounds)?,
        };
        for batch in planned_sizes(&bounds.request, maximum, safe) {
            search.peak_bytes(batch)?;
        }
    }
    search.seen.sort_by_key(|seen| seen.batch);
    Ok(search.seen)
}

struct Search<'a, E> {
    source: &'a mut dyn FnMut(usize) -> Result<u64, E>,
    seen: Vec<Observation>,
}

impl<E> Search<'_, E> {
    fn peak_bytes(&mut self, batch: usize) -> Result<u64, E> {
        if let Some(seen) = self.seen.iter().find(|seen| seen.batch == batch) {
            return Ok(seen.peak_bytes);
        }
        let peak_bytes = (self.source)(batch)?;
        self.seen.push(Observation { batch, peak_bytes });
        Ok(peak_bytes)
    }

    /// The largest batch within `bytes`, or 0; or one that is known to fit where the effective batch cannot.
    fn pin(&mut self, bytes: u64, bounds: &SearchBounds) -> Result<usize, E> {
        let smallest = bounds.smallest.min(bounds.largest).max(1);
        // Nothing below the smallest is asked for.
        if self.peak_bytes(smallest)? > bytes {
            return Ok(0);
        }
        let expected = bounds.expected.as_ref().map(|expected| self.expected(expected, bytes));
        let mut bracket = Bracket { smallest, fits: smallest, too_large: None };
        let mut looks = 0;
        while bracket.too_large.is_none_or(|batch| !bounds.is_settled_by(batch)) {
            let next = match expected {
                Some(expected) => bracket.next_to(expected, looks, bounds),
                None => bracket.next(bounds),
            };
            let Some(next) = next else { break };
            looks += 1;
            match self.peak_bytes(next)? <= bytes {
                true => bracket.fits = next,
                false => bracket.too_large = Some(next),
            }
        }
        Ok(bracket.fits)
    }

    /// The largest batch within `bytes` by what is expected, moved to what was seen next to them.
    fn expected(&self, expected: &Footprint, bytes: u64) -> usize {
        let finite = self.seen.iter().filter(|seen| seen.peak_bytes < u64::MAX);
        let nearest = finite.min_by_key(|seen| seen.peak_bytes.abs_diff(bytes));
        let bytes = nearest.map_or(bytes, |seen| {
            bytes.saturating_add(expected.peak_bytes(seen.batch)).saturating_sub(seen.peak_bytes)
        });
        largest_batch(expected, bytes, LARGEST_BATCH)
    }
}

/// The batches between which the largest one lies that fits.
struct Bracket {
    smallest: usize,
    fits: usize,
    too_large: Option<usize>,
}

impl Bracket {
    /// Twice what fits, or what is halfway to what does not.
    fn next(&self, bounds: &SearchBounds) -> Option<usize> {
        match self.too_large {
            Some(too_large) => middle(self.fits, too_large, bounds.resolution),
            None => (self.fits < bounds.largest).then(|| self.fits.saturating_mul(2).min(bounds.largest)),
        }
    }

    /// What is expected; then further and further away from it, until the answer lies between; then what is halfway. Of the batches that the rounding
    /// admits, and the largest.
    fn next_to(&self, expected: usize, looks: u32, bounds: &SearchBounds) -> Option<usize> {
        let stride = (expected / FIRST_STRIDE).max(1) << looks.saturating_sub(1).min(16);
        let wanted = match self.too_large {
            // One that is too large settles it.
            _ if looks == 0 && bounds.whole_steps_only => expected.saturating_add(stride),
            _ if looks == 0 => expected,
            None => self.fits.saturating_add(stride),
            Some(too_large) => {
                let middle = self.fits + (too_large - self.fits) / 2;
                if self.fits == self.smallest { middle.max(too_large.saturating_sub(stride)) } else { middle }
            }
        };
        let last = self.too_large.map_or(bounds.largest, |too_large| too_large - 1);
        let is_admitted = |batch: &usize| bounds.request.rounding.allows(*batch) || *batch == bounds.largest;
        let below = (self.fits + 1..=wanted.min(last)).rev().find(is_admitted);
        below.or_else(|| (self.fits + 1..=last).find(is_admitted))
    }
}

/// A batch between two others, on the grid of the resolution where batches are large.
fn middle(fits: usize, too_large: usize, resolution: usize) -> Option<usize> {
    let middle = fits + too_large.saturating_sub(fits) / 2;
    let resolution = resolution.max(1);
    let middle = if fits >= resolution.saturating_mul(16) { middle - middle % resolution } else { middle };
    (middle > fits && middle < too_large).then_some(middle)
}

/// Every size that a plan may show or choose, when `maximum` samples fit the budget and `safe` its cautious share.
fn planned_sizes(request: &PlanRequest, maximum: usize, safe: usize) -> Vec<usize> {
    let rounded = request.rounding.round_down(maximum);
    let mut sizes = vec![rounded, request.rounding.round_down(safe)];
    sizes.extend([request.current, request.micro_batch].into_iter().flatten());
    if let Some(effective) = request.effective_batch {
        if effective <= maximum {
            sizes.push(effective);
        } else if rounded > 0 && effective <= LARGEST_EFFECTIVE_BATCH {
            sizes.extend(even_divisor(request, effective, rounded));
        }
    }
    // What the request must not hold is refused by the plan; here it is only not asked for.
    sizes.retain(|batch| (1..=LARGEST_BATCH).contains(batch));
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Budget, BudgetRequest, ExactSource, FixedMemory, Footprint, MemoryReading, Rounding, plan_batch_size};

    /// Pages of 64 bytes: the curve is a staircase.
    fn in_pages(batch: usize) -> u64 {
        (1_000 + 37 * batch as u64).next_multiple_of(64)
    }

    fn seen(budget: u64, bounds: &SearchBounds) -> (Vec<Observation>, usize) {
        let mut calls = 0;
        let observations = observe(
            &mut |batch| {
                calls += 1;
                Ok::<_, ()>(in_pages(batch))
            },
            budget,
            bounds,
        );
        (observations.unwrap(), calls)
    }

    #[test]
    fn the_largest_batch_is_pinned_between_itself_and_the_next() {
        for budget in (1_000..9_000).step_by(53) {
            let (observations, calls) = seen(budget, &SearchBounds::of(&PlanRequest::default()));
            assert_eq!(observations.len(), calls, "no batch is asked for twice");
            let largest = observations.iter().filter(|seen| seen.peak_bytes <= budget).map(|seen| seen.batch).max();
            let expected = (1..400).filter(|batch| in_pages(*batch) <= budget).max();
            assert_eq!(largest, expected, "{budget}");
            assert!(observations.iter().any(|seen| seen.batch == expected.unwrap_or(0) + 1));
            assert!(calls <= 26, "{calls} questions for a budget of {budget}");
        }
    }

    #[test]
    fn a_plan_rests_on_evaluated_peaks_alone() {
        for limit in (1_100..12_000).step_by(97) {
            for effective in [1, 6, 32, 100, 128, 250] {
                for rounding in [Rounding::MultipleOf(4), Rounding::PowerOfTwo] {
                    let request = PlanRequest {
                        effective_batch: Some(effective),
                        current: Some(9),
                        rounding,
                        ..PlanRequest::default()
                    };
                    let (observations, _) = seen(limit, &SearchBounds::of(&request));
                    let footprint =
                        Footprint::from_exact(ExactSource::DryRun, FixedMemory::default(), 4, &observations).unwrap();
                    let reading = MemoryReading { total_bytes: 1 << 30, free_bytes: 1 << 30, own_bytes: 0 };
                    let limit = BudgetRequest { limit_bytes: Some(limit), ..BudgetRequest::default() };
                    let budget = Budget::for_host(reading, &limit).unwrap();
                    let plan = plan_batch_size(&footprint, &budget, &request).unwrap();
                    let levels = &plan.levels;
                    let current = levels.current.unwrap().0;
                    for level in [levels.maximum, levels.recommended, levels.safe, current] {
                        assert!(footprint.is_exact_at(level.batch) || level.batch == 0, "{limit:?} {level:?}");
                    }
                    assert!(footprint.is_exact_at(plan.micro_batch), "{limit:?} {request:?}: {}", plan.micro_batch);
                    assert_eq!(plan.predicted_peak_bytes, in_pages(plan.micro_batch));
                }
            }
        }
    }

    /// Another source of the same step, `share` of it off, and cut in other pages.
    fn expecting(request: &PlanRequest, share: f64) -> SearchBounds {
        let peak_bytes = |batch: usize| ((1_000.0 + 37.0 * batch as f64) * share) as u64;
        let points = [1, 8, 64, 512].map(|batch| Observation { batch, peak_bytes: peak_bytes(batch) });
        let expected = Footprint::from_exact(ExactSource::Captured, FixedMemory::default(), 4, &points).unwrap();
        SearchBounds { expected: Some(expected), ..SearchBounds::of(request) }
    }

    /// The largest multiple of 4 that `in_pages` has fit.
    fn expected_answer(budget: u64) -> Option<usize> {
        (1..600).filter(|batch| in_pages(*batch) <= budget && Rounding::default().allows(*batch)).max()
    }

    #[test]
    fn a_search_that_expects_something_finds_what_the_rounding_admits_with_few_questions() {
        let free = PlanRequest::default();
        for budget in (1_200..19_000).step_by(211) {
            let fits = |observations: &[Observation]| {
                observations.iter().filter(|seen| seen.peak_bytes <= budget).map(|seen| seen.batch).max()
            };
            for (share, most) in [(0.9, 16), (0.98, 12), (1.0, 8), (1.02, 12), (1.1, 16)] {
                let (observations, calls) = seen(budget, &expecting(&free, share));
                assert_eq!(fits(&observations), expected_answer(budget), "{budget} {share}");
                assert!(calls <= most, "{calls} for {budget}, {share} of it expected");
            }
        }
    }

    /// What is expected may be nonsense; the answer is not.
    #[test]
    fn a_search_that_expects_nonsense_finds_the_same() {
        for share in [0.01, 0.3, 4.0, 1e6] {
            for rounding in [Rounding::MultipleOf(4), Rounding::MultipleOf(1), Rounding::PowerOfTwo] {
                let request = PlanRequest { rounding, ..PlanRequest::default() };
                let (observations, calls) = seen(9_000, &expecting(&request, share));
                let fits = observations.iter().filter(|seen| seen.peak_bytes <= 9_000).map(|seen| seen.batch).max();
                let all = (1..400).filter(|batch| in_pages(*batch) <= 9_000 && rounding.allows(*batch));
                assert_eq!(fits, all.max(), "{share} {rounding}");
                assert!(calls <= 40, "{calls} {share} {rounding}");
            }
        }
    }

    #[test]
    fn an_effective_batch_that_is_expected_to_fit_takes_two_questions() {
        let request = PlanRequest { effective_batch: Some(64), maximum: Some(64), ..PlanRequest::default() };
        let batches = |budget, bounds: &SearchBounds| -> Vec<usize> {
            seen(budget, bounds).0.iter().map(|seen| seen.batch).collect()
        };
        assert_eq!(batches(40_000, &expecting(&request, 1.05)), [1, 64]);
        let cut = SearchBounds { whole_steps_only: true, ..expecting(&request, 1.0) };
        let asked = batches(2_000, &cut);
        assert_eq!(asked, [1, 24, 28], "28 do not fit, so that 64 do not");
        let odd = PlanRequest { effective_batch: Some(50), maximum: Some(50), ..PlanRequest::default() };
        assert_eq!(batches(40_000, &expecting(&odd, 0.9)), [1, 48, 50], "the largest multiple of 4 is a level");
    }

    #[test]
    fn large_batches_may_be_searched_in_steps() {
        let fine = SearchBounds::of(&PlanRequest::default());
        let coarse = SearchBounds { resolution: 32, ..fine.clone() };
        let budget = in_pages(5_000);
        let (observations, calls) = seen(budget, &coarse);
        let largest = observations.iter().filter(|seen| seen.peak_bytes <= budget).map(|seen| seen.batch).max();
        assert_eq!(largest, Some(4_992));
        assert!(calls + 8 <= seen(budget, &fine).1, "{calls}");
    }

    #[test]
    fn bounds_hold_and_an_error_ends_the_search() {
        let request = PlanRequest { minimum: Some(6), maximum: Some(40), ..PlanRequest::default() };
        let (observations, _) = seen(u64::MAX, &SearchBounds::of(&request));
        let batches: Vec<usize> = observations.iter().map(|seen| seen.batch).collect();
        assert_eq!(batches, [6, 12, 24, 40]);
        let (nothing, _) = seen(10, &SearchBounds::of(&request));
        assert_eq!(nothing.len(), 1, "what does not fit at the minimum is asked for once");
        let failed = observe(&mut |_| Err("no device"), 10, &SearchBounds::of(&request));
        assert_eq!(failed, Err("no device"));
        let absurd = PlanRequest { effective_batch: Some(usize::MAX), current: Some(0), ..PlanRequest::default() };
        assert!(seen(5_000, &SearchBounds::of(&absurd)).0.iter().all(|seen| seen.batch <= 256));
    }

    #[test]
    fn a_source_that_breaks_down_bounds_the_search() {
        let mut source = |batch: usize| Ok::<u64, ()>(if batch > 70 { u64::MAX } else { in_pages(batch) });
        let observations = observe(&mut source, 1 << 40, &SearchBounds::of(&PlanRequest::default())).unwrap();
        let footprint = Footprint::from_exact(ExactSource::DryRun, FixedMemory::default(), 4, &observations).unwrap();
        assert_eq!(crate::levels::largest_batch(&footprint, 1 << 40, LARGEST_BATCH), 70);
    }
}
