//! How fast real steps go at several batch sizes.

use std::time::Instant;

use memory_planner::ThroughputSample;
use trainer::TrainStep;
use vision_nn::Classifier;

use crate::training::RealSteps;

/// Passes that are timed at one batch size; the first one, which may still tune kernels, is not among them.
const TIMED_PASSES: usize = 2;

/// A size that is faster than the one before by less than this share ends the timing: larger ones are no faster either.
const GROWTH_SHARE: f64 = 0.02;

/// Seconds since some moment.
pub trait Clock {
    /// Now.
    fn seconds(&self) -> f64;
}

/// The clock on the wall, from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct WallClock(Instant);

impl Default for WallClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for WallClock {
    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Times real passes, forward and back, at `batches` in ascending order, until a larger batch is no faster. The step is used up; its micro-batch size
/// must be at least every batch.
///
/// `None` when `allowed_seconds` pass before that is known: a size is not begun that would take longer than is left. The first pass of each size is not
/// counted, for it may tune kernels.
pub fn measure_throughput<M: Classifier>(
    step: TrainStep<M>,
    image: [usize; 3],
    batches: &[usize],
    allowed_seconds: f64,
    clock: &dyn Clock,
) -> Option<Vec<ThroughputSample>> {
    let mut probe = RealSteps::new(step, image);
    time_passes(&mut |batch| drop(probe.gradients(batch)), batches, allowed_seconds, clock)
}

fn time_passes(
    pass: &mut dyn FnMut(usize),
    batches: &[usize],
    allowed_seconds: f64,
    clock: &dyn Clock,
) -> Option<Vec<ThroughputSample>> {
    let mut samples: Vec<ThroughputSample> = Vec::new();
    let mut used_seconds = 0.0;
    for &batch in batches {
        let before = samples.last().copied();
        let expected = before.map_or(0.0, |before| (TIMED_PASSES * batch) as f64 / before.samples_per_second);
        if used_seconds + expected > allowed_seconds {
            return None;
        }
        pass(batch);
        let fastest = (0..TIMED_PASSES).map(|_| seconds_of(&mut || pass(batch), clock, &mut used_seconds));
        let samples_per_second = batch as f64 / fastest.fold(f64::INFINITY, f64::min);
        samples.push(ThroughputSample { batch, samples_per_second });
        if before.is_some_and(|before| samples_per_second < before.samples_per_second * (1.0 + GROWTH_SHARE)) {
            break;
        }
    }
    Some(samples)
}

fn seconds_of(pass: &mut dyn FnMut(), clock: &dyn Clock, used_seconds: &mut f64) -> f64 {
    let begun = clock.seconds();
    pass();
    let seconds = clock.seconds() - begun;
    *used_seconds += seconds;
    seconds
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A device on which a pass takes a second to launch, or a quarter of a second an image where that is longer.
    struct Device(Cell<f64>);

    impl Clock for Device {
        fn seconds(&self) -> f64 {
            self.0.get()
        }
    }

    impl Device {
        fn time(&self, batches: &[usize], allowed_seconds: f64) -> (Option<Vec<ThroughputSample>>, Vec<usize>) {
            let mut run = Vec::new();
            let mut pass = |batch: usize| {
                run.push(batch);
                let tuning = if run.iter().filter(|seen| **seen == batch).count() == 1 { 100.0 } else { 0.0 };
                self.0.set(self.0.get() + tuning + (batch as f64 / 4.0).max(1.0));
            };
            let samples = time_passes(&mut pass, batches, allowed_seconds, self);
            (samples, run)
        }
    }

    #[test]
    fn timing_ends_with_the_first_size_that_is_no_faster() {
        let (samples, run) = Device(Cell::new(7.0)).time(&[1, 2, 4, 8, 16], 100.0);
        let speeds: Vec<_> = samples.unwrap().iter().map(|sample| (sample.batch, sample.samples_per_second)).collect();
        assert_eq!(speeds, [(1, 1.0), (2, 2.0), (4, 4.0), (8, 4.0)]);
        assert_eq!(run, [1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8]);
    }

    #[test]
    fn nothing_is_said_when_the_time_is_up_before_the_plateau() {
        // 1, 2 and 4 images take 2 s each; 8 images would take 4 s more, and tuning counts for nothing.
        let batches = [1, 2, 4, 8, 16];
        assert!(Device(Cell::new(0.0)).time(&batches, 10.0).0.is_some());
        let (samples, run) = Device(Cell::new(0.0)).time(&batches, 9.9);
        assert_eq!(samples, None);
        assert!(!run.contains(&8));
    }

    #[test]
    fn the_largest_size_may_still_be_faster() {
        let samples = Device(Cell::new(0.0)).time(&[1, 2], 100.0).0.unwrap();
        assert_eq!(samples.last().map(|sample| sample.batch), Some(2));
    }
}
