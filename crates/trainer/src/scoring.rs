use std::ops::Range;

use burn::tensor::Device;

use crate::{ComputeError, FaultPlan, MemoryWatch, OutOfMemory, Phase, RecoveryEvent};

/// How far scoring has come, or what held it up.
#[derive(Debug, Clone, Copy)]
pub enum Scoring<'a> {
    /// So many samples are done, corrupt ones counted.
    Done(usize),
    /// Memory ran out; the same samples are scored again, fewer at once.
    OutOfMemory(&'a RecoveryEvent),
}

/// Scores batches in pieces that become smaller when memory runs out, and stay so. Samples keep their order, and none is left out.
#[derive(Debug, Clone)]
pub struct Pieces {
    phase: Phase,
    largest: usize,
    faults: FaultPlan,
    batches_done: u64,
}

impl Pieces {
    /// Whole batches, until memory runs out or `faults` has it so.
    pub fn new(phase: Phase, faults: FaultPlan) -> Self {
        Self { phase, largest: usize::MAX, faults, batches_done: 0 }
    }

    /// Never more than so many samples at once, and at least one.
    #[must_use]
    pub fn at_most(self, samples: usize) -> Self {
        Self { largest: self.largest.min(samples.max(1)), ..self }
    }

    /// Most samples at once.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// Has `work` score `samples` samples, a range of them at a time, and returns what it made of each range, in order.
    ///
    /// `work` computes within the watch it is given, and may read what it computed afterwards. Memory that ran out is told to `told`.
    ///
    /// # Errors
    /// [`ComputeError::OutOfMemory`] when not even one sample fits, and whatever else `work` returns.
    pub fn score<T>(
        &mut self,
        samples: usize,
        device: &Device,
        told: &mut dyn FnMut(&RecoveryEvent),
        mut work: impl FnMut(Range<usize>, &MemoryWatch) -> Result<T, ComputeError>,
    ) -> Result<Vec<T>, ComputeError> {
        let mut scored = Vec::new();
        let mut first = 0;
        while first < samples {
            let watch = MemoryWatch::begin(device);
            let size = self.largest.min(samples - first);
            let attempt = work(first..first + size, &watch);
            match attempt.and_then(|piece| self.strike().map(|()| piece)) {
                Ok(piece) => {
                    scored.push(piece);
                    first += size;
                }
                Err(ComputeError::OutOfMemory(reason)) => {
                    watch.clean_up();
                    told(&self.halve(size, reason)?);
                }
                Err(error) => return Err(error),
            }
        }
        self.batches_done += 1;
        Ok(scored)
    }

    fn strike(&mut self) -> Result<(), ComputeError> {
        match self.faults.strikes_scoring(self.batches_done) {
            true => Err(OutOfMemory::Injected.into()),
            false => Ok(()),
        }
    }

    fn halve(&mut self, size: usize, reason: OutOfMemory) -> Result<RecoveryEvent, ComputeError> {
        let event = RecoveryEvent::halved(self.phase, None, size, &reason).ok_or(reason)?;
        self.largest = event.micro_batch_after;
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First sample and size of a piece.
    type Piece = (usize, usize);

    /// The pieces that were scored, and the sizes that memory led to.
    fn scored(pieces: &mut Pieces, samples: usize) -> (Result<Vec<Piece>, ComputeError>, Vec<usize>) {
        let mut sizes = Vec::new();
        let mut told = |event: &RecoveryEvent| sizes.push(event.micro_batch_after);
        let scored =
            pieces.score(samples, &Device::flex(), &mut told, |range, watch| watch.run(|| (range.start, range.len())));
        (scored, sizes)
    }

    #[test]
    fn an_injected_failure_halves_the_batch_and_no_sample_is_lost_or_done_twice() {
        let mut pieces = Pieces::new(Phase::Evaluation, "eval:1,eval:2".parse().unwrap());
        assert_eq!(scored(&mut pieces, 7), (Ok(vec![(0, 7)]), vec![]));
        assert_eq!(scored(&mut pieces, 7), (Ok(vec![(0, 3), (3, 3), (6, 1)]), vec![3]));
        assert_eq!(scored(&mut pieces, 2), (Ok(vec![(0, 1), (1, 1)]), vec![1]));
        assert_eq!((scored(&mut pieces, 2), pieces.largest()), ((Ok(vec![(0, 1), (1, 1)]), vec![]), 1));
    }

    #[test]
    fn no_piece_is_larger_than_it_may_be() {
        let mut pieces = Pieces::new(Phase::Prediction, FaultPlan::default()).at_most(3);
        assert_eq!(scored(&mut pieces, 7), (Ok(vec![(0, 3), (3, 3), (6, 1)]), vec![]));
        assert_eq!(pieces.at_most(0).largest(), 1);
    }

    #[test]
    fn a_panic_for_lack_of_memory_halves_until_it_fits() {
        let mut pieces = Pieces::new(Phase::Prediction, FaultPlan::default());
        let mut told = 0;
        let scored = pieces.score(10, &Device::flex(), &mut |_| told += 1, |range, watch| {
            watch.run(|| {
                assert!(range.len() <= 3, "failed to reserve {} bytes of device memory", range.len());
                range.len()
            })
        });
        assert_eq!((scored.unwrap(), told), (vec![2, 2, 2, 2, 2], 2), "10, 5, 2");
    }

    #[test]
    fn one_sample_that_does_not_fit_is_the_end() {
        let mut pieces = Pieces::new(Phase::Prediction, "eval:0,eval:0".parse().unwrap());
        let (scored, sizes) = scored(&mut pieces, 2);
        assert_eq!((scored.unwrap_err(), sizes), (OutOfMemory::Injected.into(), vec![1]));
    }
}
