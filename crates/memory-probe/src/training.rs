use burn::module::Module;
use data_pipeline::Batch;
use memory_planner::{FixedMemory, Footprint, FootprintError, Observation};
use trainer::TrainStep;
use vision_nn::{Classifier, parameter_shapes};

use crate::Meter;

/// Bytes of one f32.
const F32_BYTES: u64 = 4;

/// A line needs points on its slope: measuring goes on at least to this batch size, unless the budget ends before.
const BATCH_TO_REACH: usize = 8;

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

/// Runs real optimizer steps at batch 1, 2, 4, 8 and onwards, until the peaks grow evenly, and fits them.
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
            return Ok(fit?);
        }
        batch = next;
    }
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

/// What a model's parameters take in training, by arithmetic: f32 weights, gradients, two moments, an average.
pub fn parameter_memory<M: Module>(model: &M, has_ema: bool) -> FixedMemory {
    let elements: usize = parameter_shapes(model).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let weights = elements as u64 * F32_BYTES;
    FixedMemory {
        weights,
        gradients: weights,
        // Adam keeps two moments a parameter.
        optimizer: 2 * weights,
        ema: if has_ema { weights } else { 0 },
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
        self.turn += 1;
        let pixels = self.image.iter().product::<usize>() * samples;
        let batch = Batch {
            index: 0,
            pixels: (0..pixels).map(|position| (position % 251) as u8).collect(),
            labels: vec![Some(0); samples],
            samples: (0..samples).collect(),
            corrupt: Vec::new(),
            size: self.image,
        };
        let (gradients, scores) = self.step.gradients(&batch, self.turn);
        // No learning: weights that stay where they are cannot run off into infinities.
        self.step.apply(gradients, scores.gradient_norm, 0.0, self.turn);
    }
}
