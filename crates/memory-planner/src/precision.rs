//! How a step computes: the format of its numbers, and what it keeps for the backward pass.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Choice;
use crate::format_bytes;

/// The format that a step computes in. Weights, optimizer, norms, softmax and loss stay in 32 bits whatever it is.
///
/// As text, and in files: `fp32`, `bf16`, `fp16`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    Fp32,
    /// 16 bits with the exponent of 32: nothing overflows, so the loss needs no scaling.
    Bf16,
    /// 16 bits with a short exponent: the loss is scaled, so that small gradients do not vanish.
    Fp16,
}

/// What a step keeps for its backward pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checkpointing {
    /// All that the backward pass reads.
    #[default]
    None,
    /// What is dear to compute; what memory bounds is computed again.
    Balanced,
}

impl Precision {
    /// The format for a card of this compute capability (major, minor).
    ///
    /// Tensor cores take bf16 from 8.0 (Ampere) on and fp16 from 7.0 (Volta) on, as the table of tensor core data types in
    /// NVIDIA's CUDA programming guide has it; older cards gain no speed from 16 bits.
    pub fn automatic(compute_capability: (u32, u32)) -> Self {
        match compute_capability {
            (8.., _) => Self::Bf16,
            (7, _) => Self::Fp16,
            _ => Self::Fp32,
        }
    }

    /// [`automatic`](Self::automatic) with its reason, for a plan.
    pub fn automatic_choice(compute_capability: (u32, u32)) -> Choice {
        let (major, minor) = compute_capability;
        let why = match Self::automatic(compute_capability) {
            Self::Bf16 => "has tensor cores for bf16",
            Self::Fp16 => "has tensor cores for fp16, and none for bf16",
            Self::Fp32 => "has no tensor cores",
        };
        let reason = format!("compute capability {major}.{minor} {why}");
        Choice::new(PRECISION_CHOICE, Self::automatic(compute_capability), reason)
    }

    /// The choice of this format for a `reason`, and what it saves against another where that is known.
    pub fn choice(self, reason: &str, saving: Option<(Self, u64)>) -> Choice {
        let saving = match saving {
            Some((against, bytes)) if bytes > 0 => format!("; saves {} against {against}", format_bytes(bytes)),
            _ => String::new(),
        };
        Choice::new(PRECISION_CHOICE, self, format!("{reason}{saving}"))
    }

    /// Bytes of a number.
    pub fn bytes_per_number(self) -> u64 {
        match self {
            Self::Fp32 => 4,
            Self::Bf16 | Self::Fp16 => 2,
        }
    }

    /// Whether the loss must be scaled, for gradients not to vanish.
    pub fn needs_loss_scaling(self) -> bool {
        self == Self::Fp16
    }
}

impl Checkpointing {
    /// The choice of this for a `reason`, and what it saves where that is known.
    pub fn choice(self, reason: &str, saved_bytes: Option<u64>) -> Choice {
        let saving = match saved_bytes {
            Some(bytes) if bytes > 0 => format!("; saves {}", format_bytes(bytes)),
            _ => String::new(),
        };
        Choice::new(CHECKPOINTING_CHOICE, self, format!("{reason}{saving}"))
    }
}

const PRECISION_CHOICE: &str = "precision";
const CHECKPOINTING_CHOICE: &str = "checkpointing";

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
        })
    }
}

impl fmt::Display for Checkpointing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Balanced => "balanced",
        })
    }
}

impl FromStr for Precision {
    type Err = ParsePrecisionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fp32" => Ok(Self::Fp32),
            "bf16" => Ok(Self::Bf16),
            "fp16" => Ok(Self::Fp16),
            _ => Err(ParsePrecisionError { text: text.to_owned() }),
        }
    }
}

impl FromStr for Checkpointing {
    type Err = ParseCheckpointingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "balanced" => Ok(Self::Balanced),
            _ => Err(ParseCheckpointingError { text: text.to_owned() }),
        }
    }
}

/// A text that names no checkpointing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown checkpointing `{text}`, expected `none` or `balanced`")]
pub struct ParseCheckpointingError {
    /// What was given.
    pub text: String,
}

impl ParseCheckpointingError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some("set it to `none`, or leave it out".to_owned())
    }
}

/// A text that names no format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown precision `{text}`, expected `fp32`, `bf16` or `fp16`")]
pub struct ParsePrecisionError {
    /// What was given.
    pub text: String,
}

impl ParsePrecisionError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some("set it to `bf16`, or leave it out".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_get_the_format_that_their_tensor_cores_take() {
        let expected = [
            ((6, 1), Precision::Fp32),
            ((7, 0), Precision::Fp16),
            ((7, 5), Precision::Fp16),
            ((8, 0), Precision::Bf16),
            ((8, 6), Precision::Bf16),
            ((12, 0), Precision::Bf16),
        ];
        for (capability, precision) in expected {
            assert_eq!(Precision::automatic(capability), precision, "{capability:?}");
            let choice = Precision::automatic_choice(capability);
            assert_eq!(choice.value, precision.to_string());
            assert!(choice.reason.starts_with(&format!("compute capability {}.{}", capability.0, capability.1)));
        }
    }

    #[test]
    fn names_are_the_same_as_text_and_in_files() {
        for precision in [Precision::Fp32, Precision::Bf16, Precision::Fp16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            assert_eq!(serde_json::to_string(&precision).unwrap(), format!("\"{precision}\""));
        }
        for checkpointing in [Checkpointing::None, Checkpointing::Balanced] {
            assert_eq!(checkpointing.to_string().parse(), Ok(checkpointing));
            assert_eq!(serde_json::to_string(&checkpointing).unwrap(), format!("\"{checkpointing}\""));
        }
        let error = "f16".parse::<Precision>().unwrap_err();
        assert_eq!(error.to_string(), "unknown precision `f16`, expected `fp32`, `bf16` or `fp16`");
    }

    #[test]
    fn a_choice_says_what_it_saves_when_that_is_known() {
        let reason = |saving| Precision::Bf16.choice("set by `train.precision`", saving).reason;
        assert_eq!(reason(Some((Precision::Fp32, 3 << 30))), "set by `train.precision`; saves 3.0 GiB against fp32");
        assert_eq!(reason(None), "set by `train.precision`");
        assert_eq!(Checkpointing::Balanced.choice("asked for", Some(1 << 20)).reason, "asked for; saves 1.0 MiB");
    }
}
