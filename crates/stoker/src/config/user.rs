//! What the user writes: one struct a section, one field a key. The doc comment of a field is its
//! text in the reference, and its `range` is what is checked; neither is written twice.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{
    AutoCount, Checkpointing, DeviceRequest, Initialization, MemorySize, OnCorrupt, PreferThroughput, Resize, Rounding,
    SampleData, Tta,
};

/// A configuration as the user wrote it, with defaults for the keys that were left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// Name of the run and of its folder; the name of the configuration file when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Seed of everything random: initial weights, order, augmentation, split. Same seed and same
    /// machine, same metrics.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Where to compute. `auto` takes the first CUDA card when the driver loads, and the CPU
    /// otherwise.
    #[serde(default)]
    #[schemars(with = "String", extend("format" = "device"))]
    pub device: DeviceRequest,
    /// Folder that run folders go into, as `<output>/<date>/<name>`.
    #[serde(default = "default_output")]
    #[schemars(extend("format" = "path"))]
    pub output: PathBuf,
    /// Sample data set to draw when the folders in `data` do not exist yet.
    #[serde(default)]
    pub sample_data: Option<SampleData>,
    /// The images. Paths are relative to the working directory.
    pub data: DataSection,
    /// The network.
    #[serde(default)]
    pub model: ModelSection,
    /// How training images are varied, anew in each epoch, and how images are brought to size.
    #[serde(default)]
    pub augment: AugmentSection,
    /// The training loop: AdamW, linear warm-up, then a cosine to the minimum.
    #[serde(default)]
    pub train: TrainSection,
    /// The budget that the batch size is planned for.
    #[serde(default)]
    pub memory: MemorySection,
    /// What `predict` does when its flags say nothing else.
    #[serde(default)]
    pub predict: PredictSection,
}

fn default_seed() -> u64 {
    42
}

fn default_output() -> PathBuf {
    PathBuf::from("experiments/train")
}

/// The images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// Training images: a folder with one folder per class, or a CSV file with the columns `file`
    /// and `label`.
    #[schemars(extend("format" = "path"))]
    pub train: PathBuf,
    /// Validation images, in the same form; when left out, `validation_share` of `train` is held
    /// out.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub validation: Option<PathBuf>,
    /// Share of each class in `train` that is held out for validation; 0.15 when neither this nor
    /// `validation` is given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub validation_share: Option<f64>,
    /// Test images, in the same form: scored once, at the end, with the best weights.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub test: Option<PathBuf>,
    /// What happens when an image cannot be decoded.
    #[serde(default)]
    pub on_corrupt: OnCorrupt,
    /// Threads that decode and augment images. `auto` follows the number of CPU cores.
    #[serde(default)]
    pub workers: AutoCount,
    /// Batches that are made ready ahead of training.
    #[serde(default = "default_prefetch_batches")]
    #[schemars(range(min = 1, max = 64))]
    pub prefetch_batches: usize,
}

/// Held out of the training images when neither `validation` nor `validation_share` is given. The
/// doc comment of `validation_share` names it.
pub const DEFAULT_VALIDATION_SHARE: f64 = 0.15;

fn default_prefetch_batches() -> usize {
    2
}

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Architecture, by its timm name; `stoker models` lists them.
    pub name: String,
    /// Side of the square that the model sees, in pixels.
    #[schemars(range(min = 32, max = 4096))]
    pub image_size: usize,
    /// Colour channels: 3 for RGB, 1 for grey.
    #[schemars(extend("enum" = [1, 3]))]
    pub in_channels: usize,
    /// Stochastic depth: probability that the last block is skipped in a training step; earlier
    /// blocks scale down to 0.
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub drop_path: f64,
    /// How weights are drawn when training starts from none: `reference` as timm does it, for long training on much data, or `fan_in`, which
    /// learns sooner in a short one.
    pub initialization: Initialization,
    /// Weights to start from: a `.safetensors` file with timm's parameter names. Random weights
    /// when left out.
    #[schemars(extend("format" = "path"))]
    pub weights: Option<PathBuf>,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            name: "convnext_atto".to_owned(),
            image_size: 224,
            in_channels: 3,
            drop_path: 0.0,
            initialization: Initialization::default(),
            weights: None,
        }
    }
}

