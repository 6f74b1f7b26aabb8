use crate::RecoveryEvent;

/// Optimizer steps without trouble after which a reduced micro-batch may grow. A growth that fails costs one step done twice: a hundredth.
pub const STEPS_BEFORE_GROWTH: u64 = 100;

/// The micro-batch of the moment, and what the run has learnt of the memory.
///
/// Only its size changes: the effective batch is cut anew and stays whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MicroBatch {
    planned: usize,
    current: usize,
    quiet_steps: u64,
    has_grown: bool,
    /// Sizes from here on have failed after the run had grown to them.
    refused: usize,
}

impl MicroBatch {
    /// What was planned, before anything happened.
    pub(crate) fn new(planned: usize) -> Self {
        Self { planned, current: planned, quiet_steps: 0, has_grown: false, refused: usize::MAX }
    }

    /// As it was planned.
    pub(crate) fn planned(&self) -> usize {
        self.planned
    }

    /// Most samples at once.
    pub(crate) fn size(&self) -> usize {
        self.current
    }

    /// A step went through.
    pub(crate) fn note_quiet_step(&mut self) {
        self.quiet_steps += 1;
    }

    /// The size to grow to, when it is time to ask whether memory allows it. It is time again only after as many steps more.
    pub(crate) fn due_growth(&mut self) -> Option<usize> {
        let larger = (2 * self.current).min(self.planned);
        if self.quiet_steps < STEPS_BEFORE_GROWTH || larger == self.current || larger >= self.refused {
            return None;
        }
        self.quiet_steps = 0;
        Some(larger)
    }

    /// Takes up what happened, now or in an earlier part of the run.
    pub(crate) fn follow(&mut self, event: &RecoveryEvent) {
        let (before, after) = (event.micro_batch_before, event.micro_batch_after);
        if after > before {
            self.has_grown = true;
        } else if self.has_grown {
            self.refused = self.refused.min(before);
        }
        self.current = after.clamp(1, self.planned.max(1));
        self.quiet_steps = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Phase;

    fn change(batch: &mut MicroBatch, micro_batch_before: usize, micro_batch_after: usize) {
        let reason = String::new();
        let event = RecoveryEvent {
            phase: Phase::Training,
            step: None,
            micro_batch_before,
            micro_batch_after,
            reason,
            limit_bytes: None,
        };
        batch.follow(&event);
    }

    fn quiet(batch: &mut MicroBatch, steps: u64) {
        (0..steps).for_each(|_| batch.note_quiet_step());
    }

    #[test]
    fn growth_is_due_after_enough_quiet_steps_and_never_beyond_the_plan() {
        let mut batch = MicroBatch::new(6);
        quiet(&mut batch, 10 * STEPS_BEFORE_GROWTH);
        assert_eq!(batch.due_growth(), None, "there is nothing to grow to");
        change(&mut batch, 6, 3);
        change(&mut batch, 3, 1);
        quiet(&mut batch, STEPS_BEFORE_GROWTH - 1);
        assert_eq!(batch.due_growth(), None);
        quiet(&mut batch, 1);
        assert_eq!(batch.due_growth(), Some(2));
        assert_eq!(batch.due_growth(), None, "it was asked just now");
        for (before, after) in [(1, 2), (2, 4), (4, 6)] {
            assert_eq!(batch.size(), before);
            quiet(&mut batch, STEPS_BEFORE_GROWTH);
            assert_eq!(batch.due_growth(), Some(after));
            change(&mut batch, before, after);
        }
        quiet(&mut batch, STEPS_BEFORE_GROWTH);
        assert_eq!(batch.due_growth(), None);
    }

    #[test]
    fn a_growth_that_fails_is_not_tried_at_that_size_again() {
        let mut batch = MicroBatch::new(8);
        for (before, after) in [(8, 4), (4, 2), (2, 4), (4, 8), (8, 4)] {
            change(&mut batch, before, after);
        }
        quiet(&mut batch, STEPS_BEFORE_GROWTH);
        assert_eq!(batch.due_growth(), None, "8 failed after it had been grown to");
        change(&mut batch, 4, 2);
        quiet(&mut batch, STEPS_BEFORE_GROWTH);
        assert_eq!(batch.due_growth(), None, "4 did as well");
        change(&mut batch, 2, 1);
        assert_eq!(batch.size(), 1);
    }
}
