use serde::{Deserialize, Deserializer, Serialize};

/// Version of the card's fields. Raised when an older reader would misread a newer file.
pub const CARD_VERSION: u32 = 1;

/// What a checkpoint says of itself, as JSON in the file's header: enough to rebuild the model and its preprocessing, and to go on training.
///
/// It holds nothing of the clock or the machine, so that equal training gives equal bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// [`CARD_VERSION`] of the writer.
    pub version: u32,
    /// Registry name of the architecture, for example `convnext_atto`.
    pub model: String,
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// Side of the square that images are resized to, pixels.
    pub image_size: usize,
    /// 1 (grey) or 3 (RGB).
    pub in_channels: usize,
    /// How images are brought to a square: `squash`, `letterbox` or `center_crop`.
    pub resize: String,
    /// How pixels are weighed on the way: `bilinear`, as all were of before there was another way, or `bicubic`.
    #[serde(default = "bilinear", skip_serializing_if = "is_bilinear")]
    pub interpolation: String,
    /// Share of the shorter side that `center_crop` keeps; 0.875, as of before there was another.
    #[serde(default = "usual_crop_share", skip_serializing_if = "is_usual_crop_share")]
    pub crop_share: f32,
    /// Per channel, subtracted from pixel values in 0 to 1.
    pub mean: Vec<f32>,
    /// Per channel, divides after the mean is taken off.
    pub std: Vec<f32>,
    /// Fingerprint of the images that the run trains and validates on, in their order; none in files of before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// Where training stood.
    pub progress: Progress,
}

/// Where training stood when the file was written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Epochs that are finished, validated and recorded.
    pub epochs_done: u32,
    /// Effective batches of the unfinished epoch that are already in the weights.
    pub batches_done: usize,
    /// Optimizer steps since the start.
    pub step: u64,
    /// Sums over the unfinished epoch.
    pub sums: RunningSums,
    /// Validation macro-F1 and loss of the best epoch so far, and which it was.
    pub best: Option<BestEpoch>,
    /// The epochs whose weights are kept beside `best`, the best first; in an average, those that are in it. None where `best` alone is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<BestEpoch>,
    /// Of the steps, those that moved nothing: their numbers were not finite, or no sample could be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub idle_steps: u64,
    /// Steps in a row, up to now, whose loss or gradients were not finite.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nonfinite_in_a_row: u64,
    /// What a schedule that waits for a plateau has seen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub plateau: PlateauState,
    /// What early stopping has seen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub early_stopping: PatienceState,
    /// Where the scaling of the loss stands; none where the loss is not scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
}

impl Progress {
    /// Steps that moved the weights.
    pub fn optimizer_steps(&self) -> u64 {
        self.step.saturating_sub(self.idle_steps)
    }
}

/// How a learning rate that falls on plateaus came to where it is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauState {
    /// Lowest validation loss that was an improvement.
    pub best: Option<f64>,
    /// Epochs since then, or since the last reduction.
    pub epochs_without: u32,
    /// Reductions so far.
    pub reductions: u32,
}

/// How long nothing has become better.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatienceState {
    /// Highest macro-F1 that was an improvement.
    pub best: Option<f64>,
    /// Epochs since then.
    pub epochs_without: u32,
}

/// What a loss is multiplied by before its backward pass in fp16, so that small gradients do not vanish.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// The factor: a power of two, so that nothing is rounded by it.
    pub factor: f64,
    /// Steps without overflow since the factor last changed.
    pub quiet_steps: u32,
}

/// The only way there was when cards did not tell.
fn bilinear() -> String {
    "bilinear".to_owned()
}

fn is_bilinear(interpolation: &str) -> bool {
    interpolation == "bilinear"
}

/// The only share there was when cards did not tell.
fn usual_crop_share() -> f32 {
    0.875
}

fn is_usual_crop_share(crop_share: &f32) -> bool {
    *crop_share == usual_crop_share()
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An epoch and how it did in validation: by macro-F1, then by loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestEpoch {
    /// Counted from 1.
    pub epoch: u32,
    /// 0 to 1.
    #[serde(deserialize_with = "nan_from_null")]
    pub macro_f1: f64,
    /// Mean cross-entropy, nats. Not finite where the weights give no numbers; it is written as `null` then, and read back as NaN.
    #[serde(deserialize_with = "nan_from_null")]
    pub loss: f64,
}

/// JSON has no NaN and no infinity: serde_json writes `null` for them.
fn nan_from_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Sums over the samples of an epoch so far; means are taken when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RunningSums {
    /// Cross-entropy summed over samples, nats.
    #[serde(deserialize_with = "nan_from_null")]
    pub loss: f64,
    /// Samples predicted right.
    pub correct: u64,
    /// Samples trained on.
    pub samples: u64,
    /// Corrupt samples left out.
    pub skipped: u64,
    /// Steps that were left out because their loss or gradients were not finite.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nonfinite_steps: u64,
    /// Global gradient norms before clipping, summed over the steps that moved the weights.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gradient_norms: f64,
    /// Those steps.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moved_steps: u64,
}
