use data_pipeline::Batch;
use memory_planner::{Allowance, FixedMemory, Footprint, FootprintError, Observation};
use trainer::{Gradients, ParameterRule, StepScores, TrainStep};
use vision_nn::{Classifier, is_running_statistic, parameter_shapes};

use crate::Meter;

/// Bytes of one f32.
const F32_BYTES: u64 = 4;

/// A line needs points on its slope: measuring goes on at least to this batch size, unless the budget ends before. At small images the peaks of some
/// models bend upwards between 8 and 12.
const BATCH_TO_REACH: usize = 16;

/// The heap's peak is not the same to the byte in every run, for threads hold buffers for a moment; and larger batches may still bend. Both by the
/// grid of `docs/benchmarks/memory.md`.
pub(crate) const ALLOWANCE: Allowance = Allowance { everywhere: 0.01, beyond: 0.03 };

/// Sizes that are run a second time, at the end.
const AGAIN: [usize; 3] = [1, 2, 4];

/// Two slopes further apart than this share are not one line.
const UNEVEN_SHARE: f64 = 0.1;

/// Beyond this the answer will not come from measuring on.
const LARGEST_BATCH: usize = 256;

/// What is measured, and where measuring must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeOptions {
    /// H, W, C of the images.
    pub image: [usize; 3],
    /// A step that would come out above this is not tried.
    pub budget_bytes: u64,
    /// No larger batch is asked about, so that none is tried: that of an optimizer step.
    pub largest_batch: usize,
}

/// Why there is no footprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The peaks do not make a line.
    #[error(transparent)]
    Footprint(#[from] FootprintError),
}

/// Runs real optimizer steps at batch 1, 2, 4, 8, 16 and onwards, until the peaks grow evenly, and fits them, with an allowance on top.
///
/// The step is used up: its weights are no longer those it came with. Its micro-batch size must be at least every batch tried, so that no step
/// accumulates.
///
/// # Errors
/// When the peaks do not grow with the batch.
pub fn measure_training<M: Classifier>(
    step: TrainStep<M>,
    options: ProbeOptions,
    meter: &dyn Meter,
    known: FixedMemory,
) -> Result<Footprint, ProbeError> {
    let [height, width, channels] = options.image;
    let input_bytes = (height * width * channels) as u64 * F32_BYTES;
    let mut probe = RealSteps::new(step, options.image);
    probe.run(1); // allocates the optimizer's state, which later steps have from their start
    let mut observations = Vec::new();
    let mut batch = 1;
    loop {
        meter.reset();
        probe.run(batch);
        observations.push(Observation { batch, peak_bytes: meter.peak_bytes() });
        let fit = Footprint::from_measurements(known, input_bytes, &observations);
        // A batch that nobody asks about is tried only while there is no line at all.
        let asked = if fit.is_ok() { options.largest_batch.max(2) } else { usize::MAX };
        let next = (batch * 2).min(asked);
        let is_line = batch >= BATCH_TO_REACH && fit.is_ok() && grows_evenly(&observations);
        let enough = is_line || next <= batch;
        // Before there is a line, twice the peak bounds the next step.
        let next_peak = match &fit {
            Ok(footprint) => footprint.peak_bytes(next),
            Err(_) => observations.last().map_or(0, |last| 2 * last.peak_bytes),
        };
        let must_measure = observations.len() < 2;
        if enough || next > LARGEST_BATCH || (!must_measure && next_peak > options.budget_bytes) {
            return Ok(settled(&mut probe, meter, fit?, known, input_bytes).with_allowance(ALLOWANCE));
        }
        batch = next;
    }
}

/// The footprint once the smallest sizes have been run again: threads keep the scratch of the largest step so far, and all that comes after it rests on
/// more.
fn settled<M: Classifier>(
    probe: &mut RealSteps<M>,
    meter: &dyn Meter,
    footprint: Footprint,
    known: FixedMemory,
    input_bytes: u64,
) -> Footprint {
    let mut observations = footprint.source.observations().to_vec();
    for batch in AGAIN.into_iter().filter(|batch| footprint.largest_observed_batch().is_some_and(|run| run > *batch)) {
        meter.reset();
        probe.run(batch);
        observations.push(Observation { batch, peak_bytes: meter.peak_bytes() });
    }
    // Two sizes whose smaller one then takes more than the larger one did make no line; the first one stands.
    Footprint::from_measurements(known, input_bytes, &observations).unwrap_or(footprint)
}

