//! Several devices that share the micro-batches of an effective batch.

use std::vec;

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use data_pipeline::Batch;
use memory_planner::split_effective_batch;
use vision_nn::{Classifier, ParameterMap, leaf_on_tape, map_parameters, off_tape, tensor_without_gaps};

use crate::all_reduce::{Sums, Witness, all_reduce_lists};
use crate::out_of_memory::catch_out_of_memory;
use crate::step::{MicroBatchResult, score};
use crate::{ComputeError, Gradients, MemoryWatch, OutOfMemory, StepScores, TrainStep};

/// How numbers get from one device to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Exchange {
    /// As Burn moves tensors from device to device; gradients are added on the first, in the order of the samples.
    #[default]
    Direct,
    /// Among CUDA cards, by Burn's all-reduce, which is NCCL's, whose library must be there: each card adds up its own gradients, and all add those up
    /// together.
    AllReduce,
    /// Read into the host's memory and written again, which waits for the device at each tensor.
    ThroughHost,
}

impl Exchange {
    /// The tensor on another device, off the tape as it is.
    pub(crate) fn carry<const D: usize>(self, tensor: Tensor<D>, device: &Device) -> Tensor<D> {
        match self {
            Self::Direct | Self::AllReduce => tensor.to_device(device),
            Self::ThroughHost => tensor_without_gaps(tensor.into_data(), device),
        }
    }

    /// Copies of the model on other autodiff devices; what trains there trains here. Those that an all-reduce makes come with what shows that it took place.
    fn copies_of<M: Module>(self, model: &M, home: &Device, others: &[Device]) -> Vec<(M, Option<Witness>)> {
        match self {
            Self::AllReduce => copies_by_all_reduce(model, home, others),
            way => others.iter().map(|device| (way.copy_of(model, device), None)).collect(),
        }
    }

    /// A copy of the model on another autodiff device.
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

/// Copies of the model that are sums of it and of zeros, which each other device adds: a ring of cards takes as long for many as for two, and one that sends
/// to each does not.
fn copies_by_all_reduce<M: Module>(model: &M, home: &Device, others: &[Device]) -> Vec<(M, Option<Witness>)> {
    struct Listed(Vec<Tensor<1>>);
    impl ParameterMap for Listed {
        fn map<const D: usize>(&mut self, _name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
            let flat = off_tape(tensor.clone());
            let elements = flat.shape().num_elements();
            self.0.push(flat.reshape([elements]));
            tensor
        }
    }
    struct Replaced<'a>(vec::IntoIter<Tensor<1>>, &'a Device);
    impl ParameterMap for Replaced<'_> {
        fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
            let Self(copies, device) = self;
            let copy = copies.next().unwrap_or_else(|| panic!("`{name}` has no copy, though all were listed"));
            leaf_on_tape(copy.reshape(tensor.shape()), device).set_require_grad(tensor.is_require_grad())
        }
    }
    let mut listed = Listed(Vec::new());
    map_parameters(model.clone(), &mut listed);
    let devices: Vec<Device> = std::iter::once(home).chain(others).map(|device| device.clone().inner()).collect();
    let zeros = others.iter().map(|_| None);
    let sums = all_reduce_lists(std::iter::once(Some(listed.0)).chain(zeros).collect(), &devices);
    let copy = |(sums, device): (Sums, &Device)| {
        (map_parameters(model.clone(), &mut Replaced(sums.tensors.into_iter(), device)), Some(sums.witness))
    };
    sums.into_iter().skip(1).zip(others).map(copy).collect()
}

/// A device with the weights of now, for the length of one effective batch.
struct Lane<M> {
    /// The weights there; none on the first device, which has the step's own, and so moves their running statistics.
    copy: Option<M>,
    /// What shows that those are the weights, until it has been asked.
    witness: Option<Witness>,
    /// Of the model's tape.
    device: Device,
    watch: MemoryWatch,
}

impl<M: Classifier> TrainStep<M> {
    /// Lets other autodiff devices take part. Each gets the weights anew before each effective batch, and micro-batches are dealt round. Gradients are moved
    /// to the first device and added up there in the order of the samples, so that they are the sum that one device makes; or, by
    /// [all-reduce](Exchange::AllReduce), added up on each device first, which is that sum but for rounding. Running statistics are those of what the first
    /// device has seen.
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
        let mut lanes = catch_out_of_memory(|| self.lanes())?;
        let result = self.in_rounds(&mut lanes, batch, step_seed, micro_batch_size, strikes);
        if result.is_err() {
            let watches: Vec<MemoryWatch> = lanes.into_iter().map(|lane| lane.watch).collect();
            watches.iter().for_each(MemoryWatch::clean_up);
        }
        result
    }

    fn lanes(&self) -> Vec<Lane<M>> {
        let copies = self.exchange.copies_of(self.model(), self.device(), &self.others);
        let lane = |device: &Device, copy, witness| Lane {
            copy,
            witness,
            device: device.clone(),
            watch: MemoryWatch::begin(device),
        };
        let first = lane(self.device(), None, None);
        let others = self.others.iter().zip(copies).map(|(device, (copy, witness))| lane(device, Some(copy), witness));
        std::iter::once(first).chain(others).collect()
    }

    /// A micro-batch for each device, again and again.
    fn in_rounds(
        &self,
        lanes: &mut [Lane<M>],
        batch: &Batch,
        step_seed: u64,
        micro_batch_size: usize,
        strikes: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(Gradients, StepScores), ComputeError> {
        let home = self.device().clone().inner();
        // What each device has added up; by an all-reduce alone have others than the first any.
        let mut sums = vec![Gradients::default(); lanes.len()];
        let mut scores = StepScores { samples: batch.len() as u64, ..StepScores::default() };
        let (mut index, mut first_sample) = (0, 0);
        for round in split_effective_batch(batch.len(), micro_batch_size).chunks(lanes.len()) {
            let mut started = Vec::with_capacity(round.len());
            let mut next = first_sample;
            for (&samples, lane) in round.iter().zip(&*lanes) {
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
            lanes.iter_mut().filter_map(|lane| lane.witness.take()).try_for_each(Witness::check)?;
            if struck {
                return Err(OutOfMemory::Injected.into());
            }
            for (lane, (done, &samples)) in done.into_iter().zip(round).enumerate() {
                match self.exchange {
                    Exchange::AllReduce => sums[lane].add(done.gradients),
                    exchange => sums[0].add(done.gradients.carried(exchange, &home)),
                }
                score(&mut scores, done.logits, batch, first_sample, &self.options().loss);
                first_sample += samples;
            }
            index += round.len();
        }
        let gradients = match self.exchange {
            Exchange::AllReduce => {
                let devices: Vec<Device> = lanes.iter().map(|lane| lane.device.clone().inner()).collect();
                Gradients::all_reduced(sums, &devices)?
            }
            _ => sums.swap_remove(0),
        };
        Ok((gradients, scores))
    }
}
