use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor};
use checkpoint::LossScale;
use data_pipeline::Batch;
use memory_planner::split_effective_batch;
use vision_nn::{Classifier, Pass, is_running_statistic, parameter_shapes};

use crate::ema::Ema;
use crate::gradients::clip_factor;
use crate::loss_scale::{initial_scale, scale_after_step};
use crate::optimizer::Push;
use crate::{
    ComputeError, Exchange, Gradients, MemoryWatch, Normalization, Optimizer, OutOfMemory, ParameterGroups,
    TrainOptions,
};
use crate::{LossOptions, backpropagate, images_of_batch, storage_type, target_tensor};

/// Sums over the samples of one effective batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepScores {
    /// The mean loss of the batch times its samples, nats, with label smoothing and class weights.
    pub loss_sum: f64,
    /// Samples predicted right: of mixed ones, where the prediction is the class with the larger share.
    pub correct: u64,
    /// Samples.
    pub samples: u64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
}

/// One optimizer step: micro-batches forward and backward, clip, optimizer, averaged weights.
pub struct TrainStep<M> {
    /// Taken out only while [`apply`](Self::apply) moves it: a clone would keep a second copy of the weights alive.
    model: Option<M>,
    has_running_statistics: bool,
    /// Running statistics of frozen norms, which stay as they are.
    frozen_statistics: Arc<BTreeSet<ParamId>>,
    pub(crate) optimizer: Optimizer,
    pub(crate) ema: Option<Ema<M>>,
    pub(crate) loss_scale: Option<LossScale>,
    options: TrainOptions,
    normalization: Normalization,
    device: Device,
    /// Devices that take part beside that one.
    pub(crate) others: Vec<Device>,
    /// How numbers get to those and back.
    pub(crate) exchange: Exchange,
}

impl<M: Classifier> TrainStep<M> {
    /// A step over `model`, which lives on the autodiff device `device`. Something must be left to train (see [`ParameterGroups::check`]).
    pub fn new(model: M, options: TrainOptions, normalization: Normalization, device: Device) -> Self {
        let groups = ParameterGroups::of(&model, &options.groups);
        let model = groups.freeze(model);
        let ema = options.ema_decay.map(|decay| Ema::new(&model, decay, &groups));
        let has_running_statistics = parameter_shapes(&model).iter().any(|(name, _)| is_running_statistic(name));
        let frozen_statistics = groups.frozen_statistics(&model);
        let loss_scale = initial_scale(options.precision);
        let optimizer = Optimizer::new(options.optimizer, groups);
        let model = Some(model);
        Self {
            optimizer,
            ema,
            loss_scale,
            model,
            has_running_statistics,
            frozen_statistics,
            options,
            normalization,
            device,
            others: Vec::new(),
            exchange: Exchange::default(),
        }
    }

    /// What the step was made with.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// How each parameter trains.
    pub fn groups(&self) -> &ParameterGroups {
        self.optimizer.groups()
    }

    /// A training pass over the micro-batch that starts at `first_sample` of its effective batch; frozen norms stay as they are.
    pub fn pass(&self, step_seed: u64, first_sample: usize) -> Pass {
        let pass = Pass::training(step_seed, first_sample).storing(storage_type(self.options.precision));
        pass.with_frozen(self.frozen_statistics.clone())
    }

    /// Running statistics of frozen norms.
    pub(crate) fn frozen_statistics(&self) -> &BTreeSet<ParamId> {
        &self.frozen_statistics
    }

    /// Where the weights and the optimizer are.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// How images are normalised.
    pub fn normalization(&self) -> &Normalization {
        &self.normalization
    }

