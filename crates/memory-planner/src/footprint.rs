//! What one optimizer step holds in memory, as a function of the batch size.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::exact::interpolate;
use crate::{FootprintError, MemoryBreakdown, fit};

/// The peak memory of one optimizer step for any batch size.
///
/// `peak(b) = max(floor, fixed + constant workspace + b * per sample)`, in bytes. With an exact source, what it observed
/// stands in the place of `b * per sample`.
///
/// The floor is there because two phases compete for the peak: the end of the forward pass, which grows with the batch,
/// and the optimizer step, which does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    /// Where the numbers come from.
    pub source: FootprintSource,
    /// What is held whatever the batch size.
    pub fixed: FixedMemory,
    /// What each sample of the batch adds.
    pub per_sample: PerSample,
    /// Bytes at the peak beside `fixed`, independent of the batch. Negative when a part of `fixed` is not alive at the
    /// peak (gradients that only come to be while activations are being freed). With an exact source it takes off the
    /// `fixed` that the observations already hold, so that what is added to `fixed` later raises every peak.
    pub constant_workspace: i64,
    /// No step needs less than this, however small its batch.
    pub floor_bytes: u64,
    /// Bytes more that a step of several micro-batches holds: the gradient sums, kept through the next backward pass.
    /// Zero if the observations were already made while accumulating.
    #[serde(default)]
    pub accumulation_extra: u64,
}

/// How a footprint was obtained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FootprintSource {
    /// Real steps on the device that will train.
    Measured {
        /// The steps, by batch size.
        observations: Vec<Observation>,
        /// The largest distance of the fitted peak from an observed one, as a share of the latter.
        largest_residual_share: f64,
        /// What the fitted peak is raised by.
        #[serde(default)]
        allowance: Allowance,
    },
    /// Real steps on the device that will train, with the real allocator and no launches.
    DryRun {
        /// The steps, by batch size.
        observations: Vec<Observation>,
        /// The same for a step that accumulates; empty when it was not run.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        accumulating: Vec<Observation>,
    },
    /// The step's graph, recorded without computing and replayed through the allocator's rules.
    Captured {
        /// The steps, by batch size.
        observations: Vec<Observation>,
        /// The same for a step that accumulates; empty when it was not evaluated.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        accumulating: Vec<Observation>,
    },
}

/// What a fitted peak is raised by, so that it is seldom too low. As shares of the peak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Allowance {
    /// At every batch size: the same step does not take the same to the byte each time.
    pub everywhere: f64,
    /// From twice the largest batch on that was run, and in between a part of it: another moment of the step may become the highest there.
    pub beyond: f64,
}

impl Allowance {
    fn factor(self, batch: usize, largest_run: usize) -> f64 {
        let doublings = (batch as f64 / largest_run.max(1) as f64).max(1.0).log2();
        1.0 + self.everywhere + self.beyond * doublings.min(1.0)
    }
}

/// The peak of one step, real or evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Samples in the step.
    pub batch: usize,
    /// The most bytes held at any moment of it.
    pub peak_bytes: u64,
}

/// Bytes that do not depend on the batch size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedMemory {
    /// Trainable parameters.
    pub weights: u64,
    /// State that is not trained: running statistics, position tables.
    pub buffers: u64,
    /// One gradient per trainable parameter.
    pub gradients: u64,
    /// The optimizer's state. Adam keeps two moments: 8 bytes a parameter in f32.
    pub optimizer: u64,
    /// The moving average of the weights.
    pub ema: u64,
    /// The process, the device context, the allocator, the data queue.
    pub overhead: u64,
}

impl FixedMemory {
    /// The sum of all parts, in bytes.
    pub fn total(&self) -> u64 {
        [self.weights, self.buffers, self.gradients, self.optimizer, self.ema, self.overhead]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// Bytes that each sample of a batch adds to the peak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerSample {
    /// The sample itself, as a tensor.
    pub input: u64,
    /// Saved for the backward pass, and transient at the peak.
    pub activations: u64,
}

impl PerSample {
    /// The sum of both parts, in bytes.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.activations)
    }
}

