//! How far probabilities can be taken at their word, and the temperature that makes them so.
//!
//! Guo et al., "On Calibration of Modern Neural Networks", 2017, <https://arxiv.org/abs/1706.04599>.

use serde::{Deserialize, Serialize};

use crate::ScoreError;
use crate::ranking::argmax;

/// Bins of confidence for the expected calibration error, as in the paper.
pub const CALIBRATION_BINS: usize = 15;

/// Temperatures beyond these leave every distribution of f32 numbers one-hot or even: nothing is gained by going further.
const TEMPERATURES: [f64; 2] = [1e-6, 1e6];

/// A temperature so close to the end of the search has no optimum beside it.
const AT_BOUND: f64 = 1.001;

/// Halvings of the interval of temperatures: its width in f64 is used up by then.
const HALVINGS: usize = 64;

/// Probabilities of labelled samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelledProbabilities {
    /// Logarithms, `[samples][classes]`.
    logarithms: Vec<Vec<f64>>,
    labels: Vec<usize>,
}

/// What probabilities are judged by; lower is better in each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationScores {
    /// Expected calibration error: the gap between confidence and accuracy, averaged over [`CALIBRATION_BINS`] by their samples; 0 to 1.
    pub expected_error: f64,
    /// Mean negative log-likelihood of the labels, nats.
    pub negative_log_likelihood: f64,
    /// Mean squared distance between the probabilities and the one-hot label, summed over classes; 0 to 2.
    pub brier: f64,
}

/// The samples whose highest probability lies in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// How many.
    pub samples: u64,
    /// Mean of their highest probabilities; 0 without samples.
    pub confidence: f64,
    /// Share predicted right; 0 without samples.
    pub accuracy: f64,
}

/// A temperature, and what it does to the samples that it was fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Logits are divided by it before the softmax; above 1 where the model was too sure of itself.
    pub temperature: f64,
    /// Number of samples.
    pub samples: usize,
    /// At temperature 1.
    pub before: CalibrationScores,
    /// At this temperature.
    pub after: CalibrationScores,
}

impl Calibration {
    /// Whether the search ended at its bound: every sample would gain by going further, as where all are right or all are wrong, so that no
    /// temperature is the best.
    #[must_use]
    pub fn is_at_bound(&self) -> bool {
        let [low, high] = TEMPERATURES;
        self.temperature <= low * AT_BOUND || self.temperature >= high / AT_BOUND
    }
}

