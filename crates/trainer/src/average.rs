//! The mean of the best epochs' weights: the uniform soup of Wortsman et al., "Model soups", 2022 (arXiv:2203.05482), over the epochs of one run, as timm's
//! `avg_checkpoints.py` has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor, TensorData};
use checkpoint::{Checkpoint, CheckpointError, load_weights};
use data_pipeline::{Batch, Loader, LoaderOptions, batches};
use memory_planner::split_effective_batch;
use vision_nn::{
    AssignError, BATCH_NORM_MOMENTUM, Classifier, ParameterMap, assign_given, compare_shapes, is_running_statistic,
    map_parameters, named_parameters, parameter_shapes,
};

use crate::fit::step_seed;
use crate::{MemoryWatch, TrainError, TrainSession, TrainingData, images_of_batch};

/// The mean of several epochs' weights.
#[derive(Debug, Clone)]
pub struct AveragedWeights<M> {
    /// The model with these weights, off the tape.
    pub model: M,
    /// The epochs that are in it, from 1, the best first.
    pub epochs: Vec<u32>,
    /// Whether batch norms got new running statistics, from a pass over the training images.
    pub statistics_measured: bool,
}

impl<M: Classifier> TrainSession<M> {
    /// Writes `averaged`: the mean of the weights of all epochs that are kept (see [`TrainOptions::keep_best`](crate::TrainOptions::keep_best)), each
    /// counting the same; none where none is kept. `progress` hears how many of the training images are done where there are batch norms.
    ///
    /// A batch norm's running statistics are those of other weights, and the mean of several is not what the averaged weights see. So they are
    /// measured anew, as Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018 (arXiv:1803.05407), and PyTorch's
    /// `torch.optim.swa_utils.update_bn` do it: one training pass over the training images, in micro-batches, and the mean over them. (timm's script
    /// averages them.) Frozen norms keep theirs.
    ///
    /// # Errors
    /// A kept file that is damaged or gone, a batch that cannot be loaded, memory that does not suffice, or no space. No other file is touched.
    pub fn average_kept(
        &self,
        data: &TrainingData,
        device: &Device,
        interrupt: &Arc<AtomicBool>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Option<AveragedWeights<M>>, TrainError> {
        let epochs: Vec<u32> = self.card.progress.kept.iter().map(|epoch| epoch.epoch).collect();
        if epochs.is_empty() {
            return Ok(None);
        }
        let path = self.folder.averaged();
        let mut model = load_weights(self.evaluation_model(), self.mean_weights(&epochs)?, &self.card.model, &path)?;
        let statistics = self.moving_statistics(&model);
        let statistics_measured = !statistics.is_empty();
        if statistics_measured {
            model = self.measure(model, &statistics, data, device, interrupt, progress)?;
        }
        self.write_weights(&model, &path)?;
        Ok(Some(AveragedWeights { model, epochs, statistics_measured }))
    }

    /// One file after the other, so that one alone is in memory beside the sums.
    fn mean_weights(&self, epochs: &[u32]) -> Result<BTreeMap<String, TensorData>, TrainError> {
        let shapes = parameter_shapes(self.step.model());
        let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for epoch in epochs {
            let path = self.folder.kept(*epoch);
            let weights = Checkpoint::read(&path)?.weights;
            let unfit = compare_shapes(&shapes, &weights);
            if unfit != AssignError::default() {
                let (model, source) = (self.card.model.clone(), Box::new(unfit));
                return Err(CheckpointError::OtherModel { path, model, source }.into());
            }
            for (name, data) in weights {
                add(sums.entry(name).or_default(), &data, 1.0);
            }
        }
        let count = epochs.len() as f64;
        let mean = |(name, shape): (String, Vec<usize>)| {
            let mean: Vec<f32> = sums[&name].iter().map(|sum| (sum / count) as f32).collect();
            (name, TensorData::new(mean, shape))
        };
        Ok(shapes.into_iter().map(mean).collect())
    }

    /// What a training pass over `model` moves: the running statistics of norms that are not frozen, by name.
    fn moving_statistics(&self, model: &M) -> BTreeSet<String> {
        let mut zeroed = Zeroed { frozen: self.step.frozen_statistics(), names: BTreeSet::new() };
        let _ = map_parameters(model.clone(), &mut zeroed);
        zeroed.names
    }

    /// The model with the mean of these statistics over the training images, as the batches of one more epoch show them.
    fn measure(
        &self,
        model: M,
        statistics: &BTreeSet<String>,
        data: &TrainingData,
        device: &Device,
        interrupt: &Arc<AtomicBool>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<M, TrainError> {
        let options = self.step.options();
        let epoch = u64::from(self.card.progress.epochs_done) + 1;
        let order = data.sampling.order(&data.train, options.seed, epoch);
        let loader = LoaderOptions {
            seed: options.seed,
            epoch,
            mixing: data.mixing,
            interrupt: Some(interrupt.clone()),
            ..data.loader.clone()
        };
        let all = batches(&order, options.effective_batch_size);
        let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let (mut samples, mut done) = (0, 0);
        for batch in Loader::new(data.train.clone(), all, data.train_transform.clone(), loader) {
            let batch = batch?;
            self.observe(&model, statistics, &batch, device, &mut sums)?;
            samples += batch.len();
            done += batch.len() + batch.corrupt.len();
            progress(done);
        }
        if samples == 0 {
            return Err(TrainError::NothingReadable { samples: done as u64 });
        }
        let mean = |(name, sum): (String, Vec<f64>)| {
            let mean: Vec<f32> = sum.iter().map(|sum| (sum / samples as f64) as f32).collect();
            let channels = mean.len();
            (name, TensorData::new(mean, [channels]))
        };
        Ok(assign_given(model, sums.into_iter().map(mean).collect()))
    }

    /// Adds each micro-batch's own statistics to `sums`, times its samples.
    fn observe(
        &self,
        model: &M,
        statistics: &BTreeSet<String>,
        batch: &Batch,
        device: &Device,
        sums: &mut BTreeMap<String, Vec<f64>>,
    ) -> Result<(), TrainError> {
        let seed = step_seed(self.step.options().seed, self.card.progress.step + batch.index as u64);
        let mut first_sample = 0;
        for samples in split_effective_batch(batch.len(), self.micro_batch.size()) {
            let watch = MemoryWatch::begin(device);
            // From zero, one pass leaves a momentum's share of what it has seen.
            let moved = watch.run(|| {
                let mut zeroed = Zeroed { frozen: self.step.frozen_statistics(), names: BTreeSet::new() };
                let fresh = map_parameters(model.clone(), &mut zeroed);
                let rows = first_sample..first_sample + samples;
                let images = images_of_batch(batch, rows, self.step.normalization(), device); // [B, C, H, W]
                fresh.forward(images, &mut self.step.pass(seed, first_sample));
                fresh
            });
            let moved = moved.map_err(TrainError::of_evaluation)?;
            for parameter in named_parameters(&moved).into_iter().filter(|own| statistics.contains(&own.name)) {
                let weight = samples as f64 / BATCH_NORM_MOMENTUM;
                add(sums.entry(parameter.name).or_default(), &parameter.data, weight);
            }
            first_sample += samples;
        }
        Ok(())
    }
}

/// Adds number by number, each times `weight`; an empty sum is one of zeros.
fn add(sum: &mut Vec<f64>, data: &TensorData, weight: f64) {
    sum.resize(data.num_elements(), 0.0);
    sum.iter_mut().zip(data.iter::<f64>()).for_each(|(sum, value)| *sum += weight * value);
}

/// Sets the running statistics that are not frozen to zero, and notes their names.
struct Zeroed<'a> {
    frozen: &'a BTreeSet<ParamId>,
    names: BTreeSet<String>,
}

impl ParameterMap for Zeroed<'_> {
    fn map<const D: usize>(&mut self, name: &str, id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
        if !is_running_statistic(name) || self.frozen.contains(&id) {
            return tensor;
        }
        self.names.insert(name.to_owned());
        tensor.zeros_like()
    }
}