impl Footprint {
    /// Fits a footprint to real steps at two or more batch sizes.
    ///
    /// `known` holds what arithmetic gives exactly; `input_bytes_per_sample` is the size of one input tensor. The slope
    /// comes from least squares and the line is lifted until no observed peak lies above it. Where the curve bends up
    /// (at small batches the optimizer step sets the peak), the flat beginning becomes the floor and the slope comes
    /// from the rest.
    ///
    /// # Errors
    /// A [`FootprintError`] when there are too few batch sizes, one is zero, or the peak does not grow with the batch.
    pub fn from_measurements(
        known: FixedMemory,
        input_bytes_per_sample: u64,
        observations: &[Observation],
    ) -> Result<Self, FootprintError> {
        let line = fit::fit_line(known.total(), input_bytes_per_sample, observations)?;
        let mut footprint = Self {
            source: FootprintSource::measured(Vec::new(), 0.0),
            fixed: known,
            per_sample: PerSample {
                input: input_bytes_per_sample,
                activations: line.bytes_per_sample - input_bytes_per_sample,
            },
            constant_workspace: line.constant_workspace,
            floor_bytes: line.floor_bytes,
            accumulation_extra: 0,
        };
        let largest_residual_share = fit::largest_residual_share(&footprint, observations);
        let mut observations = observations.to_vec();
        observations.sort_by_key(|observation| (observation.batch, observation.peak_bytes));
        footprint.source = FootprintSource::measured(observations, largest_residual_share);
        Ok(footprint)
    }

    /// Raises every fitted peak. What an exact source observed is not raised.
    #[must_use]
    pub fn with_allowance(mut self, of: Allowance) -> Self {
        if let FootprintSource::Measured { allowance, .. } = &mut self.source {
            *allowance = of;
        }
        self
    }

    /// Says how many bytes more a step holds that accumulates over several micro-batches.
    #[must_use]
    pub fn with_accumulation_extra(mut self, bytes: u64) -> Self {
        self.accumulation_extra = bytes;
        self
    }

    /// The footprint of a step that accumulates: the gradient sums count as gradients.
    #[must_use]
    pub fn accumulating(&self) -> Self {
        let extra = self.accumulation_extra;
        let mut footprint = self.clone();
        footprint.fixed.gradients = footprint.fixed.gradients.saturating_add(extra);
        footprint.accumulation_extra = 0;
        if footprint.source.take_accumulating() {
            // What was observed holds the sums already.
            footprint.constant_workspace =
                footprint.constant_workspace.saturating_sub(i64::try_from(extra).unwrap_or(i64::MAX));
            return footprint;
        }
        footprint.floor_bytes = footprint.floor_bytes.saturating_add(extra);
        footprint
    }

    /// The pass that a step of `effective` samples peaks in, cut into micro-batches of `micro` and a smaller last one: what it holds beside its samples, and their
    /// number.
    ///
    /// Sums of gradients are there from the second pass on. Where that is the last one and smaller, the first may hold more than it. Only measured steps tell
    /// these two apart: to an allocator of pages, which the first pass has cut, both together may be more than either.
    pub fn largest_pass(&self, effective: usize, micro: usize) -> (Cow<'_, Self>, usize) {
        let micro = micro.clamp(1, effective.max(1));
        let last = effective.saturating_sub(micro);
        if last == 0 {
            return (Cow::Borrowed(self), micro);
        }
        let accumulating = self.accumulating();
        if last >= micro || !matches!(self.source, FootprintSource::Measured { .. }) {
            return (Cow::Owned(accumulating), micro);
        }
        match self.peak_bytes(micro) >= accumulating.peak_bytes(last) {
            true => (Cow::Borrowed(self), micro),
            false => (Cow::Owned(accumulating), last),
        }
    }

    /// The predicted peak of such a step, in bytes.
    pub fn step_peak_bytes(&self, effective: usize, micro: usize) -> u64 {
        let (footprint, batch) = self.largest_pass(effective, micro);
        footprint.peak_bytes(batch)
    }

