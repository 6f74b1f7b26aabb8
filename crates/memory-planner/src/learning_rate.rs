//! What the learning rate becomes when the effective batch is not the one that it was chosen for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Choice, Plan};

/// How the learning rate follows the effective batch.
///
/// As text, and in files: `none`, `sqrt`, `linear`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearningRateScaling {
    /// Not at all.
    #[default]
    None,
    /// With the square root of the batch: the variance of a step stays the same. Krizhevsky, "One weird trick for
    /// parallelizing convolutional neural networks", 2014 (arXiv:1404.5997); Hoffer et al., "Train longer, generalize
    /// better", 2017 (arXiv:1705.08741). The usual one for Adam and its kin.
    Sqrt,
    /// With the batch: a few large steps go as far as many small ones. Goyal et al., "Accurate, large minibatch SGD", 2017
    /// (arXiv:1706.02677). Meant for SGD with a warm-up.
    Linear,
}

/// The learning rate as the user chose it, and for which batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearningRateRule {
    /// The rate, above 0.
    pub base_rate: f64,
    /// Samples per optimizer step that it was chosen for.
    pub base_batch: usize,
    /// How it follows another batch.
    pub scaling: LearningRateScaling,
}

impl LearningRateScaling {
    /// The rate for `batch`, when `base_rate` was chosen for `base_batch`. A batch of 0 leaves it as it is.
    pub fn scaled(self, base_rate: f64, base_batch: usize, batch: usize) -> f64 {
        if base_batch == 0 || batch == 0 || base_batch == batch {
            return base_rate;
        }
        let ratio = batch as f64 / base_batch as f64;
        match self {
            Self::None => base_rate,
            Self::Sqrt => base_rate * ratio.sqrt(),
            Self::Linear => base_rate * ratio,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::None => "not scaled",
            Self::Sqrt => "scaled with the square root of the batch",
            Self::Linear => "scaled with the batch",
        }
    }
}

impl LearningRateRule {
    /// The rate for what `plan` takes per optimizer step, and why. When the effective batch is set by the user, that is the
    /// base, and nothing changes; it matters when the plan was free to choose.
    ///
    /// # Errors
    /// A [`LearningRateError`] when the rate is not above 0, or the base batch is 0.
    pub fn for_plan(&self, plan: &Plan) -> Result<(f64, Choice), LearningRateError> {
        self.for_batch(plan.effective_batch)
    }

    /// [`for_plan`](Self::for_plan) for a number of samples per optimizer step, such as that of several cards.
    ///
    /// # Errors
    /// Those of [`for_plan`](Self::for_plan).
    pub fn for_batch(&self, batch: usize) -> Result<(f64, Choice), LearningRateError> {
        if !(self.base_rate.is_finite() && self.base_rate > 0.0) {
            return Err(LearningRateError::RateOutOfRange { value: self.base_rate });
        }
        if self.base_batch == 0 || batch == 0 {
            return Err(LearningRateError::ZeroBatch);
        }
        let rate = self.scaling.scaled(self.base_rate, self.base_batch, batch);
        let reason = if batch == self.base_batch {
            format!("as set, for an effective batch of {batch}")
        } else {
            let words = self.scaling.in_words();
            format!("{words}: {} for {}, and a step has {batch}", self.base_rate, self.base_batch)
        };
        Ok((rate, Choice::new("learning rate", short(rate), reason)))
    }
}

/// Four significant digits are enough to read.
fn short(rate: f64) -> String {
    if rate < 1e-6 {
        return format!("{rate:.3e}");
    }
    let digits = (3.0 - rate.abs().log10().floor()).clamp(0.0, 12.0) as usize;
    let text = format!("{rate:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl fmt::Display for LearningRateScaling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Sqrt => "sqrt",
            Self::Linear => "linear",
        })
    }
}