    /// The model that trains.
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("the model is only away while `apply` runs")
    }

    /// Puts other weights in the model's place.
    pub(crate) fn map_model<E>(&mut self, map: impl FnOnce(M) -> Result<M, E>) -> Result<(), E> {
        let model = self.model.take().expect("the model is only away while `apply` runs");
        self.model = Some(map(model)?);
        Ok(())
    }

    /// A copy to go back to after an attempt that failed, where the model has statistics that a forward pass moves. It shares the weights, and
    /// must be gone before they move.
    pub(crate) fn copy_of_statistics(&self) -> Option<M> {
        self.has_running_statistics.then(|| self.model().clone())
    }

    /// Goes back to what [`copy_of_statistics`](Self::copy_of_statistics) kept.
    pub(crate) fn go_back_to(&mut self, copy: Option<M>) {
        if copy.is_some() {
            self.model = copy;
        }
    }

    /// An average that starts at the weights of now, where one is kept.
    pub(crate) fn fresh_ema(&self) -> Option<Ema<M>> {
        self.options.ema_decay.map(|decay| Ema::new(self.model(), decay, self.groups()))
    }

    /// The model to evaluate: the averaged one where there is one; off the tape.
    pub fn evaluation_model(&self) -> M {
        match &self.ema {
            Some(ema) => ema.model().clone(),
            None => self.model().valid(),
        }
    }

    /// Makes what the optimizer keeps of every parameter that trains, where it is not there yet, as zeros: what a rule begins from. True when anything was
    /// made; a device may still be at it.
    pub fn prepare_optimizer(&mut self) -> bool {
        let device = self.device.clone().inner();
        self.optimizer.prepare(&device)
    }

    /// What the optimizer keeps, tensor by tensor, each with its parameter's name.
    pub fn kept_by_optimizer(&self) -> impl Iterator<Item = (&str, &Tensor<1>)> {
        self.optimizer.kept()
    }

    /// The averaged model, where there is one.
    pub fn averaged(&self) -> Option<&M> {
        self.ema.as_ref().map(Ema::model)
    }

    /// Gradients of the mean loss over an effective batch, summed over micro-batches in turn: equal to one pass over all of it.
    ///
    /// Every sample must have a label below the number of classes. Waits for the device.
    pub fn gradients(&self, batch: &Batch, step_seed: u64) -> (Gradients, StepScores) {
        let size = self.options.micro_batch_size;
        let Ok((gradients, mut scores)) =
            self.accumulate(batch, step_seed, size, |_, work| Ok::<_, Infallible>(work()));
        let gradients = self.unscaled(gradients);
        scores.gradient_norm = gradients.global_norm();
        (gradients, scores)
    }

    /// As [`gradients`](Self::gradients), in micro-batches of at most `micro_batch_size` and with memory watched. Weights and optimizer stay as
    /// they are, and everything random depends on `step_seed` and the samples' places alone: after an error the same call with smaller
    /// micro-batches gives what this one would have given, but for the order in which sums are rounded.
    ///
    /// `strikes` tells, by the index of a micro-batch, whether memory is to run out there although it did not.
    ///
    /// # Errors
    /// [`ComputeError`]; all that was computed is dropped by then, and the device's pools are cleaned up.
    pub fn try_gradients(
        &self,
        batch: &Batch,
        step_seed: u64,
        micro_batch_size: usize,
        mut strikes: impl FnMut(usize) -> bool,
    ) -> Result<(Gradients, StepScores), ComputeError> {
        let watch = MemoryWatch::begin(&self.device);
        let mut attempt = || -> Result<(Gradients, StepScores), ComputeError> {
            let (gradients, mut scores) = match self.others.is_empty() {
                false => self.accumulate_over_devices(batch, step_seed, micro_batch_size, &mut strikes)?,
                true => self.accumulate(batch, step_seed, micro_batch_size, |index, work| {
                    let done = watch.run(work)?;
                    match strikes(index) {
                        true => Err(ComputeError::from(OutOfMemory::Injected)),
                        false => Ok(done),
                    }
                })?,
            };
            // The last additions of gradients are waited for here, too.
            let (gradients, norm) = watch.run(|| {
                let gradients = self.unscaled(gradients);
                let norm = gradients.global_norm();
                (gradients, norm)
            })?;
            scores.gradient_norm = norm;
            Ok((gradients, scores))
        };
        let result = attempt();
        if result.is_err() {
            watch.clean_up();
        }
        result
    }

    /// The loss as its backward pass wants it: scaled up in fp16, so that small gradients do not vanish.
    ///
    /// # Shapes
    /// - `loss` and output: `[1]`
    pub fn scaled(&self, loss: Tensor<1>) -> Tensor<1> {
        match self.loss_scale {
            Some(scale) => loss.mul_scalar(scale.factor),
            None => loss,
        }
    }

    /// The gradients of a loss from those of the [`scaled`](Self::scaled) one.
    pub fn unscaled(&self, mut gradients: Gradients) -> Gradients {
        if let Some(scale) = self.loss_scale {
            gradients.scale(1.0 / scale.factor);
        }
        gradients
    }

    /// Whether a step's gradients are useless because the loss was scaled too far: the weights must not move by them.
    pub fn overflowed(&self, scores: &StepScores) -> bool {
        // With the loss at its own size or below, the scale is not to blame.
        self.loss_scale.is_some_and(|scale| scale.factor > 1.0) && !scores.gradient_norm.is_finite()
    }

    /// Moves the scale of the loss as a step asks; to be told of each step, whether the weights moved by it or not.
    pub fn note_step(&mut self, overflowed: bool) {
        self.loss_scale = self.loss_scale.map(|scale| scale_after_step(scale, overflowed));
    }

    /// Moves the weights by `gradients`, clipped, as optimizer step `step` (counted from 1).
    pub fn apply(&mut self, mut gradients: Gradients, norm: f64, learning_rate: f64, step: u64) {
        let factor = self.options.clip_norm.map_or(1.0, |max_norm| clip_factor(norm, max_norm));
        let model = self.model.take().expect("the model is only away while `apply` runs");
        let ema = self.ema.take();
        if let Some(options) = self.optimizer.at_once(&self.device) {
            let push = Push { gradients, factor, learning_rate };
            let (model, ema) = self.optimizer.step_at_once(options, model, push, (ema, step));
            (self.model, self.ema) = (Some(model), ema);
            return;
        }
        if factor < 1.0 {
            gradients.scale(factor);
        }
        let norm = self.options.clip_norm.map_or(norm, |max_norm| norm.min(max_norm));
        let model = self.optimizer.step(learning_rate, model, gradients, norm);
        self.ema = ema.map(|ema| ema.update(&model, step));
        self.model = Some(model);
    }

    /// Cuts the batch into micro-batches, has `run` compute each of them by its index, and adds them up.
    fn accumulate<E>(
        &self,
        batch: &Batch,
        step_seed: u64,
        micro_batch_size: usize,
        mut run: impl FnMut(usize, &dyn Fn() -> MicroBatchResult) -> Result<MicroBatchResult, E>,
    ) -> Result<(Gradients, StepScores), E> {
        let mut gradients = Gradients::default();
        let mut scores = StepScores { samples: batch.len() as u64, ..StepScores::default() };
        let mut first_sample = 0;
        for (index, samples) in split_effective_batch(batch.len(), micro_batch_size).into_iter().enumerate() {
            let rows = first_sample..first_sample + samples;
            let lane = (self.model(), &self.device);
            let done = run(index, &|| self.micro_batch(lane, batch, rows.clone(), step_seed))?;
            gradients.add(done.gradients);
            score(&mut scores, done.logits, batch, first_sample, &self.options.loss);
            first_sample += samples;
        }
        Ok((gradients, scores))
    }

    /// Forward and backward over some samples of a batch, by weights on a device.
    pub(crate) fn micro_batch(
        &self,
        (model, device): (&M, &Device),
        batch: &Batch,
        rows: Range<usize>,
        step_seed: u64,
    ) -> MicroBatchResult {
        let first_sample = rows.start;
        let labels: Vec<u32> = batch.labels[rows.clone()].iter().flatten().copied().collect();
        let partners = batch.partners.get(rows.clone()).unwrap_or_default();
        let images = images_of_batch(batch, rows, &self.normalization, device); // [B, C, H, W]
        let options = &self.options.loss;
        let loss = |logits: Tensor<2>| {
            let [_, num_classes] = logits.dims();
            let targets = options.mixed_targets(&labels, partners, num_classes);
            let targets = target_tensor(targets, num_classes, device); // [B, K]
            self.scaled(mean_loss(options, logits, targets, divisor(options, batch, num_classes)))
        };
        let pass = self.pass(step_seed, first_sample);
        let (gradients, logits) = backpropagate(model, images, pass, self.options.recompute, loss, &mut |_| {});
        MicroBatchResult { gradients, logits }
    }
}