    /// The predicted peak of one step of `batch` samples, in bytes. It never falls as the batch grows.
    pub fn peak_bytes(&self, batch: usize) -> u64 {
        let per_sample = self.per_sample.total();
        let samples = match self.source.exact_observations() {
            Some(observations) => match interpolate(observations, batch, per_sample) {
                u64::MAX => return u64::MAX,
                bytes => i128::from(bytes),
            },
            None => (batch as i128).saturating_mul(i128::from(per_sample)),
        };
        let constant = i128::from(self.fixed.total()) + i128::from(self.constant_workspace);
        let line = samples.saturating_add(constant);
        let fitted_bytes = u64::try_from(line.max(0)).unwrap_or(u64::MAX).max(self.floor_bytes);
        self.source.raised(fitted_bytes, batch)
    }

    /// The predicted peak of one step of `batch` samples, part by part.
    pub fn breakdown(&self, batch: usize) -> MemoryBreakdown {
        MemoryBreakdown::new(self, batch)
    }

    /// The largest batch that was really run or evaluated, if any was.
    pub fn largest_observed_batch(&self) -> Option<usize> {
        self.source.observations().iter().map(|seen| seen.batch).max()
    }
}

impl FootprintSource {
    fn measured(observations: Vec<Observation>, largest_residual_share: f64) -> Self {
        Self::Measured { observations, largest_residual_share, allowance: Allowance::default() }
    }

    fn raised(&self, fitted_bytes: u64, batch: usize) -> u64 {
        let Self::Measured { observations, allowance, .. } = self else { return fitted_bytes };
        if *allowance == Allowance::default() {
            return fitted_bytes;
        }
        let largest_run = observations.iter().map(|seen| seen.batch).max().unwrap_or(batch);
        (fitted_bytes as f64 * allowance.factor(batch, largest_run)).ceil() as u64
    }

    /// The steps that were run or evaluated.
    pub fn observations(&self) -> &[Observation] {
        match self {
            Self::Measured { observations, .. }
            | Self::DryRun { observations, .. }
            | Self::Captured { observations, .. } => observations,
        }
    }

    /// One line about where the numbers come from: `measured in 3 steps at batch 1, 2, 4; fitted within 0.4 %`,
    /// `captured graph, evaluated at 12 batch sizes from 1 to 96`.
    pub fn describe(&self) -> String {
        match self {
            Self::Measured { observations, largest_residual_share, .. } => {
                let mut batches: Vec<usize> = observations.iter().map(|seen| seen.batch).collect();
                batches.dedup();
                let batches: Vec<String> = batches.iter().map(ToString::to_string).collect();
                format!(
                    "measured in {} steps at batch {}; fitted within {:.1} %",
                    observations.len(),
                    batches.join(", "),
                    100.0 * largest_residual_share
                )
            }
            Self::DryRun { observations, .. } => format!("dry run on the device, at {}", sizes_in_words(observations)),
            Self::Captured { observations, .. } => {
                format!("captured graph, evaluated at {}", sizes_in_words(observations))
            }
        }
    }

    /// What was done to the batches of [`observations`](Self::observations).
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Measured { .. } => "run",
            Self::DryRun { .. } | Self::Captured { .. } => "evaluated",
        }
    }

    /// What stands in the place of a fitted line.
    pub(crate) fn exact_observations(&self) -> Option<&[Observation]> {
        match self {
            Self::Measured { .. } => None,
            Self::DryRun { observations, .. } | Self::Captured { observations, .. } => Some(observations),
        }
    }

    /// Replaces the observations by those of a step that accumulates; false when there are none.
    fn take_accumulating(&mut self) -> bool {
        match self {
            Self::Measured { .. } => false,
            Self::DryRun { observations, accumulating } | Self::Captured { observations, accumulating } => {
                let found = !accumulating.is_empty();
                if found {
                    *observations = std::mem::take(accumulating);
                }
                found
            }
        }
    }
}

