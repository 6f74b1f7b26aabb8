//! One sample's class scores: which is highest, which are the k highest, and what they are as probabilities.

use std::cmp::Ordering;

use crate::record::TopKAccuracy;

/// Whether `label` is among the `k` highest of `scores` (logits or probabilities, one a class).
///
/// Ties go to the lower index, so that `k = 1` asks whether [`argmax`] is the label. NaN ranks below every number. A
/// label outside `scores` is never a hit.
#[must_use]
pub fn top_k_hits(scores: &[f32], label: usize, k: usize) -> bool {
    let Some(&own) = scores.get(label) else { return false };
    let ahead = scores
        .iter()
        .enumerate()
        .filter(|&(index, &score)| match rank(score, own) {
            Ordering::Greater => true,
            Ordering::Equal => index < label,
            Ordering::Less => false,
        })
        .count();
    ahead < k && !own.is_nan()
}

/// Index of the highest score; the lower index in a tie. None when there is no number among them.
#[must_use]
pub fn argmax(scores: &[f32]) -> Option<usize> {
    (0..scores.len()).find(|&index| top_k_hits(scores, index, 1))
}

/// Logits to probabilities, which sum to 1; summed in f64, safe from overflow. A NaN makes all of them NaN.
#[must_use]
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - f64::from(highest)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

/// Counts top-k hits over many samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopKCounter {
    k: usize,
    hits: u64,
    total: u64,
}

impl TopKCounter {
    /// A counter for the `k` highest scores.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, hits: 0, total: 0 }
    }

    /// Counts one sample; ties as in [`top_k_hits`].
    pub fn record(&mut self, scores: &[f32], label: usize) {
        self.hits += u64::from(top_k_hits(scores, label, self.k));
        self.total += 1;
    }

    /// The share of hits; NaN when nothing was recorded.
    #[must_use]
    pub fn accuracy(&self) -> TopKAccuracy {
        TopKAccuracy { k: self.k as u32, accuracy: self.hits as f64 / self.total as f64 }
    }
}

/// Order of two scores, NaN lowest.
fn rank(left: f32, right: f32) -> Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_index() {
        let scores = [0.5, 0.5, 0.1];
        assert!(top_k_hits(&scores, 0, 1) && !top_k_hits(&scores, 1, 1) && top_k_hits(&scores, 1, 2));
        assert_eq!(argmax(&scores), Some(0));
    }

    #[test]
    fn nan_ranks_last_and_never_hits() {
        let scores = [f32::NAN, -1.0, f32::NAN];
        assert_eq!(argmax(&scores), Some(1));
        assert!(!top_k_hits(&scores, 0, 3) && top_k_hits(&scores, 1, 1));
        assert_eq!(argmax(&[f32::NAN]), None);
    }

    #[test]
    fn a_label_outside_the_scores_and_a_k_of_zero_never_hit() {
        assert!(!top_k_hits(&[1.0], 1, 5) && !top_k_hits(&[1.0], 0, 0) && top_k_hits(&[1.0], 0, 5));
    }

    #[test]
    fn softmax_survives_huge_logits_and_sums_to_one() {
        let probabilities = softmax(&[1e30, 0.0, -1e30]);
        assert_eq!(probabilities, [1.0, 0.0, 0.0]);
        assert!((softmax(&[0.3, -2.0, 5.5, 1.0]).iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(softmax(&[]).is_empty());
    }

    #[test]
    fn softmax_shows_a_nan_instead_of_hiding_it() {
        assert!(softmax(&[1.0, f32::NAN]).iter().all(|probability| probability.is_nan()));
    }

    #[test]
    fn a_counter_without_samples_says_nan() {
        let mut counter = TopKCounter::new(2);
        assert!(counter.accuracy().accuracy.is_nan());
        counter.record(&[0.1, 0.7, 0.2], 2);
        counter.record(&[0.1, 0.7, 0.2], 0);
        assert_eq!(counter.accuracy(), TopKAccuracy { k: 2, accuracy: 0.5 });
    }
}