/// A micro-batch's part of the mean loss over an effective batch that counts for `divisor`, `[1]`; see [`LossOptions::sum`] and
/// [`LossOptions::divisor`].
pub fn mean_loss(loss: &LossOptions, logits: Tensor<2>, targets: Tensor<2>, divisor: f64) -> Tensor<1> {
    loss.sum(logits, targets).div_scalar(divisor)
}

/// What a micro-batch adds to its step.
pub(crate) struct MicroBatchResult {
    pub(crate) gradients: Gradients,
    /// `[B, K]`, off the tape.
    pub(crate) logits: Tensor<2>,
}

/// What the sum of the loss over the whole effective batch is divided by.
fn divisor(loss: &LossOptions, batch: &Batch, num_classes: usize) -> f64 {
    match batch.partners.is_empty() {
        true => loss.divisor(&batch.labels.iter().flatten().copied().collect::<Vec<u32>>(), num_classes),
        false => loss.soft_divisor(batch.len(), num_classes),
    }
}

/// Adds the losses and hits of a micro-batch from `first_sample` on. Waits for the device.
pub(crate) fn score(
    scores: &mut StepScores,
    logits: Tensor<2>,
    batch: &Batch,
    first_sample: usize,
    loss: &LossOptions,
) {
    let [_, num_classes] = logits.dims();
    let share = batch.len() as f64 / divisor(loss, batch, num_classes);
    let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
    for (logits, row) in logits.chunks_exact(num_classes).zip(first_sample..) {
        let Some(label) = batch.labels[row] else { continue };
        scores.loss_sum += share
            * match batch.partners.get(row) {
                Some(partner) => {
                    loss.of_row(logits, &loss.mixed_targets(&[label], std::slice::from_ref(partner), num_classes))
                }
                None => loss.of_label(logits, label),
            };
        let dominant = batch.dominant_label(row);
        scores.correct += dominant.map_or(0, |label| u64::from(metrics::top_k_hits(logits, label as usize, 1)));
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use vision_nn::{BatchNorm, Initialization, Initializer, Linear, named_parameters};

    use super::*;

    #[derive(Module, Debug)]
    struct Normed {
        norm: BatchNorm,
        fc: Linear,
    }

    impl Classifier for Normed {
        fn num_segments(&self) -> usize {
            1
        }

        fn forward_segment(&self, _index: usize, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
            self.norm.forward(map.permute([0, 2, 3, 1]), pass) // [B, H, W, C]
        }

        fn is_segment_trained(&self, _index: usize) -> bool {
            true
        }

        fn forward_head(&self, map: Tensor<4>, _pass: &mut Pass) -> Tensor<2> {
            let [batch, _, _, channels] = map.dims();
            self.fc.forward(map.mean_dim(1).mean_dim(2).reshape([batch, channels]))
        }
    }

    fn step() -> TrainStep<Normed> {
        let device = Device::flex().autodiff();
        let mut init = Initializer::new(1, Initialization::Reference, &device);
        let model = Normed { norm: BatchNorm::init(3, 1e-5, &mut init), fc: Linear::init(3, 2, 0.02, &mut init) };
        let schedule = crate::Constant { peak: 1e-3, warmup_steps: 0 };
        let options = TrainOptions {
            effective_batch_size: 4,
            micro_batch_size: 4,
            schedule: crate::Schedule::Constant(schedule),
            ..TrainOptions::default()
        };
        TrainStep::new(model, options, Normalization::imagenet(3), device)
    }

    #[test]
    fn with_several_devices_statistics_are_those_of_the_first_ones_samples() {
        let batch = |samples: std::ops::Range<usize>| Batch {
            index: 0,
            pixels: (samples.start * 192..samples.end * 192).map(|position| (position % 200) as u8).collect(),
            labels: samples.clone().map(|sample| Some((sample % 2) as u32)).collect(),
            samples: samples.collect(),
            corrupt: Vec::new(),
            size: [8, 8, 3],
            partners: Vec::new(),
            last_steps: Vec::new(),
        };
        let shared = step().with_devices(vec![Device::flex().autodiff()], Exchange::Direct);
        assert_eq!(shared.num_devices(), 2);
        shared.try_gradients(&batch(0..4), 1, 2, |_| false).expect("memory suffices");
        let alone = step();
        alone.try_gradients(&batch(0..2), 1, 2, |_| false).expect("memory suffices");
        assert_eq!(running_mean(&shared), running_mean(&alone));
        assert_ne!(running_mean(&shared), running_mean(&step()));
    }

    fn running_mean(step: &TrainStep<Normed>) -> Vec<f32> {
        let named = named_parameters(step.model()).into_iter().find(|parameter| parameter.name == "norm.running_mean");
        named.expect("a batch norm has one").data.iter::<f32>().collect()
    }

    #[test]
    fn an_attempt_that_failed_leaves_no_trace_in_running_statistics() {
        let batch = Batch {
            index: 0,
            pixels: (0..4 * 8 * 8 * 3).map(|position| (position % 200) as u8).collect(),
            labels: vec![Some(0), Some(1), Some(0), Some(1)],
            samples: vec![0, 1, 2, 3],
            corrupt: Vec::new(),
            size: [8, 8, 3],
            partners: Vec::new(),
            last_steps: Vec::new(),
        };
        let mut step = step();
        let fresh = running_mean(&step);
        let before = step.copy_of_statistics();
        assert!(before.is_some());
        assert!(step.try_gradients(&batch, 1, 4, |_| true).is_err());
        assert_ne!(running_mean(&step), fresh, "the forward pass moved them");
        step.go_back_to(before);
        assert_eq!(running_mean(&step), fresh);
    }
}
