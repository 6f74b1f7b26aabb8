//! Which batch sizes are welcome.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The batch sizes that a plan may choose by itself: kernels like them even.
///
/// As text, and in files: `multiple_of_4`, `power_of_two`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Rounding {
    /// A multiple of this number; smaller batches are taken as they are.
    MultipleOf(usize),
    /// 1, 2, 4, 8 and so on.
    PowerOfTwo,
}

impl Rounding {
    /// The largest welcome batch that is not above `batch`. A batch below the first multiple stays as it is.
    pub fn round_down(self, batch: usize) -> usize {
        match self {
            Self::MultipleOf(step) if step > 1 && batch >= step => batch - batch % step,
            Self::MultipleOf(_) => batch,
            Self::PowerOfTwo => batch.checked_ilog2().map_or(0, |exponent| 1 << exponent),
        }
    }

    /// Whether a plan may choose this batch.
    pub fn allows(self, batch: usize) -> bool {
        self.round_down(batch) == batch
    }

    /// In a sentence: `multiple of 4`.
    pub fn describe(self) -> String {
        match self {
            Self::MultipleOf(step) => format!("multiple of {step}"),
            Self::PowerOfTwo => "power of two".to_owned(),
        }
    }
}

impl Default for Rounding {
    fn default() -> Self {
        Self::MultipleOf(4)
    }
}

impl fmt::Display for Rounding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MultipleOf(step) => write!(formatter, "multiple_of_{step}"),
            Self::PowerOfTwo => formatter.write_str("power_of_two"),
        }
    }
}

impl FromStr for Rounding {
    type Err = ParseRoundingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "power_of_two" {
            return Ok(Self::PowerOfTwo);
        }
        text.strip_prefix("multiple_of_")
            .and_then(|step| step.parse().ok())
            .filter(|step| *step > 0)
            .map(Self::MultipleOf)
            .ok_or_else(|| ParseRoundingError { text: text.to_owned() })
    }
}

impl TryFrom<String> for Rounding {
    type Error = ParseRoundingError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Rounding> for String {
    fn from(rounding: Rounding) -> Self {
        rounding.to_string()
    }
}

/// A text that names no rounding.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown rounding `{text}`, expected `multiple_of_4` or `power_of_two`")]
pub struct ParseRoundingError {
    /// What was given.
    pub text: String,
}

impl ParseRoundingError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some("set `memory.rounding: multiple_of_4`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_never_goes_up_and_never_to_nothing() {
        for rounding in [Rounding::MultipleOf(0), Rounding::MultipleOf(1), Rounding::default(), Rounding::PowerOfTwo] {
            assert_eq!(rounding.round_down(0), 0);
            for batch in 1..300 {
                let rounded = rounding.round_down(batch);
                assert!((1..=batch).contains(&rounded), "{rounding}: {batch} became {rounded}");
                assert!(rounding.allows(rounded), "{rounding}: {rounded} rounds on");
            }
        }
    }

    #[test]
    fn policies_round_as_they_are_named() {
        assert_eq!(Rounding::MultipleOf(4).round_down(103), 100);
        assert_eq!(Rounding::MultipleOf(4).round_down(3), 3);
        assert_eq!(Rounding::PowerOfTwo.round_down(103), 64);
        assert!(!Rounding::MultipleOf(4).allows(6));
    }

    #[test]
    fn policies_are_written_and_read_by_name() {
        for rounding in [Rounding::MultipleOf(4), Rounding::MultipleOf(8), Rounding::PowerOfTwo] {
            assert_eq!(rounding.to_string().parse(), Ok(rounding));
            let text = serde_json::to_string(&rounding).unwrap();
            assert_eq!(serde_json::from_str::<Rounding>(&text).unwrap(), rounding);
        }
        for wrong in ["", "multiple_of_0", "multiple_of_x", "even"] {
            let error = wrong.parse::<Rounding>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{wrong}`")));
        }
    }
}
