//! Optimizer steps without data and without a look at any value, so that they can be recorded or run dry.

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Tensor};
use memory_planner::Phase;
use trainer::{Gradients, Normalization, TrainOptions, TrainStep, backpropagate, mean_loss, storage_type};
use vision_nn::{
    Classifier, Pass, captured_id, images_of_words, is_captured, takes_words, words_of_images, words_of_steps,
};

/// The step whose memory is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRequest {
    /// H, W, C of the images.
    pub image: [usize; 3],
    /// Width of the logits.
    pub num_classes: usize,
    /// The optimizer, clipping, averaging, and which segments are computed again.
    pub options: TrainOptions,
    /// Whether the step sums the gradients of several micro-batches.
    pub accumulates: bool,
    /// Whether memory-bound operations are computed again in the backward pass.
    pub checkpointing: bool,
    /// Whether it is no step at all but the forward pass of a prediction.
    pub predicts: bool,
}

impl StepRequest {
    /// Bytes of one image as the model takes it, in f32.
    pub(crate) fn image_bytes(&self) -> u64 {
        (self.image.iter().product::<usize>() * size_of::<f32>()) as u64
    }

    /// The device with the tape that the step wants.
    pub(crate) fn tracked(&self, device: &Device) -> Device {
        if self.predicts {
            return device.clone();
        }
        let tracked = device.clone().autodiff();
        if self.checkpointing { tracked.gradient_checkpointing() } else { tracked }
    }
}

/// Hears what a rehearsed step does; everything may be left unheard.
pub(crate) trait Prompter {
    /// A part of the step begins.
    fn phase(&mut self, _phase: Phase) {}
    /// A tensor of the batch is made, of that number in the recording.
    fn input(&mut self, _number: &dyn Fn() -> u64) {}
    /// All gradients are there.
    fn gradients(&mut self, _gradients: &Gradients) {}
}

/// Nobody listens.
pub(crate) struct NoPrompter;

impl Prompter for NoPrompter {}

/// A model of its own with its optimizer.
pub(crate) struct Rehearsal<'a, M> {
    step: TrainStep<M>,
    device: Device,
    request: &'a StepRequest,
    /// Whether steps sum the gradients of several micro-batches; at first as requested.
    pub(crate) accumulates: bool,
    turn: u64,
}

impl<'a, M: Classifier> Rehearsal<'a, M> {
    /// A rehearsal on `device`, which has no tape yet.
    pub(crate) fn new(request: &'a StepRequest, device: &Device, build: &dyn Fn(&Device) -> M) -> Self {
        let device = request.tracked(device);
        let normalization = Normalization::imagenet(request.image[2]);
        let mut step = TrainStep::new(build(&device), request.options.clone(), normalization, device.clone());
        // As a run does before its first step, and waits for it: what is only queued may become part of another kernel.
        if !request.predicts && step.prepare_optimizer() && !is_captured(&device) {
            // A failure here shows in the step that follows.
            let _ = device.clone().inner().sync();
        }
        Self { step, device, request, accumulates: request.accumulates, turn: 0 }
    }

    /// The step.
    pub(crate) fn step(&self) -> &TrainStep<M> {
        &self.step
    }

    /// The model.
    pub(crate) fn model(&self) -> &M {
        self.step.model()
    }

    /// One optimizer step over micro-batches of `batch`, as [`TrainStep::gradients`] and [`TrainStep::apply`] make it, but for the values that
    /// they read: the scores and the norm.
    pub(crate) fn run(&mut self, batch: usize, prompter: &mut dyn Prompter) {
        self.turn += 1;
        if self.request.predicts {
            return self.predict(batch, prompter);
        }
        let micro_batches = if self.accumulates { 2 } else { 1 };
        let mut gradients = Gradients::default();
        for turn in 0..micro_batches {
            prompter.phase(Phase::Forward);
            let images = self.images(batch, prompter);
            let targets = self.blank([batch, self.request.num_classes], &self.device, prompter);
            let (options, divisor) = (&self.step.options().loss, (micro_batches * batch) as f64);
            let loss = |logits| self.step.scaled(mean_loss(options, logits, targets, divisor));
            let (pass, recompute) = (self.step.pass(self.turn, turn * batch), self.step.options().recompute);
            let mut phase = |phase| prompter.phase(phase);
            let (of_batch, _logits) = backpropagate(self.model(), images, pass, recompute, loss, &mut phase);
            gradients.add(of_batch);
        }
        prompter.gradients(&gradients);
        prompter.phase(Phase::Clip);
        let gradients = self.step.unscaled(gradients);
        // The trainer reads the norm whether or not it clips. Twice the limit makes it clip.
        drop(gradients.squares());
        let norm = self.step.options().clip_norm.map_or(0.0, |limit| 2.0 * limit);
        prompter.phase(Phase::Optimizer);
        self.step.apply(gradients, norm, 1e-3, self.turn);
    }

    fn storage(&self) -> DType {
        storage_type(self.request.options.precision)
    }

    /// The forward pass alone; the probabilities come last, as for a prediction.
    fn predict(&self, batch: usize, prompter: &mut dyn Prompter) {
        prompter.phase(Phase::Forward);
        let images = self.images(batch, prompter);
        let mut pass = Pass::evaluation().storing(self.storage());
        let logits = self.model().forward(images, &mut pass);
        prompter.phase(Phase::Loss);
        drop(softmax(logits, 1));
    }

    /// Images `[B C H W]`, of the bytes that a card is given, and of the steps that are left to it.
    fn images(&self, batch: usize, prompter: &mut dyn Prompter) -> Tensor<4> {
        let size @ [height, width, channels] = self.request.image;
        if !takes_words(&self.device) {
            return self.blank([batch, channels, height, width], &self.device, prompter);
        }
        let inner = self.device.clone().inner();
        let words = self.blank(words_of_images(batch, size), &inner, prompter);
        let constants = self.blank([2, channels], &inner, prompter);
        let takes_steps = self.step.options().finishes_images && !self.request.predicts;
        let steps = takes_steps.then(|| self.blank(words_of_steps(batch), &inner, prompter));
        let images = images_of_words(words, constants, steps, size, &self.device);
        prompter.input(&|| captured_id(&images));
        images
    }

    /// A tensor of the batch whose numbers do not matter.
    fn blank<const D: usize>(&self, shape: [usize; D], device: &Device, prompter: &mut dyn Prompter) -> Tensor<D> {
        // On the capture device a tensor of zeros would really be made, on the host.
        let tensor = match is_captured(device) {
            true => Tensor::<D>::empty(shape, device),
            false => Tensor::<D>::zeros(shape, device),
        };
        prompter.input(&|| captured_id(&tensor));
        tensor
    }
}
