//! An optimizer step that survives running out of memory: the same samples with the same random numbers, fewer at once.

use data_pipeline::Batch;
use vision_nn::Classifier;

use crate::fit::{Run, step_seed};
use crate::out_of_memory::{catch_out_of_memory, wait_for};
use crate::{
    ComputeError, Gradients, MemoryLap, MemoryLog, OutOfMemory, Phase, RecoveryEvent, StepScores, TrainError, UncutWork,
};

impl<M: Classifier> Run<'_, M> {
    /// Gradients of an effective batch. While memory does not suffice, the whole batch is done again in micro-batches of half the size: some of
    /// its gradients are sums already, of which nobody knows whether the device finished them.
    pub(crate) fn gradients(&mut self, batch: &Batch, step: u64) -> Result<(Gradients, StepScores), TrainError> {
        self.check_update()?;
        if let Some(work) = UncutWork::take() {
            self.observer.limit_passed(step, &work);
        }
        self.prepare_optimizer(step)?;
        self.grow(step)?;
        let seed = step_seed(self.session.step.options().seed, step);
        loop {
            // The last batch of an epoch may be smaller than a micro-batch.
            let size = self.session.micro_batch.size().min(batch.len());
            let faults = &mut self.faults;
            let strikes = |micro_batch| faults.strikes_step(step, micro_batch);
            let before = self.session.step.copy_of_statistics();
            match self.session.step.try_gradients(batch, seed, size, strikes) {
                Ok((mut gradients, mut scores)) => {
                    self.session.micro_batch.note_quiet_step();
                    if self.faults.strikes_loss(step) {
                        scores.loss_sum = f64::NAN;
                    }
                    if self.faults.strikes_gradient(step) {
                        gradients.make_infinite();
                        scores.gradient_norm = gradients.global_norm();
                    }
                    if scores.nonfinite().is_some() {
                        self.session.step.go_back_to(before);
                    }
                    return Ok((gradients, scores));
                }
                Err(ComputeError::OutOfMemory(reason)) => {
                    self.session.step.go_back_to(before);
                    self.shrink(size, reason, step)?;
                }
                Err(ComputeError::Device { reason }) => return Err(TrainError::Device { reason }),
            }
        }
    }

    /// Makes what the optimizer will keep, before the first gradients want the memory: then the first update takes no more than any other, and what does
    /// not fit is found out where it can be told.
    fn prepare_optimizer(&mut self, step: u64) -> Result<(), TrainError> {
        let (device, phase) = (self.device.clone().inner(), Phase::Training);
        let session = &mut self.session.step;
        let made = catch_out_of_memory(|| session.prepare_optimizer()).map_err(ComputeError::from);
        let made = match made {
            Ok(true) => wait_for(&device),
            Ok(false) => Ok(()),
            Err(failed) => Err(failed),
        };
        made.map_err(|failed| match failed {
            ComputeError::OutOfMemory(reason) => TrainError::OutOfMemoryAtBatchOne { phase, step: Some(step), reason },
            ComputeError::Device { reason } => TrainError::Device { reason },
        })
    }

    /// Moves the weights. From here on nothing can be done again: the old weights are gone while the new ones come.
    pub(crate) fn update(
        &mut self,
        gradients: Gradients,
        norm: f64,
        learning_rate: f64,
        step: u64,
    ) -> Result<(), TrainError> {
        let apply = || self.session.step.apply(gradients, norm, learning_rate, step + 1);
        catch_out_of_memory(apply).map_err(|reason| TrainError::UpdateFailed { step, reason: reason.into() })
    }

    /// Whether the device finished the last update. It is asked as late as possible, so that it works while the next batch is loaded, and before
    /// the next step: whose recovery would otherwise take the update's failure for its own and go on with broken weights.
    pub(crate) fn check_update(&self) -> Result<(), TrainError> {
        let step = self.session.card.progress.step.saturating_sub(1);
        wait_for(&self.device.clone().inner()).map_err(|reason| TrainError::UpdateFailed { step, reason })
    }

    /// Keeps what validation has learnt.
    pub(crate) fn record_validation_recoveries(&mut self, events: Vec<RecoveryEvent>) -> Result<(), TrainError> {
        let step = Some(self.session.card.progress.step);
        events.into_iter().try_for_each(|event| self.record(&RecoveryEvent { step, ..event }))
    }

    /// Halves the micro-batch for the rest of the run.
    fn shrink(&mut self, size: usize, reason: OutOfMemory, step: u64) -> Result<(), TrainError> {
        let phase = Phase::Training;
        let Some(event) = RecoveryEvent::halved(phase, Some(step), size, &reason) else {
            return Err(TrainError::OutOfMemoryAtBatchOne { phase, step: Some(step), reason });
        };
        self.change_micro_batch(&event)
    }

    /// Doubles a reduced micro-batch, where that is wanted, due and allowed.
    fn grow(&mut self, step: u64) -> Result<(), TrainError> {
        if !self.session.step.options().adaptive_batch {
            return Ok(());
        }
        let size = self.session.micro_batch.size();
        let Some(larger) = self.session.micro_batch.due_growth() else { return Ok(()) };
        match self.gauge.lap() {
            Some(lap) if lap.allows_growth(size, larger) => self.change_micro_batch(&growth(step, size, larger, lap)),
            _ => Ok(()),
        }
    }

    fn change_micro_batch(&mut self, event: &RecoveryEvent) -> Result<(), TrainError> {
        self.session.micro_batch.follow(event);
        self.gauge.begin_lap();
        self.record(event)
    }

    fn record(&mut self, event: &RecoveryEvent) -> Result<(), TrainError> {
        MemoryLog::of(&self.session.folder).append(self.session.micro_batch.planned(), event)?;
        match event.is_growth() {
            true => self.observer.micro_batch_grown(event),
            false => self.observer.out_of_memory(event),
        }
        Ok(())
    }
}

fn growth(step: u64, size: usize, larger: usize, lap: MemoryLap) -> RecoveryEvent {
    let needed = memory_planner::format_bytes(lap.peak_bytes_at(size, larger));
    let allowed = memory_planner::format_bytes(lap.allowed_bytes);
    RecoveryEvent {
        phase: Phase::Training,
        step: Some(step),
        micro_batch_before: size,
        micro_batch_after: larger,
        reason: format!("it should take {needed} of {allowed}"),
        limit_bytes: None,
    }
}