/// Whether the last two doublings of the batch raised the peak alike. While the optimizer sets the peak they do not, and a line through such
/// peaks would be too flat for all that comes after them.
fn grows_evenly(observations: &[Observation]) -> bool {
    let [.., first, middle, last] = observations else { return false };
    let slope = |from: &Observation, to: &Observation| {
        (to.peak_bytes as f64 - from.peak_bytes as f64) / (to.batch - from.batch).max(1) as f64
    };
    let (before, after) = (slope(first, middle), slope(middle, last));
    before > 0.0 && (after - before).abs() <= UNEVEN_SHARE * after.abs()
}

/// The peak of one real optimizer step over `batch` samples, its optimizer's state being there already. The step is used up.
pub fn measure_peak<M: Classifier>(step: TrainStep<M>, image: [usize; 3], batch: usize, meter: &dyn Meter) -> u64 {
    let mut probe = RealSteps::new(step, image);
    probe.run(1);
    meter.reset();
    probe.run(batch);
    meter.peak_bytes()
}

/// What a step's parameters take, by arithmetic, in f32: weights; running statistics as buffers; gradients and optimizer state of what is not
/// frozen; an average of what moves.
pub fn parameter_memory<M: Classifier>(step: &TrainStep<M>) -> FixedMemory {
    let shapes = parameter_shapes(step.model());
    let bytes = |elements: usize| elements as u64 * F32_BYTES;
    let of_shapes = |are_statistics: bool| {
        let kept = shapes.iter().filter(|(name, _)| is_running_statistic(name) == are_statistics);
        bytes(kept.map(|(_, shape)| shape.iter().product::<usize>()).sum())
    };
    let (weights, buffers) = (of_shapes(false), of_shapes(true));
    let of_rules = |frozen, elements: &dyn Fn(&ParameterRule) -> usize| {
        let rules = step.groups().iter().filter(|(_, rule)| rule.is_frozen == frozen);
        bytes(rules.map(|(_, rule)| elements(rule)).sum())
    };
    let options = step.options();
    let moves = weights + buffers - of_rules(true, &ParameterRule::elements);
    FixedMemory {
        weights,
        buffers,
        gradients: of_rules(false, &ParameterRule::elements),
        optimizer: of_rules(false, &|rule| options.optimizer.state_elements(&rule.shape)),
        ema: if options.ema_decay.is_some() { moves } else { 0 },
        ..FixedMemory::default()
    }
}

/// Optimizer steps over made-up images, one after another. They use the model up: its weights stay, but its optimizer learns nonsense.
pub struct RealSteps<M> {
    step: TrainStep<M>,
    image: [usize; 3],
    turn: u64,
}

impl<M: Classifier> RealSteps<M> {
    /// Steps over images of H, W, C. The step's micro-batch size must be at least every batch that is run, so that no step accumulates.
    pub fn new(step: TrainStep<M>, image: [usize; 3]) -> Self {
        Self { step, image, turn: 0 }
    }

    /// What steps.
    pub fn step(&self) -> &TrainStep<M> {
        &self.step
    }

    /// The next step, over `samples` images. A device may still be at work when it returns.
    pub fn run(&mut self, samples: usize) {
        let (gradients, scores) = self.gradients(samples);
        // No learning: weights that stay where they are cannot run off into infinities.
        self.step.apply(gradients, scores.gradient_norm, 0.0, self.turn);
    }

    /// The passes forward and back, without the optimizer. Waits for the device.
    pub(crate) fn gradients(&mut self, samples: usize) -> (Gradients, StepScores) {
        self.turn += 1;
        let pixels = self.image.iter().product::<usize>() * samples;
        let batch = Batch {
            index: 0,
            pixels: (0..pixels).map(|position| (position % 251) as u8).collect(),
            labels: vec![Some(0); samples],
            samples: (0..samples).collect(),
            corrupt: Vec::new(),
            size: self.image,
            partners: Vec::new(),
            last_steps: Vec::new(),
        };
        self.step.gradients(&batch, self.turn)
    }
}
