//! What the user writes: one struct a section, one field a key. The doc comment of a field is its
//! text in the reference, and its `range` is what is checked; neither is written twice.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{
    AutoCount, Checkpointing, ClassWeights, Decode, DeviceRequest, EraseFill, Initialization, LossName, MemorySize,
    MixMode, MuonStepLength, OnCorrupt, OptimizerName, Precision, PreferThroughput, Resize, Rounding, SampleData,
    Sampling, ScheduleName, Tta, WeightsMismatch,
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
    /// Which images an epoch shows; it always has as many views as there are images.
    #[serde(default)]
    pub sampling: Sampling,
    /// Repeated augmentation: differently varied views of an image that stand in the same batch. An epoch then shows that
    /// much fewer images.
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
    /// Dropout: probability that a pooled feature is dropped before the classifier in a training step.
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// How weights are drawn when training starts from none: `reference` as timm does it, for long training on much data, or `fan_in`, which
    /// learns sooner in a short one.
    pub initialization: Initialization,
    /// Weights to start from, under timm's parameter names: a `.safetensors` file, a state dict of
    /// PyTorch (`.pth`, `.pt`, `.bin`), or a run folder. Random weights when left out. A classifier
    /// for another number of classes starts fresh.
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
            image_size: 224,
            in_channels: 3,
            drop_path: 0.0,
            dropout: 0.0,
            initialization: Initialization::default(),
            weights: None,
            weights_mismatch: WeightsMismatch::default(),
            freeze: Vec::new(),
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
    /// Largest random move around the colour circle to either side, as a share of the circle.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub hue: f64,
    /// Share of the area that is erased.
    #[schemars(extend("items" = { "type": "number", "exclusiveMinimum": 0.0, "maximum": 1.0 }))]
    pub erase_area: [f64; 2],
    /// Width divided by height of what is erased.
    #[schemars(extend("items" = { "type": "number", "exclusiveMinimum": 0.0, "maximum": 100.0 }))]
    pub erase_ratio: [f64; 2],
    /// What the erased rectangle shows.
    pub erase_fill: EraseFill,
    /// RandAugment, as timm's `rand-m9-n2-mstd0.5`: some operations of a fixed list, drawn for each image.
    pub rand_augment: RandAugmentSection,
    /// What happens to a page on its way through lamp, lens, sensor and file.
    pub noise: NoiseSection,
    /// Mixup and CutMix: images of an effective batch are mixed in pairs, and so are their labels. Training accuracy then
    /// counts the class with the larger share.
    pub mix: MixSection,
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
            hue: 0.0,
            // Those of "Random Erasing Data Augmentation" (Zhong et al., 2017) and timm.
            erase_area: [0.02, 1.0 / 3.0],
            erase_ratio: [0.3, 1.0 / 0.3],
            erase_fill: EraseFill::default(),
            rand_augment: RandAugmentSection::default(),
            noise: NoiseSection::default(),
            mix: MixSection::default(),
        }
    }
}

/// RandAugment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugmentSection {
    /// Operations drawn for each image, of which each takes place as often as not. 0 switches RandAugment off; 2 is usual.
    #[schemars(range(min = 0, max = 15))]
    pub num_ops: usize,
    /// Strength of the operations.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub magnitude: f64,
    /// Standard deviation of each operation's own strength.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub magnitude_std: f64,
    /// Whether all operations change more at higher strength (timm's `inc1`).
    pub increasing: bool,
}

impl Default for RandAugmentSection {
    fn default() -> Self {
        Self { num_ops: 0, magnitude: 9.0, magnitude_std: 0.5, increasing: false }
    }
}

/// Document-like noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NoiseSection {
    /// Largest share by which light falls off towards one side of the image and rises towards the other.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub uneven_light: f64,
    /// Probability of a Gaussian blur.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub blur: f64,
    /// Standard deviation of the blur, in pixels of the model's image.
    #[schemars(extend("items" = { "type": "number", "exclusiveMinimum": 0.0, "maximum": 20.0 }))]
    pub blur_sigma: [f64; 2],
    /// Largest share of pixels that turn black or white.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub speckle: f64,
    /// Probability of the artefacts of jpeg compression.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jpeg: f64,
    /// Quality of that compression.
    #[schemars(extend("items" = { "type": "number", "minimum": 1.0, "maximum": 100.0 }))]
    pub jpeg_quality: [f64; 2],
}

impl Default for NoiseSection {
    fn default() -> Self {
        Self {
            uneven_light: 0.0,
            blur: 0.0,
            blur_sigma: [0.1, 2.0],
            speckle: 0.0,
            jpeg: 0.0,
            jpeg_quality: [30.0, 90.0],
        }
    }
}

/// Mixup and CutMix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MixSection {
    /// Mixup: both parameters of the beta distribution that shares are drawn from. 0 switches it off; 0.2 and 0.8 are usual.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub mixup: f64,
    /// CutMix: the same for the area that is pasted. 0 switches it off; 1 is usual.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub cutmix: f64,
    /// Probability that anything is mixed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
    /// Probability of CutMix where both are on.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub switch_probability: f64,
    /// What shares one draw.
    pub mode: MixMode,
}

