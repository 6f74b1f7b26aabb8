use data_pipeline::Batch;
use memory_planner::{Allowance, FixedMemory, Footprint, FootprintError, FootprintSource, Observation, PerSample};
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

/// Runs real optimizer steps at batch 1, 2, 4, 8, 16 and onwards, until the peaks grow evenly, and fits them, with an allowance on top. Where the
/// budget ends before the peaks grow at all, what an image may add is bounded by the highest.
///
/// The step is used up: its weights are no longer those it came with. Its micro-batch size must be at least every batch tried, so that no step
/// accumulates.
///
/// # Errors
/// When the peaks do not grow with the batch, however large.
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
        let bounded = Bounded::by(&observations, known);
        let next_peak = match &fit {
            Ok(footprint) => footprint.peak_bytes(next),
            Err(_) => bounded.peak_bytes(next),
        };
        let no_room = observations.len() >= 2 && next_peak > options.budget_bytes;
        if enough || next > LARGEST_BATCH || no_room {
            let footprint = match fit {
                Err(_) if no_room => {
                    observations.extend(run_again(&mut probe, meter, batch));
                    Bounded::by(&observations, known).footprint(known, input_bytes, observations)
                }
                fit => settled(&mut probe, meter, fit?, known, input_bytes),
            };
            return Ok(footprint.with_allowance(ALLOWANCE));
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
    observations.extend(run_again(probe, meter, footprint.largest_observed_batch().unwrap_or(0)));
    // Two sizes whose smaller one then takes more than the larger one did make no line; the first one stands.
    Footprint::from_measurements(known, input_bytes, &observations).unwrap_or(footprint)
}

/// The peaks of the smallest sizes below `largest`, run once more.
fn run_again<M: Classifier>(probe: &mut RealSteps<M>, meter: &dyn Meter, largest: usize) -> Vec<Observation> {
    let smaller = AGAIN.into_iter().filter(|batch| *batch < largest);
    let run = |batch| {
        meter.reset();
        probe.run(batch);
        Observation { batch, peak_bytes: meter.peak_bytes() }
    };
    smaller.map(run).collect()
}

/// What larger steps take at most, by peaks that do not grow yet, for the optimizer sets them: all of the highest peak that a step does not find there
/// already may be its images'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounded {
    highest_bytes: u64,
    /// What is there before a step: all that is known but its gradients.
    before_bytes: u64,
    /// The most that one image adds.
    image_bytes: u64,
}

impl Bounded {
    fn by(observations: &[Observation], known: FixedMemory) -> Self {
        let highest_bytes = observations.iter().map(|seen| seen.peak_bytes).max().unwrap_or(0);
        let largest = observations.iter().map(|seen| seen.batch).max().unwrap_or(1).max(1);
        let before_bytes = known.total().saturating_sub(known.gradients).min(highest_bytes);
        let image_bytes = (highest_bytes - before_bytes).div_ceil(largest as u64);
        Self { highest_bytes, before_bytes, image_bytes }
    }

    fn peak_bytes(self, batch: usize) -> u64 {
        let line = self.before_bytes.saturating_add(self.image_bytes.saturating_mul(batch as u64));
        line.max(self.highest_bytes)
    }

    /// As a footprint: a line through the bound, and nothing below the highest peak.
    fn footprint(self, known: FixedMemory, input_bytes: u64, mut observations: Vec<Observation>) -> Footprint {
        observations.sort_by_key(|seen| (seen.batch, seen.peak_bytes));
        let difference = i128::from(self.before_bytes) - i128::from(known.total());
        let mut footprint = Footprint {
            source: FootprintSource::Measured {
                observations: Vec::new(),
                largest_residual_share: 0.0,
                allowance: Allowance::default(),
            },
            fixed: known,
            per_sample: PerSample { input: input_bytes, activations: self.image_bytes.saturating_sub(input_bytes) },
            constant_workspace: i64::try_from(difference).unwrap_or(i64::MIN),
            floor_bytes: self.highest_bytes,
            accumulation_extra: 0,
        };
        let distance = |seen: &Observation| {
            footprint.peak_bytes(seen.batch).abs_diff(seen.peak_bytes) as f64 / seen.peak_bytes.max(1) as f64
        };
        let largest_residual_share = observations.iter().map(distance).fold(0.0, f64::max);
        footprint.source =
            FootprintSource::Measured { observations, largest_residual_share, allowance: Allowance::default() };
        footprint
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
        let row: Vec<u8> = (0..251).collect();
        let mut pixels = vec![0; self.image.iter().product::<usize>() * samples];
        for part in pixels.chunks_mut(row.len()) {
            part.copy_from_slice(&row[..part.len()]);
        }
        let batch = Batch {
            index: 0,
            pixels,
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// 100 MiB before a step, and 40 of gradients.
    const KNOWN: FixedMemory =
        FixedMemory { weights: 40 * MIB, gradients: 40 * MIB, optimizer: 60 * MIB, buffers: 0, ema: 0, overhead: 0 };

    fn flat() -> Vec<Observation> {
        [(2, 149), (1, 150), (4, 148)].map(|(batch, mib)| Observation { batch, peak_bytes: mib * MIB }).to_vec()
    }

    /// Up to 12.5 MiB an image are hidden below what the optimizer takes.
    #[test]
    fn peaks_that_do_not_grow_bound_what_larger_batches_take() {
        let bounded = Bounded::by(&flat(), KNOWN);
        assert_eq!((bounded.before_bytes, bounded.image_bytes), (100 * MIB, 25 * MIB / 2));
        assert_eq!([1, 4, 8].map(|batch| bounded.peak_bytes(batch)), [150 * MIB, 150 * MIB, 200 * MIB]);
        let footprint = bounded.footprint(KNOWN, 1_000, flat());
        for batch in [1, 2, 4, 5, 8, 100] {
            assert_eq!(footprint.peak_bytes(batch), bounded.peak_bytes(batch), "{batch}");
        }
        let batches: Vec<usize> = footprint.source.observations().iter().map(|seen| seen.batch).collect();
        assert_eq!((batches.as_slice(), footprint.fixed), ([1, 2, 4].as_slice(), KNOWN));
        assert_eq!(footprint.with_accumulation_extra(40 * MIB).accumulating().peak_bytes(1), 190 * MIB);
    }

    /// No step takes more than the bound by the peaks of smaller ones, whatever an image takes and however high the optimizer's peak is.
    #[test]
    fn no_larger_step_lies_above_its_bound() {
        for image_mib in 1..30 {
            for optimizer_mib in [0, 140, 190] {
                let peak = |batch: usize| (100 + image_mib * batch as u64).max(optimizer_mib) * MIB;
                let seen = [1, 2].map(|batch| Observation { batch, peak_bytes: peak(batch) });
                let bounded = Bounded::by(&seen, KNOWN);
                for batch in [1, 2, 3, 4, 8, 64] {
                    assert!(bounded.peak_bytes(batch) >= peak(batch), "{image_mib} {optimizer_mib} {batch}");
                }
            }
        }
    }
}