impl FromStr for LearningRateScaling {
    type Err = LearningRateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "sqrt" => Ok(Self::Sqrt),
            "linear" => Ok(Self::Linear),
            _ => Err(LearningRateError::UnknownScaling { text: text.to_owned() }),
        }
    }
}

/// Why there is no learning rate.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LearningRateError {
    /// Nothing to scale.
    #[error("the learning rate is {value}, but must be above 0")]
    RateOutOfRange {
        /// What was given.
        value: f64,
    },
    /// A batch of nothing.
    #[error("the learning rate is scaled by an effective batch of 0")]
    ZeroBatch,
    /// No such rule.
    #[error("unknown learning rate scaling `{text}`, expected `none`, `sqrt` or `linear`")]
    UnknownScaling {
        /// What was given.
        text: String,
    },
}

impl LearningRateError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::RateOutOfRange { .. } => "set it to a rate such as `0.001`".to_owned(),
            Self::ZeroBatch => "set the batch to 1 or more".to_owned(),
            Self::UnknownScaling { .. } => "use `sqrt` with AdamW, `linear` with SGD".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: LearningRateRule =
        LearningRateRule { base_rate: 1e-3, base_batch: 64, scaling: LearningRateScaling::Sqrt };

    #[test]
    fn rates_follow_the_batch_as_their_rule_says() {
        let of = |scaling: LearningRateScaling, batch| scaling.scaled(0.1, 256, batch);
        assert_eq!(of(LearningRateScaling::None, 1024), 0.1);
        assert!((of(LearningRateScaling::Sqrt, 1024) - 0.2).abs() < 1e-15);
        assert!((of(LearningRateScaling::Linear, 8192) - 3.2).abs() < 1e-12, "Goyal et al., table 1");
        for scaling in [LearningRateScaling::None, LearningRateScaling::Sqrt, LearningRateScaling::Linear] {
            assert_eq!(of(scaling, 256), 0.1, "the base batch keeps the rate to the bit");
            let there_and_back = scaling.scaled(of(scaling, 96), 96, 256);
            assert!((there_and_back - 0.1).abs() < 1e-15);
            assert_eq!(scaling.to_string().parse(), Ok(scaling));
            assert_eq!(serde_json::to_string(&scaling).unwrap(), format!("\"{scaling}\""));
        }
    }

    #[test]
    fn a_scaled_rate_tells_its_reason() {
        let (rate, choice) = RULE.for_batch(96).unwrap();
        assert!((rate - 1.224_744_871_391_589e-3).abs() < 1e-15);
        assert_eq!(choice.value, "0.001225");
        assert_eq!(choice.reason, "scaled with the square root of the batch: 0.001 for 64, and a step has 96");
        let (rate, choice) = RULE.for_batch(64).unwrap();
        assert_eq!((rate, choice.reason.as_str()), (1e-3, "as set, for an effective batch of 64"));
        let unscaled = LearningRateRule { scaling: LearningRateScaling::None, ..RULE };
        assert!(unscaled.for_batch(96).unwrap().1.reason.starts_with("not scaled: 0.001 for 64"));
    }

    #[test]
    fn rates_are_written_short() {
        let written = [0.1, 0.001, 3.2, 0.000_017_677_669, 1250.0, 1e-30].map(short);
        assert_eq!(written, ["0.1", "0.001", "3.2", "0.00001768", "1250", "1.000e-30"]);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for base_rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = LearningRateRule { base_rate, ..RULE }.for_batch(8).unwrap_err();
            assert!(matches!(error, LearningRateError::RateOutOfRange { .. }) && error.hint().is_some());
        }
        assert_eq!(RULE.for_batch(0), Err(LearningRateError::ZeroBatch));
        assert_eq!(LearningRateRule { base_batch: 0, ..RULE }.for_batch(8), Err(LearningRateError::ZeroBatch));
        assert!("cosine".parse::<LearningRateScaling>().unwrap_err().to_string().contains("`cosine`"));
    }
}
