//! The types of single settings: what may stand to the right of a key.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
pub use device::DeviceRequest;
use memory_planner::parse_bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most that an [`AutoCount`] may be: far above what is useful, far below what overflows.
const LARGEST_COUNT: usize = 65_536;

/// A count that stoker can choose by itself: `auto`, or a whole number from 1 to 65536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoCount {
    /// Chosen at the start of the run, with a reason that is printed.
    #[default]
    Auto,
    /// Exactly this many, from 1 to 65536.
    Exactly(usize),
}

impl AutoCount {
    /// The count that the user fixed, `None` when it is `auto`.
    #[must_use]
    pub fn exactly(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Exactly(count) => Some(count),
        }
    }
}

impl fmt::Display for AutoCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Exactly(count) => count.fmt(formatter),
        }
    }
}

impl FromStr for AutoCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(count)) if (1..=LARGEST_COUNT).contains(&count) => Ok(Self::Exactly(count)),
            _ => Err(format!("expected `auto` or a whole number from 1 to {LARGEST_COUNT}")),
        }
    }
}

impl Serialize for AutoCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Exactly(count) => count.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AutoCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TextOrNumber::deserialize(deserializer)?.parse()
    }
}

impl JsonSchema for AutoCount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AutoCount".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "auto" },
                { "type": "integer", "minimum": 1, "maximum": LARGEST_COUNT },
            ]
        })
    }
}

/// An amount of memory as the user wrote it: `2GiB`, `512MiB`, `1.5 GB`, or a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MemorySize(String);

impl MemorySize {
    /// The text as written; it is known to be a number above 0 with one of the units.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MemorySize {
    /// The amount in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        parse_bytes(&self.0).expect("checked when it was read")
    }
}

impl FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match parse_bytes(text) {
            Ok(bytes) if bytes > 0 => Ok(Self(text.to_owned())),
            _ => Err("expected an amount of memory such as `2GiB`".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TextOrNumber::deserialize(deserializer)?.parse()
    }
}

/// A sample data set that stoker draws by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SampleData {
    /// drawn page images of eight document types
    DocumentPages,
}

/// How weights are drawn when training starts from none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Initialization {
    /// as timm does it: small weights, residual branches almost closed
    #[default]
    Reference,
    /// variance one over the fan-in, residual branches open
    FanIn,
}

/// What happens when an image cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCorrupt {
    /// leave it out, count it and list it at the end
    #[default]
    Skip,
    /// stop the run at the first one
    Fail,
}

/// How an image of any shape becomes the square that the model sees, in validation and prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// stretch both sides
    #[default]
    Squash,
    /// keep the shape and pad
    Letterbox,
    /// keep the shape and cut the borders off
    CenterCrop,
}

/// How the chosen micro-batch is rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// to a multiple of 4
    #[default]
    #[serde(rename = "multiple_of_4")]
    MultipleOf4,
    /// to a power of two
    PowerOfTwo,
}

/// Whether a few steps are timed before training, to take the smallest micro-batch that is as fast as the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreferThroughput {
    /// on a card; on the CPU the plan is to be the same in every run
    #[default]
    Auto,
    /// on every device
    Always,
    /// the largest micro-batch that fits is taken
    Never,
}

/// Whether cheap operations of the forward pass are computed again in the backward pass, instead of keeping their results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checkpointing {
    /// only when nothing fits without
    #[default]
    Auto,
    /// never
    None,
    /// operations that are bound by memory, not by arithmetic
    Balanced,
}

/// Test-time augmentation: the views of each image whose probabilities are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Tta {
    /// the image as it is
    #[default]
    None,
    /// 3 views: rotations
    Legacy,
    /// 5 views
    Essential,
    /// 15 views
    Comprehensive,
}

/// YAML writes `4` as a number and `auto` as text; settings that take both read through this.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Number(u64),
    Text(String),
}

impl TextOrNumber {
    fn parse<T: FromStr<Err = String>, E: de::Error>(self) -> Result<T, E> {
        match self {
            Self::Number(number) => number.to_string().parse().map_err(E::custom),
            Self::Text(text) => text.parse().map_err(E::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_auto_or_a_whole_number_in_range() {
        assert_eq!("auto".parse(), Ok(AutoCount::Auto));
        assert_eq!("8".parse(), Ok(AutoCount::Exactly(8)));
        for wrong in ["0", "-1", "Auto", "1.5", "65537", ""] {
            assert!(wrong.parse::<AutoCount>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_sizes_need_a_number_above_zero_and_a_known_unit() {
        for right in ["2GiB", "512MiB", "1.5 GB", "1073741824", "100 b"] {
            assert!(right.parse::<MemorySize>().is_ok(), "{right}");
        }
        for wrong in ["0", "GiB", "2 apples", "-2GiB", "1.2.3GB", ""] {
            assert!(wrong.parse::<MemorySize>().is_err(), "{wrong}");
        }
    }
}
