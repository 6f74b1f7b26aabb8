//! What the user writes: one struct a section, one field a key. The doc comment of a field is its
//! text in the reference, and its `range` is what is checked; neither is written twice.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::augment::AugmentSection;
use super::predict::PredictSection;
use super::preprocessing::AutoOr;
use super::train::TrainSection;
use super::values::{
    AutoCount, AutoSide, Checkpointing, Decode, DeviceRequest, Initialization, Kernels, MemorySize, OnCorrupt,
    PreferThroughput, Rounding, SampleData, Sampling, WeightsMismatch,
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
    /// Which way a card runs depthwise convolutions, norms and window attention, which both stoker and
    /// Burn have operations for. The CPU runs stoker's.
    #[serde(default)]
    pub kernels: Kernels,
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
    /// The training loop: optimizer, learning rate, loss.
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
    /// `validation` is given. Images with the same `group`, a column of the CSV file, stay on one side.
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
    /// Which images an epoch shows; it always has as many views as there are images.
    #[serde(default)]
    pub sampling: Sampling,
    /// Repeated augmentation: differently varied views of an image, one after the other. They share a batch where this
    /// divides `train.effective_batch_size`. An epoch then shows that much fewer images.
    #[serde(default = "default_repeats")]
    #[schemars(range(min = 1, max = 16))]
    pub repeats: usize,
    /// Cross-validation: the training images are cut into so many folds with the same share of every class, and each is validated by a model that
    /// was trained on the others. Images with the same `group`, a column of the CSV file, stay in one fold.
    #[serde(default)]
    #[schemars(range(min = 2, max = 100))]
    pub folds: Option<usize>,
    /// The one fold that is trained, from 0; all of them, in turn, when `null`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 99))]
    pub fold: Option<usize>,
    /// How jpegs much larger than `model.image_size` are read, in training, validation and prediction.
    #[serde(default)]
    pub decode: Decode,
}

/// Held out of the training images when neither `validation` nor `validation_share` is given. The
/// doc comment of `validation_share` names it.
pub const DEFAULT_VALIDATION_SHARE: f64 = 0.15;

fn default_prefetch_batches() -> usize {
    2
}

fn default_repeats() -> usize {
    1
}

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Architecture, by its timm name; `stoker models` lists them.
    pub name: String,
    /// Side of the square that the model sees, in pixels. `auto` takes the size that its weights were published for.
    pub image_size: AutoSide,
    /// Colour channels: 3 for RGB, 1 for grey.
    #[schemars(extend("enum" = [1, 3]))]
    pub in_channels: usize,
    /// Mean of each channel, subtracted from values in 0 to 1. `auto` takes what belongs to `model.weights`: of a run's weights what that run had, of
    /// others what a `config.json` of timm beside the file says, or else what the model was published with (`stoker models --json`). Without
    /// `model.weights` it is ImageNet's, whatever the model.
    pub mean: AutoOr<Vec<f64>>,
    /// Standard deviation of each channel, by which values are divided once the mean is taken off. `auto` as for `model.mean`.
    #[schemars(extend("anyOf" = [
        { "const": "auto" },
        { "type": "array", "items": { "type": "number", "minimum": 0.001, "maximum": 1.0 } },
    ]))]
    pub std: AutoOr<Vec<f64>>,
    /// Stochastic depth: probability that the last block is skipped in a training step; earlier
    /// blocks scale down to 0.
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub drop_path: f64,
    /// Dropout: probability that a pooled feature is dropped before the classifier in a training step.
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// How weights are drawn when training starts from none: `reference` as timm does it, for long training on much data, or `fan_in`, which
    /// learns sooner in a short one.
    pub initialization: Initialization,
    /// Weights to start from, under timm's parameter names: a `.safetensors` file, a state dict of
    /// PyTorch (`.pth`, `.pt`, `.bin`), or a run folder. The format that PyTorch had before 1.6 is
    /// refused. Random weights when left out. A classifier for another number of classes starts fresh, and so does that of a run with
    /// as many others; of a file that names no classes it is kept, in the order of the classes here.
    #[schemars(extend("format" = "path"))]
    pub weights: Option<PathBuf>,
    /// What happens when weights of the file are missing, left over, or of another shape.
    pub weights_mismatch: WeightsMismatch,
    /// Parameters that stay as they are: names of modules, such as `stages.0`, or patterns of names, such as `stem.*`. They get no
    /// gradient and no optimizer state. A norm that is frozen keeps its running statistics. `stoker config-groups` shows what comes of it.
    pub freeze: Vec<String>,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            name: "convnext_atto".to_owned(),
            image_size: AutoSide::Auto,
            in_channels: 3,
            mean: AutoOr::default(),
            std: AutoOr::default(),
            drop_path: 0.0,
            dropout: 0.0,
            initialization: Initialization::default(),
            weights: None,
            weights_mismatch: WeightsMismatch::default(),
            freeze: Vec::new(),
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
    /// Share of all the device's memory that the run may take at most. 0.9 on a card, all of it on the CPU when `null`.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]
    pub fraction: Option<f64>,
    /// What each card of a team runs, as `plan --all-gpus --write-team-settings` saves it: a run on one of these cards starts from its line. When `null`,
    /// `team_settings.yaml` beside the configuration, or else `configs/team_settings.yaml`, where there is one.
    #[schemars(extend("format" = "path"))]
    pub team_settings: Option<PathBuf>,
    /// How the micro-batch that fits is rounded down.
    pub rounding: Rounding,
    /// Gradient checkpointing: what is computed twice to keep less. The gradients stay the same.
    pub checkpointing: Checkpointing,
    /// Time a few steps (10 seconds at most) where the effective batch has to be cut, and take a smaller micro-batch when larger ones are no faster.
    pub prefer_throughput: PreferThroughput,
}