impl Default for MixSection {
    fn default() -> Self {
        Self { mixup: 0.0, cutmix: 0.0, probability: 1.0, switch_probability: 0.5, mode: MixMode::default() }
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
    /// Format of feature maps, matrix products and dense convolutions; half precision halves the memory of the maps. Weights, gradients, optimizer,
    /// norms, softmax and loss stay in fp32. `auto` goes by the card, and takes 16 bits also where nothing fits in 32.
    pub precision: Precision,
    /// Highest learning rate, reached at the end of warm-up.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub learning_rate: f64,
    /// Weight decay of matrices and kernels; vectors (norms, biases, layer scale) and Swin's tables of position biases are never
    /// decayed. The optimizer's default when `null`: 0.01 of `adamw` and `lamb`, 0.1 of `muon`, 0 of the others.
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// Decay rates of the first and the second moment, of `adamw`, `lamb`, `lion` and what `muon` leaves to `adamw`. The optimizer's
    /// default when `null`: `[0.9, 0.999]`, of `lion` `[0.9, 0.99]`.
    #[schemars(extend(
        "items" = { "type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0 },
        "x-parts" = "first, second"
    ))]
    pub betas: Option<[f64; 2]>,
    /// Term against division by zero, of `adamw`, `lamb` and what `muon` leaves to `adamw`. The optimizer's default when `null`:
    /// 1e-8, of `lamb` 1e-6.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub epsilon: Option<f64>,
    /// Length of the linear warm-up, in epochs; fractions are allowed.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// Lowest learning rate: at the end of `cosine`, and below which `step` and `plateau` do not go.
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
    /// Minutes after which the run is saved also in mid-epoch, so that a kill costs no more than that. Only at the end of epochs
    /// when `null`.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub checkpoint_minutes: Option<f64>,
    /// The rule that moves the weights. Its constants are `weight_decay`, `betas`, `epsilon` and `momentum`, as far as it has them. PyTorch's and
    /// timm's defaults for the learning rate are 1e-3, but 1e-4 of `lion` and 1e-2 of `adafactor`.
    pub optimizer: OptimizerName,
    /// Momentum of `sgd` (with Nesterov's look ahead) and `muon`. The optimizer's default when `null`: 0.9 and 0.95.
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub momentum: Option<f64>,
    /// How `muon` makes a step of a matrix out of the learning rate.
    pub muon_step_length: MuonStepLength,
    /// Learning rate of a layer over that of the layer behind it, so that early layers of pretrained weights move less (timm's `layer_decay`).
    /// All layers have the same rate when `null`.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]
    pub layer_decay: Option<f64>,
    /// Times the learning rate of the head, which starts anew when the classes are others than those of the weights.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub head_learning_rate_scale: f64,
    /// How the learning rate changes after warm-up, step by step.
    pub schedule: ScheduleName,
    /// Epochs of each stair of the `step` schedule; fractions are allowed.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub decay_epochs: f64,
    /// Times the learning rate from one stair of `step` to the next, and at each reduction of `plateau`.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub decay_rate: f64,
    /// Epochs without a lower validation loss that `plateau` waits before it reduces the learning rate.
    #[schemars(range(min = 0, max = 100_000))]
    pub patience_epochs: usize,
    /// Share of the run in which the learning rate of `one_cycle` rises, from a 25th of the highest; it has no other warm-up.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub one_cycle_rise: f64,
    /// What is minimised. Validation always scores plain cross-entropy.
    pub loss: LossName,
    /// What each class counts for in the loss: `balanced`, so that each counts the same whatever its number of images, or a number for each
    /// class in the order of the classes. All images count the same when `null`.
    pub class_weights: Option<ClassWeights>,
    /// The power of `focal`: how much less an image counts that is right already.
    #[schemars(range(min = 1.0))]
    pub focal_gamma: f64,
    /// Steps in a row whose loss or gradients are not finite at which the run stops, with the weights and the images of the last of them in the run
    /// folder. Below that, such a step is left out and counted.
    #[schemars(range(min = 1))]
    pub max_nonfinite_steps: u64,
    /// When training stops before its last epoch.
    pub early_stopping: EarlyStoppingSection,
    /// Epochs whose weights are kept, the best ones by macro-F1, then by validation loss: above 1, each has a file `best_epoch_N` beside `best`.
    #[schemars(range(min = 1, max = 100))]
    pub keep_best: usize,
    /// Whether a finished run also writes `averaged`: the mean of the weights of the epochs that `keep_best` keeps, scored in validation beside `best`.
    /// Batch norms then measure their statistics anew, in a pass over the training images. `predict --checkpoint averaged` takes it.
    pub average_best: bool,
}

/// When training stops before its last epoch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EarlyStoppingSection {
    /// Epochs without a better macro-F1 in validation after which training stops. It never does when `null`.
    #[schemars(range(min = 1, max = 100_000))]
    pub patience: Option<usize>,
    /// By how much macro-F1 must be above the best one to be better.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_delta: f64,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            epochs: 10,
            effective_batch_size: 32,
            micro_batch_size: AutoCount::Auto,
            adaptive_batch: false,
            precision: Precision::Auto,
            learning_rate: 1.0e-3,
            weight_decay: None,
            betas: None,
            epsilon: None,
            warmup_epochs: 1.0,
            min_learning_rate: 1.0e-6,
            label_smoothing: 0.0,
            clip_norm: None,
            ema_decay: None,
            top_k: 3,
            checkpoint_minutes: Some(10.0),
            optimizer: OptimizerName::default(),
            momentum: None,
            muon_step_length: MuonStepLength::default(),
            layer_decay: None,
            head_learning_rate_scale: 1.0,
            schedule: ScheduleName::default(),
            decay_epochs: 30.0,
            decay_rate: 0.1,
            patience_epochs: 10,
            one_cycle_rise: 0.3,
            loss: LossName::default(),
            class_weights: None,
            focal_gamma: 2.0,
            max_nonfinite_steps: 10,
            early_stopping: EarlyStoppingSection::default(),
            keep_best: 1,
            average_best: false,
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
    /// Format of feature maps, matrix products and dense convolutions. `auto` goes by the device.
    pub precision: Precision,
}