impl LabelledProbabilities {
    /// Adds a sample with a probability a class, each 0 to 1. A probability of 0 counts as the smallest positive f32, so that no label is impossible.
    ///
    /// # Errors
    /// [`ScoreError::UnknownClass`], [`ScoreError::OtherWidth`] where an earlier sample had other classes, [`ScoreError::NotANumber`].
    pub fn push(&mut self, probabilities: &[f32], label: usize) -> Result<(), ScoreError> {
        let num_classes = probabilities.len();
        if label >= num_classes {
            return Err(ScoreError::UnknownClass { role: "label", index: label, num_classes });
        }
        if let Some(expected) = self.logarithms.first().map(Vec::len).filter(|&expected| expected != num_classes) {
            return Err(ScoreError::OtherWidth { expected, found: num_classes });
        }
        if probabilities.iter().any(|probability| !probability.is_finite()) {
            return Err(ScoreError::NotANumber { label });
        }
        self.logarithms.push(logarithms(probabilities));
        self.labels.push(label);
        Ok(())
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The temperature with the lowest negative log-likelihood, between 1e-6 and 1e6, and what it gives; none without samples.
    ///
    /// The likelihood is concave in 1 / temperature, so that its one maximum is found by halving.
    #[must_use]
    pub fn fit_temperature(&self) -> Option<Calibration> {
        if self.is_empty() {
            return None;
        }
        let [mut low, mut high] = TEMPERATURES.map(f64::ln);
        for _ in 0..HALVINGS {
            let middle = low.midpoint(high);
            // A model that would gain by being surer still is above its best temperature.
            if self.surer_is_better(middle.exp()) { high = middle } else { low = middle }
        }
        let temperature = low.midpoint(high).exp();
        let [before, after] = [1.0, temperature].map(|temperature| self.scores(temperature));
        Some(Calibration { temperature, samples: self.len(), before, after })
    }

    /// The scores at a temperature above 0; NaN without samples.
    #[must_use]
    pub fn scores(&self, temperature: f64) -> CalibrationScores {
        let samples = self.len() as f64;
        let (mut negative_log_likelihood, mut brier) = (0.0, 0.0);
        for (row, &label) in self.tempered(temperature).zip(&self.labels) {
            negative_log_likelihood -= row[label].ln();
            let distance =
                |(class, probability): (usize, &f64)| (probability - f64::from(u8::from(class == label))).powi(2);
            brier += row.iter().enumerate().map(distance).sum::<f64>();
        }
        let gap = |bin: &ReliabilityBin| bin.samples as f64 * (bin.confidence - bin.accuracy).abs();
        CalibrationScores {
            expected_error: self.reliability(temperature).iter().map(gap).sum::<f64>() / samples,
            negative_log_likelihood: negative_log_likelihood / samples,
            brier: brier / samples,
        }
    }

    /// Confidence and accuracy in [`CALIBRATION_BINS`] intervals of equal width, from 0 to 1, at a temperature above 0. The upper end belongs to an
    /// interval, the lower one does not.
    #[must_use]
    pub fn reliability(&self, temperature: f64) -> Vec<ReliabilityBin> {
        let mut bins = vec![ReliabilityBin::default(); CALIBRATION_BINS];
        for (row, &label) in self.tempered(temperature).zip(&self.labels) {
            let confidence = row.iter().copied().fold(0.0, f64::max);
            let index = (confidence * CALIBRATION_BINS as f64).ceil() as usize;
            let bin = &mut bins[index.clamp(1, CALIBRATION_BINS) - 1];
            bin.samples += 1;
            bin.confidence += confidence;
            let scores: Vec<f32> = row.iter().map(|&probability| probability as f32).collect();
            bin.accuracy += f64::from(u8::from(argmax(&scores) == Some(label)));
        }
        for bin in bins.iter_mut().filter(|bin| bin.samples > 0) {
            bin.confidence /= bin.samples as f64;
            bin.accuracy /= bin.samples as f64;
        }
        bins
    }

    /// The derivative of the log-likelihood by 1 / temperature is the sum of what the labels' scores exceed the expected scores by.
    fn surer_is_better(&self, temperature: f64) -> bool {
        let excess = |((row, probabilities), &label): ((&Vec<f64>, Vec<f64>), &usize)| {
            let expected: f64 = row.iter().zip(probabilities).map(|(score, probability)| score * probability).sum();
            row[label] - expected
        };
        let rows = self.logarithms.iter().zip(self.tempered(temperature));
        rows.zip(&self.labels).map(excess).sum::<f64>() >= 0.0 // zero where all are one-hot, and right
    }

    fn tempered(&self, temperature: f64) -> impl Iterator<Item = Vec<f64>> {
        self.logarithms.iter().map(move |row| softmax_at(row, temperature))
    }
}

/// One sample's probabilities at a temperature above 0; 1 changes nothing but the last bits.
#[must_use]
pub fn temper(probabilities: &[f32], temperature: f64) -> Vec<f32> {
    softmax_at(&logarithms(probabilities), temperature).into_iter().map(|probability| probability as f32).collect()
}

fn logarithms(probabilities: &[f32]) -> Vec<f64> {
    probabilities.iter().map(|&probability| f64::from(probability.max(f32::MIN_POSITIVE)).ln()).collect()
}

fn softmax_at(scores: &[f64], temperature: f64) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| ((score - highest) / temperature).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rows: &[([f32; 2], usize)]) -> LabelledProbabilities {
        let mut samples = LabelledProbabilities::default();
        rows.iter().for_each(|(row, label)| samples.push(row, *label).unwrap());
        samples
    }

    #[test]
    fn an_overconfident_model_is_brought_down_to_its_accuracy() {
        // Sure to 99 %, right in three of four: the best temperature makes that 75 %.
        let samples = samples(&[([0.99, 0.01], 0), ([0.99, 0.01], 0), ([0.01, 0.99], 1), ([0.01, 0.99], 0)]);
        let calibration = samples.fit_temperature().unwrap();
        let confidence = temper(&[0.99, 0.01], calibration.temperature)[0];
        assert!((confidence - 0.75).abs() < 1e-5, "{confidence}");
        assert!(calibration.after.negative_log_likelihood < calibration.before.negative_log_likelihood);
        assert!(calibration.after.expected_error < 1e-5 && (calibration.before.expected_error - 0.24).abs() < 1e-6);
    }

    #[test]
    fn a_model_that_is_always_right_or_always_wrong_ends_at_the_bounds() {
        let right = samples(&[([0.6, 0.4], 0), ([0.3, 0.7], 1)]).fit_temperature().unwrap();
        let wrong = samples(&[([0.6, 0.4], 1), ([0.3, 0.7], 0)]).fit_temperature().unwrap();
        assert!((right.temperature / 1e-6 - 1.0).abs() < 1e-9 && (wrong.temperature / 1e6 - 1.0).abs() < 1e-9);
        assert!(right.is_at_bound() && wrong.is_at_bound());
        assert!(wrong.after.negative_log_likelihood.is_finite());
    }

    #[test]
    fn an_optimum_far_from_one_is_found_where_it_is() {
        // Sure to 99 %, right in 501 of 1000, and even to 50.1 %, always right but in one of 1000.
        let rows =
            |row: [f32; 2], right: usize| (0..1000).map(|place| (row, usize::from(place >= right))).collect::<Vec<_>>();
        for (row, right) in [([0.99, 0.01], 501), ([0.501, 0.499], 999)] {
            let calibration = samples(&rows(row, right)).fit_temperature().unwrap();
            let share = right as f64 / 1000.0;
            let [odds, row_odds] = [share / (1.0 - share), f64::from(row[0]) / f64::from(row[1])].map(f64::ln);
            let expected = row_odds / odds;
            assert!((calibration.temperature / expected - 1.0).abs() < 1e-6, "{calibration:?}: {expected}");
            assert!(!calibration.is_at_bound() && !(0.01..100.0).contains(&calibration.temperature));
        }
    }

    #[test]
    fn a_probability_of_zero_is_no_infinite_loss() {
        let samples = samples(&[([1.0, 0.0], 1)]);
        assert!(samples.scores(1.0).negative_log_likelihood.is_finite());
        assert_eq!(temper(&[1.0, 0.0], 1.0), [1.0, f32::MIN_POSITIVE]);
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        let mut samples = samples(&[([0.5, 0.5], 1)]);
        assert!(matches!(samples.push(&[0.5, 0.5], 2), Err(ScoreError::UnknownClass { index: 2, .. })));
        assert!(matches!(samples.push(&[1.0], 0), Err(ScoreError::OtherWidth { expected: 2, found: 1 })));
        assert!(matches!(samples.push(&[f32::NAN, 0.5], 0), Err(ScoreError::NotANumber { label: 0 })));
        assert_eq!(samples.len(), 1);
        assert_eq!(LabelledProbabilities::default().fit_temperature(), None);
    }

    #[test]
    fn a_bin_holds_its_upper_end() {
        let bins = samples(&[([0.6, 0.4], 0), ([1.0, 0.0], 0), ([0.5, 0.5], 0)]).reliability(1.0);
        let filled: Vec<usize> = (0..bins.len()).filter(|&index| bins[index].samples > 0).collect();
        // 0.6 is rounded up as an f32, and so belongs to the interval from 9/15 on; 0.5 to the one from 7/15.
        assert_eq!(filled, [7, 9, 14]);
        assert_eq!(bins.iter().map(|bin| bin.samples).sum::<u64>(), 3);
    }
}
