//! Footprints from sources that are exact: a graph that was captured, a dry run on the device.

use serde::{Deserialize, Serialize};

use crate::levels::largest_batch;
use crate::{FixedMemory, Footprint, FootprintError, FootprintSource, LARGEST_BATCH, Observation, PerSample};

/// A source that evaluates one batch size exactly and cheaply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExactSource {
    /// The real step on the real allocator, its launches dropped.
    DryRun,
    /// The step's graph, replayed by arithmetic.
    Captured,
}

impl Footprint {
    /// A footprint of exact observations: what was evaluated is not fitted.
    ///
    /// The peak equals the observation at an observed batch, lies on the line between two of them, and beyond the last
    /// one goes on with the slope of the last doubling (of `known` and the samples where there is only one). Below the
    /// first it stays. Where observations fall as the batch grows, the larger one before them holds.
    ///
    /// An observation of [`u64::MAX`] stands for a batch that the source could not hold at all.
    ///
    /// # Errors
    /// A [`FootprintError`] when there is no observation, or one of no samples.
    pub fn from_exact(
        kind: ExactSource,
        known: FixedMemory,
        input_bytes_per_sample: u64,
        observations: &[Observation],
    ) -> Result<Self, FootprintError> {
        let observations = sorted(observations)?;
        let slope = slope_beyond(&observations, known.total(), input_bytes_per_sample);
        let accumulating = Vec::new();
        Ok(Self {
            source: match kind {
                ExactSource::DryRun => FootprintSource::DryRun { observations, accumulating },
                ExactSource::Captured => FootprintSource::Captured { observations, accumulating },
            },
            fixed: known,
            per_sample: PerSample { input: input_bytes_per_sample, activations: slope - input_bytes_per_sample },
            constant_workspace: -i64::try_from(known.total()).unwrap_or(i64::MAX),
            floor_bytes: 0,
            accumulation_extra: 0,
        })
    }

    /// Adds the observations of a step that accumulates, for a source that evaluates it too. Without them, such a step
    /// counts as one pass and the gradient sums beside it, which is never too little.
    ///
    /// # Errors
    /// A [`FootprintError`] when there is no observation, one of no samples, or the footprint was measured.
    pub fn with_accumulating_observations(mut self, of: &[Observation]) -> Result<Self, FootprintError> {
        match &mut self.source {
            FootprintSource::Measured { .. } => return Err(FootprintError::NotExact),
            FootprintSource::DryRun { accumulating, .. } | FootprintSource::Captured { accumulating, .. } => {
                *accumulating = sorted(of)?;
            }
        }
        Ok(self)
    }

    /// Has an exact footprint grow beyond its observations as `other` does, up to where that passes `budget_bytes`. Where the budget ends
    /// before, nothing changes.
    #[must_use]
    pub fn with_growth_of(mut self, other: &Self, budget_bytes: u64) -> Self {
        let Some(last) = self.largest_observed_batch() else { return self };
        let (own_bytes, other_bytes) = (self.peak_bytes(last), other.peak_bytes(last));
        let room_bytes = budget_bytes.saturating_sub(own_bytes).saturating_add(other_bytes);
        let most = largest_batch(other, room_bytes, LARGEST_BATCH);
        if own_bytes <= budget_bytes && most > last {
            let slope = (other.peak_bytes(most) - other_bytes).div_ceil((most - last) as u64);
            self.per_sample.activations = slope.saturating_sub(self.per_sample.input);
        }
        self
    }

    /// Whether the source evaluated this very batch, so that its predicted peak is no interpolation.
    pub fn is_exact_at(&self, batch: usize) -> bool {
        self.source.exact_observations().is_some_and(|seen| seen.iter().any(|seen| seen.batch == batch))
    }
}

/// In ascending order, one observation a batch, the worst of its repetitions.
fn sorted(observations: &[Observation]) -> Result<Vec<Observation>, FootprintError> {
    if observations.iter().any(|seen| seen.batch == 0) {
        return Err(FootprintError::EmptyBatch);
    }
    if observations.is_empty() {
        return Err(FootprintError::NoObservation);
    }
    let mut points = observations.to_vec();
    points.sort_by_key(|seen| (seen.batch, std::cmp::Reverse(seen.peak_bytes)));
    points.dedup_by_key(|seen| seen.batch);
    Ok(points)
}

/// Bytes per sample beyond the observations, at least what the sample itself takes.
///
/// It is taken over the last doubling and not between the last two: a search ends with neighbours, between which an
/// allocator of whole pages shows nothing, or a page.
fn slope_beyond(points: &[Observation], known_bytes: u64, input_bytes_per_sample: u64) -> u64 {
    let finite = || points.iter().filter(|point| point.peak_bytes < u64::MAX);
    let slope = match (finite().next(), finite().next_back()) {
        (Some(first), Some(last)) if first.batch < last.batch => {
            let before = finite().rev().find(|point| point.batch <= last.batch / 2).unwrap_or(first);
            let bytes = last.peak_bytes.saturating_sub(before.peak_bytes);
            bytes.div_ceil((last.batch - before.batch) as u64)
        }
        (Some(only), _) => only.peak_bytes.saturating_sub(known_bytes).div_ceil(only.batch as u64),
        _ => 0,
    };
    slope.max(input_bytes_per_sample)
}

