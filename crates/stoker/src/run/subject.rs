//! What is planned: a model, its step and its data, on whatever device.

use std::path::Path;

use burn::tensor::Device;
use memory_planner::{FootprintSource, Liveness, MemoryAnalysis, PlanRequest, Precision, Rung, Trace};
use memory_probe::{StepRequest, capture_step};
use trainer::{Recompute, TrainStep};
use vision_nn::ClassifierSpec;

use crate::config::{Checkpointing, Initialization, Rounding, UserConfig};
use crate::error::CommandError;
use crate::registry::{Architecture, Network};
use crate::run::precision::{Arithmetic, Precisions};
use crate::run::resolved::ResolvedConfig;

/// Classes of ImageNet: taken where there is no data to count them.
pub(crate) const ASSUMED_CLASSES: usize = 1000;

/// A model at one image size, and all else as a configuration has it that says nothing.
///
/// # Errors
/// An unknown model, and an image size out of range.
pub(crate) fn bare_config(model: &str, image_size: usize) -> Result<ResolvedConfig, CommandError> {
    let text = format!("data: {{train: images}}\nmodel: {{name: {model}, image_size: {image_size}}}\n");
    let user = UserConfig::from_text(Path::new("the request"), &text, &[])?;
    ResolvedConfig::new(user, Path::new("bench"))
}

/// A training step to plan for.
pub(crate) struct Subject<'a> {
    pub(crate) resolved: &'a ResolvedConfig,
    pub(crate) architecture: &'a Architecture,
    /// Width of the logits.
    pub(crate) num_classes: usize,
    /// Size of the training set, where it is known: a set smaller than the effective batch never fills it.
    pub(crate) train_samples: Option<usize>,
    /// The most that loading images takes, where it shares memory with the step.
    pub(crate) loader_bytes: u64,
    /// Whether the user may change the setting of a key: a run that goes on keeps most of them.
    pub(crate) may_change: fn(&str) -> bool,
}

impl<'a> Subject<'a> {
    /// A step that is planned or timed with no data at hand.
    pub(crate) fn without_data(
        resolved: &'a ResolvedConfig,
        architecture: &'a Architecture,
        num_classes: usize,
    ) -> Self {
        Self { resolved, architecture, num_classes, train_samples: None, loader_bytes: 0, may_change: |_| true }
    }
}

impl Subject<'_> {
    /// The model and image size in words: `convnext_atto at 64x64`.
    pub(crate) fn describe(&self) -> String {
        let side = self.resolved.image_size();
        format!("{} at {side}x{side}", self.resolved.config.model.name)
    }

    /// H, W, C of the images.
    pub(crate) fn image(&self) -> [usize; 3] {
        let side = self.resolved.image_size();
        [side, side, self.resolved.config.model.in_channels]
    }

    /// What the model is built from.
    pub(crate) fn spec(&self, device: &Device) -> ClassifierSpec {
        spec(self.resolved, self.num_classes, device.clone())
    }

    /// The model, fresh.
    pub(crate) fn build(&self, device: &Device) -> Network {
        self.architecture.build(&self.spec(device))
    }

    /// The step without data, computed as `rung` says.
    pub(crate) fn step(&self, rung: Rung) -> StepRequest {
        // Only the schedule counts them, and memory does not depend on it: without data, an epoch of one step will do.
        let samples = self.train_samples.unwrap_or(self.resolved.config.train.effective_batch_size);
        let mut options = self.resolved.train_options(samples, &vec![1; self.num_classes]);
        options.micro_batch_size = usize::MAX;
        options.recompute = Recompute::of(rung.checkpointing);
        options.precision = rung.precision;
        StepRequest {
            image: self.image(),
            num_classes: self.num_classes,
            options,
            accumulates: false,
            checkpointing: rung.checkpointing == memory_planner::Checkpointing::Balanced,
            predicts: false,
        }
    }

    /// The step itself, of a fresh model: `device` has a tape.
    pub(crate) fn train_step(&self, rung: Rung, device: Device) -> TrainStep<Network> {
        let request = self.step(rung);
        TrainStep::new(self.build(&device), request.options, self.resolved.normalization(), device)
    }

    /// The forward pass of a prediction.
    pub(crate) fn prediction(&self, precision: Precision) -> StepRequest {
        let mut step = self.step(Rung { precision, checkpointing: memory_planner::Checkpointing::None });
        step.options.ema_decay = None;
        StepRequest { predicts: true, ..step }
    }

    /// The analysis with its peak told by what lives then in the recorded step; as it is where real steps were measured, for what those take at their
    /// peak nobody recorded.
    pub(crate) fn explained(&self, analysis: MemoryAnalysis, rung: Rung) -> MemoryAnalysis {
        if matches!(analysis.footprint.source, FootprintSource::Measured { .. }) {
            return analysis;
        }
        let trace = self.recorded(rung, analysis.plan.micro_batch, analysis.plan.accumulation_steps > 1);
        match Liveness::of(&trace) {
            Ok(liveness) => analysis.with_recorded_peak(&liveness),
            Err(_) => analysis,
        }
    }

    /// The step of micro-batches of `batch`, recorded; it accumulates where the effective batch is cut.
    pub(crate) fn recorded(&self, rung: Rung, batch: usize, accumulates: bool) -> Trace {
        let step = StepRequest { accumulates, ..self.step(rung) };
        capture_step(&step, batch, &|device| self.build(device))
    }

    /// The forward pass of a prediction of one image, recorded.
    pub(crate) fn recorded_prediction(&self, precision: Precision) -> Trace {
        capture_step(&self.prediction(precision), 1, &|device| self.build(device))
    }

    /// The ways to compute the step that may be taken, the fastest first; `is_cpu` tells where.
    pub(crate) fn rungs(&self, precisions: &Precisions, is_cpu: bool) -> Vec<Rung> {
        use memory_planner::Checkpointing as Way;
        let ways: &[Way] = match (self.resolved.config.memory.checkpointing, is_cpu) {
            // Operations of the CPU keep nothing but their inputs already: there is nothing for Burn to compute again.
            (Checkpointing::Auto, true) => &[Way::Segments],
            (Checkpointing::Auto, false) => &[Way::Balanced, Way::Segments],
            _ => &[],
        };
        precisions.rungs(self.resolved.checkpointing(), ways)
    }

    /// What the step may be computed in on a device of this arithmetic.
    ///
    /// # Errors
    /// A format that was asked for and that the device lacks.
    pub(crate) fn precisions(&self, arithmetic: Arithmetic, device: &str) -> Result<Precisions, CommandError> {
        Precisions::choose("train.precision", self.resolved.config.train.precision, arithmetic, device)
    }

    /// What the configuration asks of the plan.
    pub(crate) fn plan_request(&self) -> PlanRequest {
        let config = &self.resolved.config;
        let asked = config.train.effective_batch_size;
        let effective = self.train_samples.map_or(asked, |samples| asked.min(samples));
        PlanRequest {
            effective_batch: Some(effective),
            effective_batch_beyond_samples: (asked > effective).then_some(asked),
            micro_batch: config.train.micro_batch_size.exactly(),
            rounding: planner_rounding(config.memory.rounding),
            current: config.train.micro_batch_size.exactly(),
            ..PlanRequest::default()
        }
    }
}

