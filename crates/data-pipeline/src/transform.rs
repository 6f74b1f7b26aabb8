//! From an image of any size to a square of fixed size.

mod affine;
mod augment;
mod check;
mod color;
mod erase;
mod evaluate;
mod geometry;
mod last_steps;
mod noise;
mod rand_augment;
#[cfg(test)]
mod reference;
mod resample;
mod tone;

use std::borrow::Cow;

pub use augment::TrainTransform;
pub use check::TransformError;
pub use erase::EraseFill;
pub use evaluate::EvalTransform;
pub use last_steps::{Erased, LastSteps, Mixed, Rectangle, Symmetry};
pub use noise::DocumentNoise;
pub use rand_augment::RandAugment;
pub use resample::ResizeFilter;

use crate::{Channels, RasterImage, SampleKey};
use resample::Crop;

/// Turns decoded images into the pixels that a model sees. The result may depend on the image and the key alone.
pub trait Transform: Send + Sync {
    /// What images are decoded to.
    fn channels(&self) -> Channels;

    /// Height and width of the result, in pixels.
    fn image_size(&self) -> usize;

    /// Fills `output`.
    ///
    /// # Shapes
    /// `output`: `[H, W, C]` with H = W = [`Transform::image_size`] and C = [`Transform::channels`].
    fn apply(&self, image: &RasterImage, key: SampleKey, output: &mut [u8]);

    /// The same, but the last steps may be left to do, which are told then.
    ///
    /// # Shapes
    /// As for [`Transform::apply`].
    fn apply_but_last(&self, image: &RasterImage, key: SampleKey, output: &mut [u8]) -> LastSteps {
        self.apply(image, key, output);
        LastSteps::default()
    }

    /// By how much an image of `[width, height]` pixels may be smaller in both when it is decoded, so that the result stays
    /// almost the same: 1, 2, 4 or 8.
    fn decode_reduction(&self, _size: [usize; 2], _key: SampleKey) -> u16 {
        1
    }

    /// Height, width and channels of the result.
    fn output_size(&self) -> [usize; 3] {
        [self.image_size(), self.image_size(), self.channels().count()]
    }
}

/// How an image that is no square becomes one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ResizeMode {
    /// Stretched: nothing is lost, proportions change.
    #[default]
    Squash,
    /// Fitted in whole, with bars of a neutral colour beside it: proportions stay.
    Letterbox,
    /// The square in the middle, `crop_share` of the shorter side wide (timm's `crop_pct`): proportions stay.
    CenterCrop {
        /// In (0, 1].
        crop_share: f32,
    },
}

impl ResizeMode {
    /// The part of the image that becomes the square, in pixels of the image. Bars lie outside the image.
    fn evaluation_crop(self, [width, height]: [usize; 2]) -> Crop {
        let (width, height) = (width as f64, height as f64);
        match self {
            Self::Squash => Crop { left: 0.0, top: 0.0, width, height },
            Self::Letterbox => Crop::centered_square(width, height, width.max(height)),
            Self::CenterCrop { crop_share } => {
                let side = width.min(height) * f64::from(crop_share).clamp(0.0, 1.0);
                Crop::centered_square(width, height, side.max(1.0))
            }
        }
    }
}

/// ImageNet's mean colour, so that bars are near zero once pixels are normalised.
const BAR_COLOR: [u8; 3] = [124, 116, 104];

/// The luma of [`BAR_COLOR`].
const BAR_GREY: [u8; 1] = [117];

/// ImageNet's mean deviation of values from [`BAR_COLOR`].
const IMAGENET_DEVIATION: f32 = 57.6;

/// What the bars of [`ResizeMode::Letterbox`] are filled with, a byte a channel.
#[must_use]
pub fn bar_color(channels: Channels) -> &'static [u8] {
    match channels {
        Channels::Grey => &BAR_GREY,
        Channels::Rgb => &BAR_COLOR,
    }
}

/// Pixels of the decoded image for one of the result, at least. Pillow calls this `reducing_gap`, and results at 2 "almost
/// indistinguishable from fair resampling".
const REDUCING_GAP: f64 = 2.0;

/// The largest reduction that leaves enough of `crop` to make a square of `size` pixels from.
fn reduction(crop: Crop, size: usize) -> u16 {
    let spare = crop.width.min(crop.height) / (REDUCING_GAP * size as f64);
    [8, 4, 2].into_iter().find(|&factor| spare >= f64::from(factor)).unwrap_or(1)
}

fn size_of(image: &RasterImage) -> [usize; 2] {
    [image.width(), image.height()]
}

fn with_channels(image: &RasterImage, channels: Channels) -> Cow<'_, RasterImage> {
    if image.channels() == channels { Cow::Borrowed(image) } else { Cow::Owned(image.clone().into_channels(channels)) }
}
