//! A batch in the making: samples arrive in any order, each in its own place.

use super::{Batch, CorruptImage, LoadError};
use crate::LastSteps;

/// What became of one sample.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its pixels are in the worker's scratch buffer.
    Pixels {
        label: Option<u32>,
        last_steps: LastSteps,
    },
    Skipped(CorruptImage),
    Failed(LoadError),
}

#[derive(Debug)]
pub(super) struct Slot {
    index: usize,
    samples: Vec<usize>,
    size: [usize; 3],
    /// `[B, H, W, C]`
    pixels: Vec<u8>,
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
}

impl Slot {
    pub(super) fn new(index: usize, samples: Vec<usize>, size: [usize; 3]) -> Self {
        let sample_bytes = size.iter().product::<usize>();
        let pixels = vec![0; samples.len() * sample_bytes];
        let outcomes = samples.iter().map(|_| None).collect();
        Self { index, missing: samples.len(), samples, size, pixels, outcomes }
    }

    /// Puts a sample in its place; true when it was the last one missing.
    pub(super) fn place(&mut self, position: usize, outcome: Outcome, pixels: &[u8]) -> bool {
        if let Outcome::Pixels { .. } = outcome {
            self.pixels[position * pixels.len()..][..pixels.len()].copy_from_slice(pixels);
        }
        self.outcomes[position] = Some(outcome);
        self.missing -= 1;
        self.missing == 0
    }

    /// The batch without what was skipped and with the steps of each sample, whether there are any or not; or the first failure in the order of the samples.
    pub(super) fn finish(mut self) -> Result<Batch, LoadError> {
        let sample_bytes = self.size.iter().product::<usize>();
        let (mut labels, mut samples, mut corrupt) = (Vec::new(), Vec::new(), Vec::new());
        let mut left = Vec::new();
        for (position, outcome) in self.outcomes.into_iter().enumerate() {
            match outcome.expect("a slot is finished once every sample is placed") {
                Outcome::Pixels { label, last_steps } => {
                    let start = position * sample_bytes;
                    self.pixels.copy_within(start..start + sample_bytes, samples.len() * sample_bytes);
                    labels.push(label);
                    left.push(last_steps);
                    samples.push(self.samples[position]);
                }
                Outcome::Skipped(image) => corrupt.push(image),
                Outcome::Failed(error) => return Err(error),
            }
        }
        self.pixels.truncate(samples.len() * sample_bytes);
        let Self { index, pixels, size, .. } = self;
        Ok(Batch { index, pixels, labels, samples, corrupt, size, partners: Vec::new(), last_steps: left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(label: u32) -> Outcome {
        Outcome::Pixels { label: Some(label), last_steps: LastSteps::default() }
    }

    fn skipped(sample: usize) -> Outcome {
        Outcome::Skipped(CorruptImage { sample, path: "a.png".into(), reason: "torn".into() })
    }

    #[test]
    fn samples_keep_their_places_whatever_arrives_first_and_skipped_ones_leave_no_gap() {
        let mut slot = Slot::new(3, vec![7, 8, 9, 10], [1, 2, 1]);
        assert!(!slot.place(3, pixels(1), &[70, 71]));
        assert!(!slot.place(1, skipped(8), &[9, 9]));
        assert!(!slot.place(2, pixels(0), &[50, 51]));
        assert!(slot.place(0, pixels(2), &[30, 31]));
        let batch = slot.finish().unwrap();
        assert_eq!(batch.pixels, [30, 31, 50, 51, 70, 71]);
        assert_eq!(batch.samples, [7, 9, 10]);
        assert_eq!(batch.labels, [Some(2), Some(0), Some(1)]);
        assert_eq!((batch.index, batch.corrupt.len(), batch.len()), (3, 1, 3));
    }

    #[test]
    fn the_first_failure_in_order_counts_not_the_first_in_time() {
        let failure = |sample| LoadError::NoSuchSample { sample, samples: 1 };
        let mut slot = Slot::new(0, vec![5, 6], [1, 1, 1]);
        slot.place(1, Outcome::Failed(failure(6)), &[]);
        slot.place(0, Outcome::Failed(failure(5)), &[]);
        assert_eq!(slot.finish().unwrap_err(), failure(5));
    }

    #[test]
    fn a_batch_may_lose_every_sample() {
        let mut slot = Slot::new(0, vec![5], [1, 1, 1]);
        assert!(slot.place(0, skipped(5), &[0]));
        assert!(slot.finish().unwrap().is_empty());
    }
}
