//! How fast real steps go at several batch sizes.

use std::time::Instant;

use memory_planner::ThroughputSample;
use trainer::TrainStep;
use vision_nn::Classifier;

use crate::training::RealSteps;

/// Passes of one batch size at most: the first one may still tune kernels.
const MOST_PASSES: usize = 3;

/// Times of the same pass agree where they are this share apart at most, and a size is slower than another by more than this share.
const SAME_SHARE: f64 = 0.02;

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

/// Times real passes, forward and back, at `batches` from the largest down, until a smaller batch is slower. The step is used up; its micro-batch size must
/// be at least every batch.
///
/// A size is passed until two times agree, three times at most, and its shortest pass counts. `None` when `allowed_seconds` pass before it is known which
/// sizes are as fast: a size is not begun that would take longer than is left. First passes do not count towards that, for they may tune kernels.
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
    let mut descending = batches.to_vec();
    descending.sort_unstable_by(|a, b| b.cmp(a));
    let mut samples: Vec<ThroughputSample> = Vec::new();
    let (mut used_seconds, mut best) = (0.0, 0.0);
    for batch in descending {
        let expected = samples.last().map_or(0.0, |before| batch as f64 / before.samples_per_second);
        if used_seconds + expected > allowed_seconds {
            return None;
        }
        let times = times_of(&mut || pass(batch), clock);
        used_seconds += times[1..].iter().sum::<f64>();
        let samples_per_second = batch as f64 / times.into_iter().fold(f64::INFINITY, f64::min);
        samples.push(ThroughputSample { batch, samples_per_second });
        if samples_per_second < best * (1.0 - SAME_SHARE) {
            break;
        }
        best = samples_per_second.max(best);
    }
    Some(samples)
}

/// Seconds of passes that follow one another, until two agree.
fn times_of(pass: &mut dyn FnMut(), clock: &dyn Clock) -> Vec<f64> {
    let mut times: Vec<f64> = Vec::with_capacity(MOST_PASSES);
    while times.len() < MOST_PASSES {
        let begun = clock.seconds();
        pass();
        let seconds = clock.seconds() - begun;
        let agrees = times.last().is_some_and(|before| (before - seconds).abs() <= SAME_SHARE * seconds);
        times.push(seconds);
        if agrees {
            break;
        }
    }
    times
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
        /// What is timed when the first pass of each size takes `tuning_seconds` more, and the sizes that were run, pass by pass.
        fn time(
            &self,
            batches: &[usize],
            allowed_seconds: f64,
            tuning_seconds: f64,
        ) -> (Option<Vec<ThroughputSample>>, Vec<usize>) {
            let mut run = Vec::new();
            let mut pass = |batch: usize| {
                let tuning = if run.contains(&batch) { 0.0 } else { tuning_seconds };
                run.push(batch);
                self.0.set(self.0.get() + tuning + (batch as f64 / 4.0).max(1.0));
            };
            let samples = time_passes(&mut pass, batches, allowed_seconds, self);
            (samples, run)
        }
    }

    #[test]
    fn timing_ends_with_the_first_size_that_is_slower() {
        let (samples, run) = Device(Cell::new(7.0)).time(&[1, 2, 4, 8, 16], 100.0, 100.0);
        let speeds: Vec<_> = samples.unwrap().iter().map(|sample| (sample.batch, sample.samples_per_second)).collect();
        assert_eq!(speeds, [(16, 4.0), (8, 4.0), (4, 4.0), (2, 2.0)]);
        assert_eq!(run, [16, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2]);
    }

    #[test]
    fn a_size_that_finds_its_kernels_tuned_is_passed_twice() {
        let (samples, run) = Device(Cell::new(0.0)).time(&[1, 2], 100.0, 0.0);
        assert_eq!(samples.unwrap().len(), 2);
        assert_eq!(run, [2, 2, 1, 1]);
    }

    #[test]
    fn times_that_differ_are_taken_three_times_and_the_shortest_counts() {
        let device = Device(Cell::new(0.0));
        let mut seconds = [1.0, 0.5, 0.8].into_iter();
        let times = times_of(&mut || device.0.set(device.0.get() + seconds.next().unwrap()), &device);
        let shortest = times.iter().copied().fold(f64::INFINITY, f64::min);
        assert_eq!((times.len(), shortest), (3, 0.5));
    }

    #[test]
    fn nothing_is_said_when_the_time_is_up_before_a_slower_size() {
        // Two passes of 16 images take 8 s, of 8 images 4 s, of 4 and of 2 images 2 s; tuning counts for nothing.
        let batches = [1, 2, 4, 8, 16];
        assert!(Device(Cell::new(0.0)).time(&batches, 14.5, 100.0).0.is_some());
        let (samples, run) = Device(Cell::new(0.0)).time(&batches, 14.4, 100.0);
        assert_eq!(samples, None);
        assert!(!run.contains(&2));
    }

    #[test]
    fn the_smallest_size_may_still_be_as_fast() {
        let samples = Device(Cell::new(0.0)).time(&[8, 16], 100.0, 100.0).0.unwrap();
        assert_eq!(samples.last().map(|sample| sample.batch), Some(8));
    }
}
