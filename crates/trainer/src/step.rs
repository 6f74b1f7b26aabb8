use std::convert::Infallible;

use burn::tensor::{Device, Tensor};
use checkpoint::LossScale;
use data_pipeline::Batch;
use memory_planner::split_effective_batch;
use vision_nn::{Classifier, Pass, Tape, is_running_statistic, parameter_shapes};

use crate::ema::Ema;
use crate::loss::cross_entropy_of_row;
use crate::loss_scale::{initial_scale, scale_after_step};
use crate::{AdamW, ComputeError, Gradients, MemoryWatch, Normalization, OutOfMemory, TrainOptions};
use crate::{cross_entropy_sum, images_to_tensor, smoothed_targets, storage_type};

/// Sums over the samples of one effective batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepScores {
    /// Cross-entropy summed over samples, nats, with label smoothing.
    pub loss_sum: f64,
    /// Samples predicted right.
    pub correct: u64,
    /// Samples.
    pub samples: u64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
}

/// One optimizer step: micro-batches forward and backward, clip, AdamW, averaged weights.
pub struct TrainStep<M> {
    /// Taken out only while [`apply`](Self::apply) moves it: a clone would keep a second copy of the weights alive.
    model: Option<M>,
    has_running_statistics: bool,
    pub(crate) optimizer: AdamW,
    pub(crate) ema: Option<Ema<M>>,
    pub(crate) loss_scale: Option<LossScale>,
    options: TrainOptions,
    normalization: Normalization,
    device: Device,
}

impl<M: Classifier> TrainStep<M> {
    /// A step over `model`, which lives on the autodiff device `device`.
    pub fn new(model: M, options: TrainOptions, normalization: Normalization, device: Device) -> Self {
        let ema = options.ema_decay.map(|decay| Ema::new(&model, decay));
        let has_running_statistics = parameter_shapes(&model).iter().any(|(name, _)| is_running_statistic(name));
        let optimizer = AdamW::new(options.adamw);
        let loss_scale = initial_scale(options.precision);
        Self { optimizer, ema, loss_scale, model: Some(model), has_running_statistics, options, normalization, device }
    }

    /// What the step was made with.
    pub fn options(&self) -> &TrainOptions {
        &self.options
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
        self.options.ema_decay.map(|decay| Ema::new(self.model(), decay))
    }

    /// Lets the average start anew.
    pub(crate) fn restart_ema(&mut self) {
        self.ema = self.fresh_ema();
    }

    /// The model to evaluate: the averaged one where there is one; off the tape.
    pub fn evaluation_model(&self) -> M {
        match &self.ema {
            Some(ema) => ema.model().clone(),
            None => self.model().valid(),
        }
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
            let (gradients, mut scores) = self.accumulate(batch, step_seed, micro_batch_size, |index, work| {
                let done = watch.run(work)?;
                match strikes(index) {
                    true => Err(ComputeError::from(OutOfMemory::Injected)),
                    false => Ok(done),
                }
            })?;
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
        if let Some(max_norm) = self.options.clip_norm {
            gradients.clip(norm, max_norm);
        }
        let model = self.model.take().expect("the model is only away while `apply` runs");
        let model = self.optimizer.step(learning_rate, model, gradients);
        self.ema = self.ema.take().map(|ema| ema.update(&model, step));
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
            let done = run(index, &|| self.micro_batch(batch, first_sample, samples, step_seed))?;
            gradients.add(done.gradients);
            score(&mut scores, done.logits, &done.labels, self.options.label_smoothing);
            first_sample += samples;
        }
        Ok((gradients, scores))
    }

    /// Forward and backward over `samples` samples from `first_sample` on.
    fn micro_batch(&self, batch: &Batch, first_sample: usize, samples: usize, step_seed: u64) -> MicroBatchResult {
        let mut pass = Pass::training(step_seed, first_sample).storing(storage_type(self.options.precision));
        let sample_bytes = batch.sample_bytes();
        let pixels = &batch.pixels[first_sample * sample_bytes..(first_sample + samples) * sample_bytes];
        let labels: Vec<u32> = batch.labels[first_sample..first_sample + samples].iter().flatten().copied().collect();
        let images = images_to_tensor(pixels, batch.size, &self.normalization, &self.device); // [B, C, H, W]
        let logits = self.model().forward(images, &mut pass); // [B, K]
        let [_, num_classes] = logits.dims();
        let targets = smoothed_targets(&labels, num_classes, self.options.label_smoothing, &self.device); // [B, K]
        let loss = mean_loss(logits.clone(), targets, batch.len());
        let gradients = Gradients::take(Tape::backward(self.scaled(loss)), self.model());
        MicroBatchResult { gradients, logits: logits.no_grad(), labels }
    }
}

/// A micro-batch's part of the mean cross-entropy over `effective_batch` samples, `[1]`; logits and targets as in [`cross_entropy_sum`].
pub fn mean_loss(logits: Tensor<2>, targets: Tensor<2>, effective_batch: usize) -> Tensor<1> {
    cross_entropy_sum(logits, targets).div_scalar(effective_batch as f64)
}

/// What a micro-batch adds to its step.
struct MicroBatchResult {
    gradients: Gradients,
    /// `[B, K]`, off the tape.
    logits: Tensor<2>,
    labels: Vec<u32>,
}

/// Adds a micro-batch's losses and hits. Waits for the device.
fn score(scores: &mut StepScores, logits: Tensor<2>, labels: &[u32], smoothing: f32) {
    let [_, num_classes] = logits.dims();
    let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
    for (row, &label) in logits.chunks_exact(num_classes).zip(labels) {
        scores.loss_sum += cross_entropy_of_row(row, label as usize, smoothing);
        scores.correct += u64::from(metrics::top_k_hits(row, label as usize, 1));
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
        fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
            let [batch, channels, _, _] = images.dims();
            let map = self.norm.forward(images.permute([0, 2, 3, 1]), pass); // [B, H, W, C]
            self.fc.forward(map.mean_dim(1).mean_dim(2).reshape([batch, channels]))
        }
    }

    fn step() -> TrainStep<Normed> {
        let device = Device::flex().autodiff();
        let mut init = Initializer::new(1, Initialization::Reference, &device);
        let model = Normed { norm: BatchNorm::init(3, 1e-5, &mut init), fc: Linear::init(3, 2, 0.02, &mut init) };
        let schedule = crate::WarmupCosine { peak: 1e-3, minimum: 0.0, warmup_steps: 0, total_steps: 1 };
        let options = TrainOptions {
            epochs: 1,
            effective_batch_size: 4,
            micro_batch_size: 4,
            adamw: crate::AdamWOptions::default(),
            schedule,
            label_smoothing: 0.0,
            clip_norm: None,
            ema_decay: None,
            top_k: 1,
            seed: 0,
            adaptive_batch: false,
            precision: Default::default(),
            faults: crate::FaultPlan::default(),
        };
        TrainStep::new(model, options, Normalization::imagenet(3), device)
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
