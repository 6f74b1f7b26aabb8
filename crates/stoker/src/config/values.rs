//! The types of single settings: what may stand to the right of a key.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
pub use device::DeviceRequest;
use memory_planner::parse_bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A whole number that stoker can choose by itself: `auto`, or one from `LEAST` to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoWhole<const LEAST: usize, const MOST: usize> {
    /// Chosen before the run begins, with a reason that is told.
    #[default]
    Auto,
    /// Exactly this, from `LEAST` to `MOST`.
    Exactly(usize),
}

/// A count. The most is far above what is useful, and far below what overflows.
pub type AutoCount = AutoWhole<1, 65_536>;

/// The side of a square image, pixels.
pub type AutoSide = AutoWhole<32, 4096>;

impl<const LEAST: usize, const MOST: usize> AutoWhole<LEAST, MOST> {
    /// The number that was fixed, `None` when it is `auto`.
    #[must_use]
    pub fn exactly(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Exactly(number) => Some(number),
        }
    }
}

impl<const LEAST: usize, const MOST: usize> fmt::Display for AutoWhole<LEAST, MOST> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Exactly(number) => number.fmt(formatter),
        }
    }
}

impl<const LEAST: usize, const MOST: usize> FromStr for AutoWhole<LEAST, MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(number)) if (LEAST..=MOST).contains(&number) => Ok(Self::Exactly(number)),
            _ => Err(format!("expected `auto` or a whole number from {LEAST} to {MOST}")),
        }
    }
}

impl<const LEAST: usize, const MOST: usize> Serialize for AutoWhole<LEAST, MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Exactly(number) => number.serialize(serializer),
        }
    }
}

impl<'de, const LEAST: usize, const MOST: usize> Deserialize<'de> for AutoWhole<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TextOrNumber::deserialize(deserializer)?.parse()
    }
}

impl<const LEAST: usize, const MOST: usize> JsonSchema for AutoWhole<LEAST, MOST> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("AutoWholeFrom{LEAST}To{MOST}").into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "auto" },
                { "type": "integer", "minimum": LEAST, "maximum": MOST },
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

/// What happens when starting weights do not fit the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightsMismatch {
    /// the run does not start, and all are listed
    #[default]
    Refuse,
    /// what fits is taken, the rest starts fresh, and all are listed
    Skip,
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

/// Which images an epoch shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// each image once, in random order
    #[default]
    Shuffle,
    /// every class equally often: images of rare classes several times, of frequent ones only some
    Balanced,
}

/// How jpegs much larger than needed are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decode {
    /// whole
    #[default]
    Exact,
    /// at 1/2, 1/4 or 1/8 of their size, with two pixels left for each that the model sees: faster, almost the same image
    Scaled,
}

/// What an erased rectangle shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EraseFill {
    /// the image's mean colour
    #[default]
    Mean,
    /// ImageNet's mean colour, timm's `const`
    Constant,
    /// a random colour, timm's `rand`
    Color,
    /// a random colour for each pixel, timm's `pixel`
    Pixel,
}

/// What shares one draw of mixup and CutMix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MixMode {
    /// all of an effective batch
    #[default]
    Batch,
    /// two images that are mixed with each other
    Pair,
    /// nothing, each image draws for itself
    Element,
}

/// Which way a card runs what both stoker and Burn have operations for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kernels {
    /// in training the faster of the two at each shape, as it was measured on the card once, and stoker's in predictions
    #[default]
    Auto,
    /// stoker's kernels, and nothing is measured
    Ours,
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

/// The rule that moves the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay, as in PyTorch; keeps two numbers a weight
    #[default]
    #[serde(rename = "adamw")]
    AdamW,
    /// gradient descent with Nesterov's momentum, as in PyTorch; one number a weight
    Sgd,
    /// for large batches, as in timm; two numbers a weight
    Lamb,
    /// sign of the momentum, as in timm; one number a weight
    Lion,
    /// second moments of rows and columns, as in PyTorch; hardly any memory
    Adafactor,
    /// orthogonal steps of matrices and dense kernels, as in PyTorch and timm, and `adamw` for all else; one number a weight of the former
    Muon,
}

/// How Muon makes a step of a matrix out of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MuonStepLength {
    /// PyTorch's default, which wants a learning rate of about 0.02, the default here, where PyTorch's is 1e-3
    #[default]
    Original,
    /// so that a learning rate that suits `adamw` does (PyTorch's `match_rms_adamw`)
    MatchAdamw,
}

/// How the learning rate changes after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleName {
    /// half a cosine down to `min_learning_rate`
    #[default]
    Cosine,
    /// stairs: times `decay_rate` every `decay_epochs`
    Step,
    /// times `decay_rate` when the validation loss has not improved for `patience_epochs`
    Plateau,
    /// up and down by half cosines, as in PyTorch
    OneCycle,
    /// no change
    Constant,
}

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossName {
    /// cross-entropy of all classes together
    #[default]
    CrossEntropy,
    /// binary cross-entropy of each class by itself
    Bce,
    /// cross-entropy that images which are right already hardly count in
    Focal,
}

/// What each class counts for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// By the word `balanced`.
    Balanced(Balanced),
    /// A number for each class.
    Each(Vec<f64>),
}

/// The word for classes that count the same, whatever their number of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balanced {
    /// The word itself.
    Balanced,
}

impl JsonSchema for ClassWeights {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClassWeights".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "balanced" },
                { "type": "array", "items": { "type": "number", "exclusiveMinimum": 0.0 } },
            ]
        })
    }
}

/// What of the forward pass is computed again in the backward pass, instead of keeping its results.
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
    /// the first two thirds of the model's blocks, for a third of the activations and up to a quarter more time
    Segments,
}

/// What maps are stored in, and what matrix products and dense convolutions compute in. Weights, gradients, optimizer, norms, softmax and loss stay
/// in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bf16 on cards of compute capability 8.0 and above, fp16 on those of 7.x, fp32 elsewhere
    #[default]
    Auto,
    /// 32 bits; on cards of compute capability 8.0 and above, products take 19 of them (TF32)
    Fp32,
    /// 16 bits with the range of 32
    Bf16,
    /// 16 bits with a short range: in training the loss is scaled, and a step that overflows is skipped
    Fp16,
}

impl Precision {
    /// The planner's name for it; `None` for `auto`.
    #[must_use]
    pub fn fixed(self) -> Option<memory_planner::Precision> {
        match self {
            Self::Auto => None,
            Self::Fp32 => Some(memory_planner::Precision::Fp32),
            Self::Bf16 => Some(memory_planner::Precision::Bf16),
            Self::Fp16 => Some(memory_planner::Precision::Fp16),
        }
    }
}

impl From<memory_planner::Precision> for Precision {
    fn from(precision: memory_planner::Precision) -> Self {
        match precision {
            memory_planner::Precision::Fp32 => Self::Fp32,
            memory_planner::Precision::Bf16 => Self::Bf16,
            memory_planner::Precision::Fp16 => Self::Fp16,
        }
    }
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
    fn sides_of_images_have_a_range_of_their_own() {
        assert_eq!("auto".parse(), Ok(AutoSide::Auto));
        for (text, side) in [("32", 32), ("4096", 4096)] {
            assert_eq!(text.parse(), Ok(AutoSide::Exactly(side)));
        }
        for wrong in ["31", "4097"] {
            let error = wrong.parse::<AutoSide>().unwrap_err();
            assert_eq!(error, "expected `auto` or a whole number from 32 to 4096", "{wrong}");
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
