//! The types of settings that say how images are brought to the model: its own, unless they are given.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// `auto`, or what is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AutoOr<T> {
    /// By the word `auto`.
    Auto(Auto),
    /// Exactly this.
    Given(T),
}

/// The word for what is decided before the run begins, with a reason that is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// The word itself.
    Auto,
}

impl<T> Default for AutoOr<T> {
    fn default() -> Self {
        Self::Auto(Auto::Auto)
    }
}

impl<T> AutoOr<T> {
    /// What was written, or decided since; `None` when it is `auto`.
    #[must_use]
    pub fn given(&self) -> Option<&T> {
        match self {
            Self::Auto(_) => None,
            Self::Given(value) => Some(value),
        }
    }
}

/// A share.
impl JsonSchema for AutoOr<f64> {
    fn schema_name() -> Cow<'static, str> {
        "AutoOrShare".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "auto" },
                { "type": "number", "exclusiveMinimum": 0.0, "maximum": 1.0 },
            ]
        })
    }
}

/// A value in 0 to 1 for each channel.
impl JsonSchema for AutoOr<Vec<f64>> {
    fn schema_name() -> Cow<'static, str> {
        "AutoOrValues".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "auto" },
                { "type": "array", "items": { "type": "number", "minimum": 0.0, "maximum": 1.0 } },
            ]
        })
    }
}

/// How pixels are weighed where an image is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// as the weights in `model.weights` saw images, and `bilinear` without
    #[default]
    Auto,
    /// by a triangle
    Bilinear,
    /// by a cubic: sharper, as most published weights saw images
    Bicubic,
}

impl Interpolation {
    /// The way of that name, by which checkpoints and timm know it, if it is one.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "bilinear" => Some(Self::Bilinear),
            "bicubic" => Some(Self::Bicubic),
            _ => None,
        }
    }

    /// Its name, as it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_auto_or_written_and_written_as_they_are_read() {
        for (text, expected) in [("auto\n", AutoOr::default()), ("0.95\n", AutoOr::Given(0.95))] {
            let read: AutoOr<f64> = serde_yaml::from_str(text).unwrap();
            assert_eq!(read, expected);
            assert_eq!(serde_yaml::to_string(&read).unwrap(), text);
        }
        assert_eq!(serde_yaml::from_str::<AutoOr<f64>>("1").unwrap(), AutoOr::Given(1.0), "a whole number is a number");
        let read: AutoOr<Vec<f64>> = serde_yaml::from_str("[0.5, 1, 0]").unwrap();
        assert_eq!(read.given(), Some(&vec![0.5, 1.0, 0.0]));
        assert!(serde_yaml::from_str::<AutoOr<Vec<f64>>>("none").is_err());
    }
}
