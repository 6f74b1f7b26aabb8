//! From observed peaks to a line that lies below none of them.

use thiserror::Error;

use crate::{Footprint, Observation, format_bytes};

/// A slope may fall short of the input's size by this share: noise, not a mistake in the measurement.
const TOLERATED_SHORTFALL_SHARE: f64 = 0.02;

/// A slope that rises by more than this share without the smallest batch means that another phase set the peak there.
const BEND_SHARE: f64 = 0.05;

/// Why observations do not make a footprint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FootprintError {
    /// A line needs two points.
    #[error("a memory footprint needs observations at 2 batch sizes or more, found {found}")]
    TooFewBatchSizes {
        /// How many different batch sizes were observed.
        found: usize,
    },
    /// Exact observations need no line, but one point.
    #[error("a memory footprint needs an observation")]
    NoObservation,
    /// Steps that accumulate were observed by another source than the footprint's.
    #[error("a measured memory footprint takes no exact observations of accumulation")]
    NotExact,
    /// A step of no samples says nothing.
    #[error("a memory observation has batch size 0")]
    EmptyBatch,
    /// The peak grew by less than the samples themselves take, or fell. Another phase than the forward pass set it, or a
    /// first step's extra work did: whatever a line through such points says of larger batches is too little.
    #[error(
        "peak memory went from {} to {} as the batch grew from {small_batch} to {large_batch}, by less than its input",
        format_bytes(*.small_peak_bytes),
        format_bytes(*.large_peak_bytes)
    )]
    PeakDoesNotGrow {
        /// The smallest batch observed.
        small_batch: usize,
        /// Its peak.
        small_peak_bytes: u64,
        /// The largest batch observed.
        large_batch: usize,
        /// Its peak.
        large_peak_bytes: u64,
    },
}

impl FootprintError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TooFewBatchSizes { .. } => "measure steps at two batch sizes, such as 2 and 8".to_owned(),
            Self::NoObservation => "evaluate the step at batch size 1".to_owned(),
            Self::NotExact => "state the bytes that accumulation adds instead".to_owned(),
            Self::EmptyBatch => "measure steps of at least one sample".to_owned(),
            Self::PeakDoesNotGrow { .. } => {
                "measure larger batch sizes, after a warm-up step, with the peak reset before each step".to_owned()
            }
        })
    }
}

/// `peak(b) = max(floor, known + constant_workspace + b * bytes_per_sample)`.
pub(crate) struct FittedLine {
    pub(crate) bytes_per_sample: u64,
    pub(crate) constant_workspace: i64,
    pub(crate) floor_bytes: u64,
}

pub(crate) fn fit_line(
    known_bytes: u64,
    input_bytes_per_sample: u64,
    observations: &[Observation],
) -> Result<FittedLine, FootprintError> {
    let points = worst_per_batch(observations)?;
    let (flat, rising) = split_at_bend(&points);
    let slope = least_squares_slope(rising);
    if slope < input_bytes_per_sample as f64 * (1.0 - TOLERATED_SHORTFALL_SHARE) {
        return Err(does_not_grow(&points));
    }
    let bytes_per_sample = (slope.ceil() as u64).max(input_bytes_per_sample);
    let floor_bytes = flat.iter().map(|point| point.peak_bytes).fold(known_bytes, u64::max);
    Ok(FittedLine {
        bytes_per_sample,
        constant_workspace: lifted_constant(rising, bytes_per_sample, known_bytes),
        floor_bytes,
    })
}

pub(crate) fn largest_residual_share(footprint: &Footprint, observations: &[Observation]) -> f64 {
    observations
        .iter()
        .map(|seen| footprint.peak_bytes(seen.batch).abs_diff(seen.peak_bytes) as f64 / seen.peak_bytes.max(1) as f64)
        .fold(0.0, f64::max)
}

/// One point per batch size, the worst of its repetitions, in ascending order.
fn worst_per_batch(observations: &[Observation]) -> Result<Vec<Observation>, FootprintError> {
    if observations.iter().any(|seen| seen.batch == 0) {
        return Err(FootprintError::EmptyBatch);
    }
    let mut points = observations.to_vec();
    points.sort_by_key(|seen| (seen.batch, std::cmp::Reverse(seen.peak_bytes)));
    points.dedup_by_key(|seen| seen.batch);
    if points.len() < 2 {
        return Err(FootprintError::TooFewBatchSizes { found: points.len() });
    }
    Ok(points)
}

/// `points` has at least two.
fn does_not_grow(points: &[Observation]) -> FootprintError {
    let (small, large) = (points[0], points[points.len() - 1]);
    FootprintError::PeakDoesNotGrow {
        small_batch: small.batch,
        small_peak_bytes: small.peak_bytes,
        large_batch: large.batch,
        large_peak_bytes: large.peak_bytes,
    }
}

/// Cuts off the small batches at which the peak does not yet grow as it will: a line through them would be too shallow,
/// and every plan beyond the observed batches an under-estimate.
fn split_at_bend(points: &[Observation]) -> (&[Observation], &[Observation]) {
    let mut start = 0;
    while points.len() - start > 2 {
        let slope = least_squares_slope(&points[start..]).max(0.0);
        if least_squares_slope(&points[start + 1..]) <= slope * (1.0 + BEND_SHARE) {
            break;
        }
        start += 1;
    }
    points.split_at(start)
}