/// The peak at `batch` on the lines between the observations, whatever their order. It never falls as `batch` grows.
///
/// Without an observation it is that of the slope alone.
pub(crate) fn interpolate(observations: &[Observation], batch: usize, slope_beyond: u64) -> u64 {
    let below = observations.iter().filter(|seen| seen.batch <= batch);
    let above = observations.iter().filter(|seen| seen.batch > batch).min_by_key(|seen| seen.batch);
    let reached_bytes = below.clone().map(|seen| seen.peak_bytes).max().unwrap_or(0);
    let nearest = below.map(|seen| seen.batch).max();
    match (nearest, above) {
        (None, Some(first)) => first.peak_bytes,
        (None, None) => slope_beyond.saturating_mul(batch as u64),
        (Some(nearest), None) => reached_bytes.saturating_add(slope_beyond.saturating_mul((batch - nearest) as u64)),
        (Some(nearest), Some(above)) => {
            let rise = u128::from(above.peak_bytes.saturating_sub(reached_bytes));
            let share = rise * (batch - nearest) as u128;
            let share = share.div_ceil((above.batch - nearest) as u128);
            reached_bytes.saturating_add(u64::try_from(share).unwrap_or(u64::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Budget, BudgetRequest, MemoryReading, PlanRequest, plan_batch_size};

    const KNOWN: FixedMemory =
        FixedMemory { weights: 100, buffers: 0, gradients: 100, optimizer: 200, ema: 0, overhead: 0 };

    fn points(of: &[(usize, u64)]) -> Vec<Observation> {
        of.iter().map(|&(batch, peak_bytes)| Observation { batch, peak_bytes }).collect()
    }

    fn captured(of: &[(usize, u64)]) -> Footprint {
        Footprint::from_exact(ExactSource::Captured, KNOWN, 4, &points(of)).unwrap()
    }

    #[test]
    fn observed_batches_are_exact_and_others_lie_between() {
        let footprint = captured(&[(4, 700), (1, 500), (2, 500), (8, 1_500)]);
        for (batch, peak) in [(0, 500), (1, 500), (2, 500), (3, 600), (4, 700), (6, 1_100), (7, 1_300), (8, 1_500)] {
            assert_eq!(footprint.peak_bytes(batch), peak, "{batch}");
        }
        assert_eq!(footprint.peak_bytes(10), 1_900, "the slope of the last doubling goes on");
        assert!(footprint.is_exact_at(4) && !footprint.is_exact_at(3));
    }

    #[test]
    fn a_peak_never_falls_though_observations_do() {
        let footprint = captured(&[(1, 900), (2, 600), (4, 1_000), (5, 990), (8, 1_200)]);
        assert_eq!(footprint.peak_bytes(2), 900);
        assert_eq!(footprint.peak_bytes(5), 1_000);
        let peaks: Vec<u64> = (0..40).map(|batch| footprint.peak_bytes(batch)).collect();
        assert!(peaks.is_sorted(), "{peaks:?}");
    }

    #[test]
    fn neighbours_at_the_end_of_a_search_do_not_set_the_slope() {
        let of_pages = captured(&[(1, 1_000), (4, 1_400), (8, 1_800), (9, 1_800)]);
        assert_eq!(of_pages.peak_bytes(19), 1_800 + 10 * 80);
        let of_a_jump = captured(&[(1, 1_000), (4, 1_400), (8, 1_800), (9, 2_800)]);
        assert_eq!(of_a_jump.peak_bytes(10), 2_800 + 280);
    }

    #[test]
    fn one_observation_gives_a_line_through_what_is_known() {
        let footprint = captured(&[(2, 1_000)]);
        assert_eq!(footprint.per_sample.total(), 300);
        assert_eq!([1, 2, 4].map(|batch| footprint.peak_bytes(batch)), [1_000, 1_000, 1_600]);
    }

    #[test]
    fn a_batch_that_the_source_cannot_hold_never_fits() {
        let footprint = captured(&[(1, 500), (2, 600), (4, 800), (5, u64::MAX)]);
        assert_eq!(footprint.per_sample.total(), 100);
        assert_eq!(footprint.peak_bytes(5), u64::MAX);
        assert_eq!(footprint.peak_bytes(500), u64::MAX);
        let nowhere = captured(&[(1, u64::MAX)]);
        assert_eq!(nowhere.peak_bytes(1), u64::MAX);
    }

    #[test]
    fn memory_that_is_added_later_raises_every_peak() {
        let mut footprint = captured(&[(1, 500), (2, 600)]);
        footprint.fixed.overhead += 50;
        assert_eq!([1, 2, 3].map(|batch| footprint.peak_bytes(batch)), [550, 650, 750]);
        footprint.floor_bytes = 620;
        assert_eq!([1, 2, 3].map(|batch| footprint.peak_bytes(batch)), [620, 650, 750]);
    }

    #[test]
    fn accumulation_is_evaluated_where_it_can_be_and_added_where_not() {
        let alone = captured(&[(1, 500), (2, 600)]).with_accumulation_extra(100);
        assert_eq!(alone.accumulating().peak_bytes(2), 700);
        let both = alone.with_accumulating_observations(&points(&[(1, 520), (2, 640)])).unwrap();
        assert_eq!(both.peak_bytes(2), 600);
        let accumulating = both.accumulating();
        assert_eq!([1, 2].map(|batch| accumulating.peak_bytes(batch)), [520, 640]);
        assert_eq!(accumulating.fixed.gradients, 200, "the sums count as gradients");
        assert_eq!(accumulating.accumulating(), accumulating);
        let measured = Footprint::from_measurements(KNOWN, 4, &points(&[(1, 500), (2, 600)])).unwrap();
        assert_eq!(measured.with_accumulating_observations(&points(&[(1, 520)])), Err(FootprintError::NotExact));
    }

    #[test]
    fn exact_footprints_survive_json_and_say_where_they_come_from() {
        for (kind, name, words) in [
            (ExactSource::Captured, "captured", "captured graph, evaluated at 3 batch sizes from 1 to 4"),
            (ExactSource::DryRun, "dry_run", "dry run on the device, at 3 batch sizes from 1 to 4"),
        ] {
            let footprint = Footprint::from_exact(kind, KNOWN, 4, &points(&[(1, 500), (2, 600), (4, 800)])).unwrap();
            let text = serde_json::to_string(&footprint).unwrap();
            assert!(text.contains(&format!(r#""kind":"{name}""#)), "{text}");
            assert!(!text.contains("accumulating"), "{text}");
            assert_eq!(serde_json::from_str::<Footprint>(&text).unwrap(), footprint);
            assert_eq!(footprint.source.describe(), words);
            assert_eq!(footprint.largest_observed_batch(), Some(4));
        }
    }

    /// Of a step that is taken whole few sizes are asked for, where it does not fit: what lies between them says nothing of its parts.
    #[test]
    fn parts_of_a_step_are_those_that_were_evaluated() {
        let whole = captured(&[(1, 500), (152, 13_900)]);
        let footprint =
            whole.with_accumulating_observations(&points(&[(1, 500), (140, 12_860), (144, 13_900)])).unwrap();
        let reading = MemoryReading { total_bytes: 1 << 30, free_bytes: 1 << 30, own_bytes: 0 };
        let limit = BudgetRequest { limit_bytes: Some(12_870), ..BudgetRequest::default() };
        let request = PlanRequest { effective_batch: Some(280), ..PlanRequest::default() };
        let plan = plan_batch_size(&footprint, &Budget::for_host(reading, &limit).unwrap(), &request).unwrap();
        assert_eq!(plan.micro_batches, [140, 140]);
    }

    #[test]
    fn beyond_its_observations_a_footprint_may_grow_as_another_does() {
        let bending = captured(&[(1, 500), (4, 560), (8, 700), (16, 1_500)]);
        let own = captured(&[(1, 510), (4, 570)]);
        let grown = own.clone().with_growth_of(&bending, 1_510);
        assert_eq!(grown.peak_bytes(4), 570);
        assert_eq!(grown.peak_bytes(16), 570 + 12 * 79, "as from 560 to 1500, rounded up");
        assert_eq!(own.clone().with_growth_of(&bending, 550), own, "the budget ends before");
        let flat = captured(&[(1, 500), (LARGEST_BATCH, 500)]);
        assert_eq!(own.clone().with_growth_of(&flat, 1_510).per_sample.activations, 0);
    }

    #[test]
    fn observations_that_say_nothing_are_refused() {
        let refused =
            |of: &[(usize, u64)]| Footprint::from_exact(ExactSource::DryRun, KNOWN, 4, &points(of)).unwrap_err();
        assert_eq!(refused(&[]), FootprintError::NoObservation);
        assert_eq!(refused(&[(0, 1), (1, 2)]), FootprintError::EmptyBatch);
        assert!(refused(&[]).hint().is_some());
    }

    #[test]
    fn parts_sum_to_the_peak_and_absurd_sizes_saturate() {
        let footprint = captured(&[(1, 500), (2, 600), (4, 850)]);
        for batch in [0, 1, 3, 4, 100] {
            let breakdown = footprint.breakdown(batch);
            let parts: u64 = breakdown.parts().iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(parts - breakdown.not_alive_at_peak, breakdown.total);
        }
        let mut absurd = footprint;
        absurd.fixed.weights = u64::MAX;
        absurd.per_sample.activations = u64::MAX;
        assert_eq!(absurd.peak_bytes(usize::MAX), u64::MAX);
    }
}
