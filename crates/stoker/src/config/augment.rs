//! The section `augment`: how training images are varied, and how images are brought to size.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::preprocessing::{AutoOr, Interpolation};
use super::values::{EraseFill, MixMode, Resize};

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
    /// How pixels are weighed where an image or a crop of it is resized, in training, validation and prediction; always antialiased. `auto` as for
    /// `model.mean`, but `bilinear` without `model.weights`.
    pub interpolation: Interpolation,
    /// Share of the shorter side that `center_crop` keeps in validation and prediction (timm's `crop_pct`). `auto` as for `model.mean`, but 0.875
    /// without `model.weights`.
    pub crop_share: AutoOr<f64>,
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
            interpolation: Interpolation::default(),
            crop_share: AutoOr::default(),
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
