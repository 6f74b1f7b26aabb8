//! Measures a training step, plans the batch, and says so.

use burn::tensor::Device;
use checkpoint::ModelCard;
use data_pipeline::{Dataset, largest_decode_bytes};
use device::heap;
use memory_planner::{BudgetRequest, MemoryAnalysis, PlanRequest, plan_batch_size};
use memory_probe::{ProbeOptions, measure_training, parameter_memory};
use trainer::{Normalization, TrainOptions, TrainStep};
use vision_nn::ClassifierSpec;

use crate::config::{Initialization, Rounding};
use crate::error::CommandError;
use crate::registry::Architecture;
use crate::run::checks::{check_fixed_memory, no_room_to_measure};
use crate::run::compute::Compute;
use crate::run::resolved::ResolvedConfig;
use crate::ui::Progress;

/// What the planning phase needs to know.
pub(crate) struct Planning<'a> {
    pub(crate) resolved: &'a ResolvedConfig,
    pub(crate) architecture: &'a Architecture,
    pub(crate) compute: &'a Compute,
    pub(crate) card: &'a ModelCard,
    /// The training set.
    pub(crate) train: &'a Dataset,
}

impl Planning<'_> {
    /// Measures a few real steps on a throwaway model and plans the batch.
    pub(crate) fn analyze(&self) -> Result<MemoryAnalysis, CommandError> {
        let config = &self.resolved.config;
        let budget = self.compute.budget(&BudgetRequest {
            limit_bytes: config.memory.limit.as_ref().map(|limit| limit.bytes()),
            safety_margin: config.memory.safety_margin,
            memory_fraction: None,
        })?;
        let progress = Progress::start("measuring training steps", "steps", 0);
        let meter = self.compute.meter();
        meter.reset();
        let mut options = self.resolved.train_options(self.train.len());
        options.micro_batch_size = usize::MAX;
        let spec = spec(self.card, self.resolved, self.compute.autodiff());
        let base_bytes = heap::current_bytes();
        let step = build_step(self.architecture, &spec, options, self.card);
        let mut known = parameter_memory(step.model(), config.train.ema_decay.is_some());
        if matches!(self.compute.selected, device::SelectedDevice::Cpu { .. }) {
            known.overhead = base_bytes;
        }
        let image = [config.model.image_size, config.model.image_size, config.model.in_channels];
        let probe = ProbeOptions { image, budget_bytes: budget.budget_bytes };
        check_fixed_memory(&config.model.name, &known, &budget)?;
        let mut footprint = measure_training(step, probe, meter.as_ref(), known).map_err(|error| {
            if budget.budget_bytes < 2 * known.total() {
                return no_room_to_measure(&config.model.name, &known, &budget);
            }
            CommandError::from_run(&error).in_context("cannot measure the memory of a training step")
        })?;
        progress.finish("done");
        meter.reset();
        if matches!(self.compute.selected, device::SelectedDevice::Cpu { .. }) {
            // On the CPU the loader lives in the same memory as the step.
            let loader = self.loader_bytes();
            footprint.fixed.overhead += loader;
            // Saving copies all that training keeps, at a moment when no gradient and no activation lives.
            let kept = known.weights + known.optimizer + known.ema;
            footprint.floor_bytes = (footprint.floor_bytes + loader).max(footprint.fixed.overhead + 2 * kept);
        }
        let footprint = footprint.with_accumulation_extra(known.gradients);
        let plan = plan_batch_size(&footprint, &budget, &self.request())
            .map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
        let model = format!("{} at {}x{}", self.card.model, self.card.image_size, self.card.image_size);
        Ok(MemoryAnalysis { device: self.compute.selected.describe(), model, footprint, budget, plan })
    }

    fn request(&self) -> PlanRequest {
        let config = &self.resolved.config;
        PlanRequest {
            // A data set smaller than the effective batch never fills it.
            effective_batch: Some(config.train.effective_batch_size.min(self.train.len())),
            micro_batch: config.train.micro_batch_size.exactly(),
            rounding: match config.memory.rounding {
                Rounding::MultipleOf4 => memory_planner::Rounding::MultipleOf(4),
                Rounding::PowerOfTwo => memory_planner::Rounding::PowerOfTwo,
            },
            current: config.train.micro_batch_size.exactly(),
            ..PlanRequest::default()
        }
    }

    /// The most that loading takes: effective batches of bytes, ready and in the making, and an image in each worker's hands.
    fn loader_bytes(&self) -> u64 {
        let config = &self.resolved.config;
        let image = config.model.image_size.pow(2) * config.model.in_channels;
        let batches = config.data.prefetch_batches + 1;
        let workers = config.data.workers.exactly().unwrap_or(1);
        let queue = (batches * config.train.effective_batch_size.min(self.train.len()) + workers) * image;
        queue as u64 + workers as u64 * largest_decode_bytes(self.train)
    }
}

/// What the model is built from.
pub(crate) fn spec(card: &ModelCard, resolved: &ResolvedConfig, device: Device) -> ClassifierSpec {
    ClassifierSpec {
        in_channels: card.in_channels,
        num_classes: card.classes.len(),
        drop_path: resolved.config.model.drop_path as f32,
        initialization: match resolved.config.model.initialization {
            Initialization::Reference => vision_nn::Initialization::Reference,
            Initialization::FanIn => vision_nn::Initialization::FanIn,
        },
        seed: resolved.config.seed,
        device,
    }
}

/// A step over a fresh model.
pub(crate) fn build_step(
    architecture: &Architecture,
    spec: &ClassifierSpec,
    options: TrainOptions,
    card: &ModelCard,
) -> TrainStep<crate::registry::Network> {
    let normalization = Normalization { mean: card.mean.clone(), std: card.std.clone() };
    TrainStep::new(architecture.build(spec), options, normalization, spec.device.clone())
}
