//! From what each view says of an image to one answer.

use std::fmt;

use metrics::softmax;

/// How the answers of several views become one. Whatever the rule, the answer is a distribution: it sums to 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Merge {
    /// Mean of the probabilities.
    #[default]
    Mean,
    /// Softmax of the mean of the logits. What is added to all logits of a view changes no softmax, so that this is [`Merge::Geometric`] by
    /// another name.
    Logits,
    /// Geometric mean of the probabilities, made to sum to 1: a class that one view finds impossible stays improbable.
    Geometric,
    /// Each class's highest probability in any view, made to sum to 1: the view that is surest counts.
    Max,
    /// Mean of the probabilities with a weight for each view, in the order of the views; 0 or more, one at least above 0. Only their
    /// proportions matter.
    Weighted(Vec<f64>),
}

/// What a class counts for that a view gives no probability: it is as improbable as a number can say, and other views are heard.
const LOWEST_LOGARITHM: f64 = -745.0; // of the smallest f64 above 0

impl Merge {
    /// The name in configurations and on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Logits => "logits",
            Self::Geometric => "geometric",
            Self::Max => "max",
            Self::Weighted(_) => "weighted",
        }
    }

    /// Whether the rule can merge that many views: weights are one a view, finite and not negative, and not all are 0.
    #[must_use]
    pub fn serves(&self, views: usize) -> bool {
        match self {
            Self::Weighted(weights) => {
                let are_weights = weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0);
                weights.len() == views && are_weights && weights.iter().sum::<f64>() > 0.0
            }
            _ => true,
        }
    }

    /// Merges what each view says of one image: logits, finite or minus infinity, `[views][classes]`; one view at least, of equal length, and
    /// as many as the rule [serves](Merge::serves). Gives probabilities: `[classes]`.
    #[must_use]
    pub fn probabilities(&self, logits: &[Vec<f32>]) -> Vec<f32> {
        match self {
            Self::Mean => arithmetic(logits, |_| 1.0),
            Self::Weighted(weights) => arithmetic(logits, |view| weights[view]),
            Self::Logits | Self::Geometric => geometric(logits),
            Self::Max => highest(logits),
        }
    }
}

impl fmt::Display for Merge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// In f64, so that the mean of one view is that view, bit for bit, and the order of views does not show.
fn arithmetic(logits: &[Vec<f32>], weight: impl Fn(usize) -> f64) -> Vec<f32> {
    let mut sums = vec![0.0; logits[0].len()];
    for (view, row) in logits.iter().enumerate() {
        let weight = weight(view);
        sums.iter_mut().zip(softmax(row)).for_each(|(sum, probability)| *sum += weight * f64::from(probability));
    }
    let weights: f64 = (0..logits.len()).map(weight).sum();
    sums.into_iter().map(|sum| (sum / weights) as f32).collect()
}

fn geometric(logits: &[Vec<f32>]) -> Vec<f32> {
    let mut sums = vec![0.0; logits[0].len()];
    for row in logits {
        let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let below = |logit: f32| f64::from(logit) - f64::from(highest);
        let scale: f64 = row.iter().map(|&logit| below(logit).exp()).sum::<f64>().ln();
        let logarithms = row.iter().map(|&logit| (below(logit) - scale).max(LOWEST_LOGARITHM));
        sums.iter_mut().zip(logarithms).for_each(|(sum, logarithm)| *sum += logarithm);
    }
    let views = logits.len() as f64;
    let highest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    to_distribution(sums.into_iter().map(|sum| ((sum - highest) / views).exp()).collect())
}

fn highest(logits: &[Vec<f32>]) -> Vec<f32> {
    let mut most = vec![0.0; logits[0].len()];
    for row in logits {
        most.iter_mut()
            .zip(softmax(row))
            .for_each(|(most, probability)| *most = f64::max(*most, f64::from(probability)));
    }
    to_distribution(most)
}

fn to_distribution(shares: Vec<f64>) -> Vec<f32> {
    let sum: f64 = shares.iter().sum();
    shares.into_iter().map(|share| (share / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(views: usize) -> [Merge; 5] {
        [Merge::Mean, Merge::Logits, Merge::Geometric, Merge::Max, Merge::Weighted(vec![0.3; views])]
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        let close = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6);
        assert!(close, "{found:?} is not {expected:?}");
    }

    #[test]
    fn one_view_is_its_own_merge_by_every_rule() {
        let logits = [vec![0.5, -2.0, 3.0]];
        assert_eq!(Merge::Mean.probabilities(&logits), softmax(&logits[0]), "bit for bit");
        for rule in rules(1) {
            assert_close(&rule.probabilities(&logits), &softmax(&logits[0]));
        }
    }

    #[test]
    fn rules_are_what_their_names_say() {
        // Probabilities 3/4 and 1/4, then 1/2 and 1/2.
        let logits = [vec![3f32.ln(), 0.0], vec![0.0, 0.0]];
        assert_close(&Merge::Mean.probabilities(&logits), &[0.625, 0.375]);
        assert_close(&Merge::Weighted(vec![3.0, 1.0]).probabilities(&logits), &[0.6875, 0.3125]);
        assert_close(&Merge::Max.probabilities(&logits), &[0.6, 0.4]);
        let root = 3f32.sqrt();
        let expected = [root / (1.0 + root), 1.0 / (1.0 + root)];
        assert_close(&Merge::Logits.probabilities(&logits), &expected);
        assert_close(&Merge::Geometric.probabilities(&logits), &expected);
    }

    #[test]
    fn every_answer_sums_to_one_however_far_apart_the_logits_are() {
        let impossible = f32::NEG_INFINITY;
        for logits in [
            vec![vec![1e4, -1e4, 0.0], vec![-1e4, 1e4, 0.0]],
            vec![vec![0.0, impossible, impossible], vec![impossible, impossible, 0.0]],
            vec![vec![3e38, -3e38, 0.0], vec![3e38, 3e38, 3e38]],
        ] {
            for rule in rules(2) {
                let sum: f32 = rule.probabilities(&logits).iter().sum();
                assert!((sum - 1.0).abs() < 1e-6, "{rule} of {logits:?}: {sum}");
            }
        }
    }

    #[test]
    fn weights_serve_as_many_views_as_they_are() {
        assert!(Merge::Mean.serves(7) && Merge::Weighted(vec![0.0, 2.0]).serves(2));
        for weights in [vec![1.0], vec![0.0, 0.0], vec![-1.0, 2.0], vec![f64::NAN, 1.0]] {
            assert!(!Merge::Weighted(weights.clone()).serves(2), "{weights:?}");
        }
    }
}