fn sizes_in_words(observations: &[Observation]) -> String {
    match observations {
        [] => "no batch size".to_owned(),
        [only] => format!("batch {}", only.batch),
        [first, .., last] => format!("{} batch sizes from {} to {}", observations.len(), first.batch, last.batch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: FixedMemory =
        FixedMemory { weights: 100, buffers: 10, gradients: 100, optimizer: 200, ema: 100, overhead: 40 };

    fn seen(batch: usize, peak_bytes: u64) -> Observation {
        Observation { batch, peak_bytes }
    }

    #[test]
    fn of_two_passes_the_larger_one_comes_before_there_are_sums() {
        let observations = [(1, 2 << 20), (16, 17 << 20)].map(|(batch, peak_bytes)| Observation { batch, peak_bytes });
        let known = FixedMemory { weights: 1 << 20, ..FixedMemory::default() };
        let footprint = Footprint::from_measurements(known, 0, &observations).unwrap().with_accumulation_extra(4 << 20);
        let peak = |effective, micro| footprint.step_peak_bytes(effective, micro) >> 20;
        assert_eq!([peak(16, 16), peak(16, 20)], [17, 17], "one pass, which nothing is added to");
        assert_eq!([peak(24, 16), peak(24, 12)], [17, 17], "16 without sums, and 12 with those of 12 before");
        assert_eq!(peak(31, 16), 20, "15 with sums are more than 16 without");
        assert_eq!([peak(32, 16), peak(40, 16)], [21, 21], "from the second of 16 on there are sums");
        let observed = footprint.source.observations().to_vec();
        let source = FootprintSource::DryRun { observations: observed, accumulating: Vec::new() };
        let exact = Footprint { source, ..footprint.clone() };
        assert_eq!(exact.step_peak_bytes(24, 16), exact.accumulating().peak_bytes(16), "pages are not told apart");
    }

    #[test]
    fn accumulating_adds_the_gradient_sums_at_every_batch_size() {
        let footprint = Footprint::from_measurements(KNOWN, 3, &[seen(1, 600), seen(2, 650)]).unwrap();
        let accumulating = footprint.clone().with_accumulation_extra(100).accumulating();
        for batch in [0, 1, 2, 50] {
            assert_eq!(accumulating.peak_bytes(batch), footprint.peak_bytes(batch) + 100);
        }
        assert_eq!(accumulating.accumulating(), accumulating, "the sums must not be counted twice");
    }

    #[test]
    fn an_allowance_raises_fitted_peaks_more_beyond_the_largest_batch_that_was_run() {
        let footprint = Footprint::from_measurements(KNOWN, 3, &[seen(1, 600), seen(4, 900)]).unwrap();
        let raised = footprint.clone().with_allowance(Allowance { everywhere: 0.01, beyond: 0.05 });
        let factor = |batch| raised.peak_bytes(batch) as f64 / footprint.peak_bytes(batch) as f64;
        for (batch, expected) in [(1, 1.01), (4, 1.01), (6, 1.0392), (8, 1.06), (800, 1.06)] {
            // A byte of some hundreds, for the rounding.
            assert!((factor(batch) - expected).abs() < 2e-3, "{batch}: {}", factor(batch));
        }
        assert!((0..100).map(|batch| raised.peak_bytes(batch)).is_sorted());
        assert_eq!(serde_json::from_str::<Footprint>(&serde_json::to_string(&raised).unwrap()).unwrap(), raised);
    }

    #[test]
    fn a_footprint_survives_json() {
        let footprint = Footprint::from_measurements(KNOWN, 3, &[seen(4, 900), seen(1, 600)]).unwrap();
        let text = serde_json::to_string(&footprint).unwrap();
        assert!(text.contains(r#""kind":"measured""#), "{text}");
        assert_eq!(serde_json::from_str::<Footprint>(&text).unwrap(), footprint);
    }

    #[test]
    fn the_source_tells_its_batch_sizes_in_order() {
        let steps = [seen(4, 900), seen(1, 600), seen(4, 900)];
        let footprint = Footprint::from_measurements(KNOWN, 3, &steps).unwrap();
        assert_eq!(footprint.source.describe(), "measured in 3 steps at batch 1, 4; fitted within 0.0 %");
        assert_eq!(footprint.largest_observed_batch(), Some(4));
    }

    #[test]
    fn absurd_sizes_saturate_instead_of_overflowing() {
        let mut footprint = Footprint::from_measurements(KNOWN, 3, &[seen(1, 600), seen(2, 650)]).unwrap();
        footprint.per_sample.activations = u64::MAX;
        footprint.fixed.weights = u64::MAX;
        assert_eq!(footprint.peak_bytes(usize::MAX), u64::MAX);
    }
}
