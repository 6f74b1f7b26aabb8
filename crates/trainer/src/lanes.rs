//! Several devices that share the micro-batches of an effective batch.

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use data_pipeline::Batch;
use memory_planner::split_effective_batch;
use vision_nn::{Classifier, ParameterMap, leaf_on_tape, map_parameters, off_tape, tensor_without_gaps};

use crate::out_of_memory::catch_out_of_memory;
use crate::step::{MicroBatchResult, score};
use crate::{ComputeError, Gradients, MemoryWatch, OutOfMemory, StepScores, TrainStep};

/// How numbers get from one device to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Exchange {
    /// As Burn moves tensors: between CUDA cards by NCCL, whose library must be there.
    #[default]
    Direct,
    /// Read into the host's memory and written again, which waits for the device at each tensor.
    ThroughHost,
}

impl Exchange {
    /// The tensor on another device, off the tape as it is.
    pub(crate) fn carry<const D: usize>(self, tensor: Tensor<D>, device: &Device) -> Tensor<D> {
        match self {
            Self::Direct => tensor.to_device(device),
            Self::ThroughHost => tensor_without_gaps(tensor.into_data(), device),
        }
    }

    /// A copy of the model on another autodiff device; what trains there trains here.
    fn copy_of<M: Module>(self, model: &M, device: &Device) -> M {
        struct Carry<'a>(Exchange, &'a Device);
        impl ParameterMap for Carry<'_> {
            fn map<const D: usize>(&mut self, _name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
                let Self(exchange, device) = *self;
                let is_trained = tensor.is_require_grad();
                let carried = exchange.carry(off_tape(tensor), &device.clone().inner());
                leaf_on_tape(carried, device).set_require_grad(is_trained)
            }
        }
        map_parameters(model.clone(), &mut Carry(self, device))
    }
}

/// A device with the weights of now, for the length of one effective batch.
struct Lane<M> {
    /// The weights there; none on the first device, which has the step's own, and so moves their running statistics.
    copy: Option<M>,
    /// Of the model's tape.
    device: Device,
    watch: MemoryWatch,
}

impl<M: Classifier> TrainStep<M> {
    /// Lets other autodiff devices take part. Each gets the weights anew before each effective batch, and micro-batches are dealt round; gradients are moved
    /// to the first device and added up there in the order of the samples, so that they are the sum that one device makes. Running statistics are those of
    /// what the first device has seen.
    ///
    /// One thread starts the work of all, and waits for none before all have some.
    #[must_use]
    pub fn with_devices(mut self, others: Vec<Device>, exchange: Exchange) -> Self {
        self.others = others;
        self.exchange = exchange;
        self
    }

    /// How many devices take part.
    pub fn num_devices(&self) -> usize {
        1 + self.others.len()
    }

    /// Gradients of an effective batch that all devices share, not unscaled yet; see [`try_gradients`](Self::try_gradients), which says what `strikes` is.
    ///
    /// # Errors
    /// [`ComputeError`] when any device fails: all have been waited for, and their pools are cleaned up.
    pub(crate) fn accumulate_over_devices(
        &self,
        batch: &Batch,
        step_seed: u64,
        micro_batch_size: usize,
        strikes: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(Gradients, StepScores), ComputeError> {
        let lanes = catch_out_of_memory(|| self.lanes())?;
        let result = self.in_rounds(&lanes, batch, step_seed, micro_batch_size, strikes);
        if result.is_err() {
            let watches: Vec<MemoryWatch> = lanes.into_iter().map(|lane| lane.watch).collect();
            watches.iter().for_each(MemoryWatch::clean_up);
        }
        result
    }

    fn lanes(&self) -> Vec<Lane<M>> {
        let lane = |device: &Device, copy| Lane { copy, device: device.clone(), watch: MemoryWatch::begin(device) };
        let first = lane(self.device(), None);
        let others = self.others.iter().map(|device| lane(device, Some(self.exchange.copy_of(self.model(), device))));
        std::iter::once(first).chain(others).collect()
    }

    /// A micro-batch for each device, again and again.
    fn in_rounds(
        &self,
        lanes: &[Lane<M>],
        batch: &Batch,
        step_seed: u64,
        micro_batch_size: usize,
        strikes: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(Gradients, StepScores), ComputeError> {
        let home = self.device().clone().inner();
        let mut gradients = Gradients::default();
        let mut scores = StepScores { samples: batch.len() as u64, ..StepScores::default() };
        let (mut index, mut first_sample) = (0, 0);
        for round in split_effective_batch(batch.len(), micro_batch_size).chunks(lanes.len()) {
            let mut started = Vec::with_capacity(round.len());
            let mut next = first_sample;
            for (&samples, lane) in round.iter().zip(lanes) {
                let weights = (lane.copy.as_ref().unwrap_or(self.model()), &lane.device);
                let work = || self.micro_batch(weights, batch, next..next + samples, step_seed);
                started.push(catch_out_of_memory(work));
                next += samples;
            }
            // All are waited for, also after a failure: a device holds its error until it is asked.
            let waited: Vec<Result<(), ComputeError>> = lanes.iter().map(|lane| lane.watch.run(|| ())).collect();
            let struck = (index..index + round.len()).filter(|&index| strikes(index)).count() > 0;
            let done: Vec<MicroBatchResult> = started.into_iter().collect::<Result<_, OutOfMemory>>()?;
            waited.into_iter().collect::<Result<(), ComputeError>>()?;
            if struck {
                return Err(OutOfMemory::Injected.into());
            }
            for (done, &samples) in done.into_iter().zip(round) {
                gradients.add(done.gradients.carried(self.exchange, &home));
                score(&mut scores, done.logits, batch, first_sample, &self.options().loss);
                first_sample += samples;
            }
            index += round.len();
        }
        Ok((gradients, scores))
    }
}