/// Augmentation and resizing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentSection {
    /// Random crop: share of the image's area that is kept.
    #[schemars(extend("items" = { "type": "number", "exclusiveMinimum": 0.0, "maximum": 1.0 }))]
    pub scale: [f64; 2],
    /// Random crop: width divided by height.
    #[schemars(extend("items" = { "type": "number", "exclusiveMinimum": 0.0 }))]
    pub ratio: [f64; 2],
    /// Probability of a left-right flip.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub horizontal_flip: f64,
    /// Probability of an upside-down flip.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub vertical_flip: f64,
    /// Whether images are turned by 0, 90, 180 or 270 degrees, each as often.
    pub quarter_turns: bool,
    /// Largest random rotation to either side, in degrees.
    #[schemars(range(min = 0.0, max = 180.0))]
    pub rotation_degrees: f64,
    /// Largest random change of brightness, as a share: 0.4 draws a factor from 0.6 to 1.4.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub brightness: f64,
    /// Largest random change of contrast, as a share.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub contrast: f64,
    /// Largest random change of saturation, as a share.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub saturation: f64,
    /// Probability that a random rectangle is erased.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub erase: f64,
    /// How an image becomes a square in validation and prediction.
    pub resize: Resize,
}

impl Default for AugmentSection {
    fn default() -> Self {
        Self {
            scale: [0.7, 1.0],
            ratio: [0.8, 1.25],
            horizontal_flip: 0.5,
            vertical_flip: 0.0,
            quarter_turns: false,
            rotation_degrees: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            erase: 0.0,
            resize: Resize::default(),
        }
    }
}

/// The training loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// Passes over the training images.
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: usize,
    /// Images per optimizer step. It is kept exactly, whatever the device can take at once.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub effective_batch_size: usize,
    /// Images computed at once; their gradients are added up to the effective batch. `auto` takes
    /// what the memory plan finds.
    pub micro_batch_size: AutoCount,
    /// When memory runs out, fewer images are computed at once for the rest of the run. This lets their number grow again, by
    /// doubling, after 100 steps without trouble and when the memory used leaves room; a size that fails again is not tried again.
    pub adaptive_batch: bool,
    /// Highest learning rate, reached at the end of warm-up.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub learning_rate: f64,
    /// AdamW's decoupled weight decay.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// AdamW's decay rates of the first and the second moment.
    #[schemars(extend(
        "items" = { "type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0 },
        "x-parts" = "first, second"
    ))]
    pub betas: [f64; 2],
    /// AdamW's term against division by zero.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub epsilon: f64,
    /// Length of the linear warm-up, in epochs; fractions are allowed.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// Learning rate at the end of the cosine.
    #[schemars(range(min = 0.0))]
    pub min_learning_rate: f64,
    /// Share of the target that is spread over all classes.
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub label_smoothing: f64,
    /// Largest norm of all gradients together; larger ones are scaled down to it. No clipping when
    /// `null`.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub clip_norm: Option<f64>,
    /// Decay per step of an exponential moving average of the weights, which is then what is
    /// validated and saved as best. None when `null`.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub ema_decay: Option<f64>,
    /// Also report how often the right class is among this many highest scores.
    #[schemars(range(min = 1))]
    pub top_k: usize,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            epochs: 10,
            effective_batch_size: 32,
            micro_batch_size: AutoCount::Auto,
            adaptive_batch: false,
            learning_rate: 1.0e-3,
            weight_decay: 0.01, // PyTorch's AdamW
            betas: [0.9, 0.999],
            epsilon: 1.0e-8,
            warmup_epochs: 1.0,
            min_learning_rate: 1.0e-6,
            label_smoothing: 0.0,
            clip_norm: None,
            ema_decay: None,
            top_k: 3,
        }
    }
}

/// The budget that the batch size is planned for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemorySection {
    /// Most memory that the run may take, such as `2GiB`; a bare number counts bytes. Everything
    /// that is free, less the margin, when `null`. On the CPU the run is also held to it: a step that goes above it is done again
    /// with fewer images at once.
    #[schemars(with = "Option<String>", extend("format" = "bytes"))]
    pub limit: Option<MemorySize>,
    /// Share of the memory that is left unused. By device when `null`.
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub safety_margin: Option<f64>,
    /// How the micro-batch that fits is rounded down.
    pub rounding: Rounding,
    /// Gradient checkpointing: what is computed twice to keep less. The gradients stay the same.
    pub checkpointing: Checkpointing,
    /// Time a few steps (10 seconds at most) where the effective batch has to be cut, and take a smaller micro-batch when larger ones are no faster.
    pub prefer_throughput: PreferThroughput,
}

/// What `predict` does when its flags say nothing else.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PredictSection {
    /// Test-time augmentation: the views of each image whose probabilities are averaged.
    pub tta: Tta,
    /// Images computed at once. `auto` takes what the memory allows.
    pub batch_size: AutoCount,
}