/// What a model of the configuration is built from.
pub(crate) fn spec(resolved: &ResolvedConfig, num_classes: usize, device: Device) -> ClassifierSpec {
    ClassifierSpec {
        in_channels: resolved.config.model.in_channels,
        num_classes,
        drop_path: resolved.config.model.drop_path as f32,
        dropout: resolved.config.model.dropout as f32,
        initialization: match resolved.config.model.initialization {
            Initialization::Reference => vision_nn::Initialization::Reference,
            Initialization::FanIn => vision_nn::Initialization::FanIn,
        },
        seed: resolved.config.seed,
        device,
    }
}

/// The planner's name for the rounding.
pub(crate) fn planner_rounding(rounding: Rounding) -> memory_planner::Rounding {
    match rounding {
        Rounding::MultipleOf4 => memory_planner::Rounding::MultipleOf(4),
        Rounding::PowerOfTwo => memory_planner::Rounding::PowerOfTwo,
    }
}

#[cfg(test)]
mod tests {
    use memory_planner::Role;
    use memory_probe::fixed_memory;
    use vision_nn::{is_running_statistic, parameter_shapes};

    use super::*;
    use crate::registry::architectures;

    /// The smallest images that an architecture takes: memory is told by shapes, and the number of operations does not depend on them.
    fn smallest_side(name: &str) -> usize {
        let takes = |side: &usize| bare_config(name, *side).unwrap().architecture().is_ok();
        (1..=32).map(|steps| 32 * steps).find(takes).expect("it takes some")
    }

    /// Every name that `model.name` takes, the whole optimizer step, AdamW and clipping. It takes about a minute in the test build.
    #[test]
    fn a_training_step_of_every_architecture_is_recorded_with_the_weights_that_it_counts() {
        for registered in architectures() {
            let mut resolved = bare_config(registered.name, smallest_side(registered.name)).unwrap();
            resolved.config.train.clip_norm = Some(1.0);
            let architecture = resolved.architecture().unwrap();
            let subject = Subject::without_data(&resolved, &architecture, ASSUMED_CLASSES);
            let trace = subject.recorded(Rung::default(), 2, false);
            trace.check().unwrap_or_else(|error| panic!("{}: {error}", registered.name));
            let fixed = fixed_memory(&trace);
            let (trained, statistics) = counted_bytes(&subject);
            // Swin's parameters do not depend on the image size but for its windows, which shrink with small images.
            if architecture.family != "Swin" {
                assert_eq!(trained, 4 * registered.parameters as u64, "{}", registered.name);
            }
            assert_eq!((fixed.weights, fixed.buffers), (trained, statistics), "{}", registered.name);
            assert_eq!(fixed.gradients, trained, "{}", registered.name);
            assert_eq!((fixed.optimizer, fixed.ema), (2 * trained, 0), "{}", registered.name);
            let of = |role| {
                trace.tensors.iter().filter(|tensor| tensor.role == role).map(|tensor| tensor.bytes).sum::<u64>()
            };
            assert!(of(Role::Gradient) >= trained, "{}: {} of {trained}", registered.name, of(Role::Gradient));
            assert!(of(Role::SavedActivation) > 0 && of(Role::Input) > 0, "{}", registered.name);
        }
    }

    /// Bytes of what trains, and of running statistics, by the shapes of a model that nothing is drawn for.
    fn counted_bytes(subject: &Subject<'_>) -> (u64, u64) {
        let device = Device::capture();
        let mut bytes = [0, 0];
        let recording = device.capture_scope(|scope| {
            for (name, shape) in parameter_shapes(&subject.build(&device)) {
                let kind = usize::from(is_running_statistic(&name));
                bytes[kind] += 4 * shape.iter().product::<usize>() as u64;
            }
            scope.complete([], [])
        });
        recording.expect("the device is a capture device of its own");
        (bytes[0], bytes[1])
    }
}