/// Bytes per sample. The points have at least two different batch sizes.
fn least_squares_slope(points: &[Observation]) -> f64 {
    let count = points.len() as f64;
    let mean_batch = points.iter().map(|point| point.batch as f64).sum::<f64>() / count;
    let mean_peak = points.iter().map(|point| point.peak_bytes as f64).sum::<f64>() / count;
    let (mut covariance, mut variance) = (0.0, 0.0);
    for point in points {
        let distance = point.batch as f64 - mean_batch;
        covariance += distance * (point.peak_bytes as f64 - mean_peak);
        variance += distance * distance;
    }
    covariance / variance
}

/// The smallest constant with which the line reaches every point: the least-squares intercept plus its worst residual.
fn lifted_constant(points: &[Observation], bytes_per_sample: u64, known_bytes: u64) -> i64 {
    let lifted = points
        .iter()
        .map(|point| {
            let samples = (point.batch as i128).saturating_mul(i128::from(bytes_per_sample));
            i128::from(point.peak_bytes) - i128::from(known_bytes) - samples
        })
        .max()
        .unwrap_or(0);
    lifted.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FixedMemory, FootprintSource};

    fn points(of: &[(usize, u64)]) -> Vec<Observation> {
        of.iter().map(|&(batch, peak_bytes)| Observation { batch, peak_bytes }).collect()
    }

    fn known(weights: u64) -> FixedMemory {
        FixedMemory { weights, ..FixedMemory::default() }
    }

    #[test]
    fn two_points_give_their_line() {
        let footprint = Footprint::from_measurements(known(100), 4, &points(&[(2, 220), (6, 260)])).unwrap();
        assert_eq!(footprint.per_sample.total(), 10);
        assert_eq!(footprint.per_sample.input, 4);
        assert_eq!(footprint.constant_workspace, 100);
        assert_eq!(footprint.peak_bytes(20), 400);
    }

    #[test]
    fn no_observed_point_is_under_estimated() {
        let noisy = points(&[(1, 1_030), (2, 1_090), (4, 1_330), (8, 1_690), (8, 1_702), (16, 2_510)]);
        let footprint = Footprint::from_measurements(known(700), 4, &noisy).unwrap();
        for point in &noisy {
            assert!(footprint.peak_bytes(point.batch) >= point.peak_bytes, "{point:?}");
        }
        let FootprintSource::Measured { largest_residual_share, .. } = footprint.source else {
            panic!("another source")
        };
        assert!(largest_residual_share > 0.0 && largest_residual_share < 0.05, "{largest_residual_share}");
    }

    #[test]
    fn a_flat_beginning_becomes_the_floor_and_not_a_shallow_slope() {
        let bent = points(&[(1, 1_000), (2, 1_000), (4, 1_000), (8, 1_400), (16, 2_200)]);
        let footprint = Footprint::from_measurements(known(900), 4, &bent).unwrap();
        assert_eq!(footprint.per_sample.total(), 100);
        assert_eq!(footprint.floor_bytes, 1_000);
        assert_eq!(footprint.peak_bytes(1), 1_000);
        assert_eq!(footprint.peak_bytes(64), 7_000);
    }

    #[test]
    fn parts_that_are_dead_at_the_peak_make_the_constant_negative() {
        let footprint = Footprint::from_measurements(known(500), 1, &points(&[(10, 1_400), (20, 2_400)])).unwrap();
        assert_eq!(footprint.constant_workspace, -100);
        assert_eq!(footprint.peak_bytes(1), 500, "the optimizer step needs the known parts at once");
        assert_eq!(footprint.breakdown(10).not_alive_at_peak, 100);
    }

    #[test]
    fn a_peak_that_grows_by_less_than_the_input_says_nothing_of_larger_batches() {
        let fit = |of: &[(usize, u64)]| Footprint::from_measurements(known(0), 50, &points(of));
        assert_eq!(fit(&[(1, 1_000), (5, 1_199)]).unwrap().per_sample.total(), 50, "a byte short is noise");
        for flat in [[(1, 2_048), (9, 2_048)], [(1, 2_048), (9, 1_024)]] {
            assert!(matches!(fit(&flat), Err(FootprintError::PeakDoesNotGrow { large_batch: 9, .. })));
        }
        let error = fit(&[(1, 2_048), (4, 3_072), (9, 1_024)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "peak memory went from 2.0 KiB to 1.0 KiB as the batch grew from 1 to 9, by less than its input"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn observations_that_make_no_line_are_refused() {
        let fit = |of: &[(usize, u64)]| Footprint::from_measurements(known(0), 1, &points(of)).unwrap_err();
        assert_eq!(fit(&[]), FootprintError::TooFewBatchSizes { found: 0 });
        assert_eq!(fit(&[(3, 10), (3, 12)]), FootprintError::TooFewBatchSizes { found: 1 });
        assert_eq!(fit(&[(0, 10), (3, 12)]), FootprintError::EmptyBatch);
    }
}
