//! One way to look at an image before the model does.

use std::fmt;

use burn::tensor::{Device, Tensor, TensorData};
use trainer::Normalization;

use crate::Symmetry;
use crate::zoom::zoom;

/// One view of test-time augmentation: the same image moved, and then magnified or lit differently, in the same class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Flipped, turned or transposed: no pixel value changes.
    pub symmetry: Symmetry,
    /// What else is different.
    pub variation: Variation,
}

/// What changes pixel values. Factors are above 0, and 1 changes nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Variation {
    /// Nothing.
    None,
    /// Magnified about the middle; below 1 shrunk, with its edges continued.
    Zoom {
        /// Magnification.
        factor: f32,
    },
    /// The middle of the image enlarged to its full size: a zoom by `1 / share`, under the name that people know it by.
    CenterCrop {
        /// Of each side, in (0, 1].
        share: f32,
    },
    /// Pixel values multiplied, and held between black and white; torchvision's `adjust_brightness`.
    Brightness {
        /// Multiplies.
        factor: f32,
    },
    /// The distance from the image's mean grey multiplied, and held between black and white; torchvision's `adjust_contrast`.
    Contrast {
        /// Multiplies.
        factor: f32,
    },
}

impl View {
    /// The image as it is.
    pub const IDENTITY: Self = Self { symmetry: Symmetry::Identity, variation: Variation::None };

    /// The view that gives the image back; none for those that lose something of it.
    #[must_use]
    pub fn inverse(self) -> Option<Self> {
        (self.variation == Variation::None).then(|| self.symmetry.inverse().into())
    }

    /// Whether height and width change places, so that only square images keep their shape.
    #[must_use]
    pub fn swaps_axes(self) -> bool {
        self.symmetry.swaps_axes()
    }

    /// Shows a normalised batch in this view, normalised as before, with `normalization` of as many channels as the images.
    ///
    /// # Shapes
    /// - `images`: `[B, C, H, W]`
    /// - output: `[B, C, H, W]`, or `[B, C, W, H]` where [`View::swaps_axes`]
    #[must_use]
    pub fn apply(self, images: Tensor<4>, normalization: &Normalization) -> Tensor<4> {
        let images = self.symmetry.apply(images);
        match self.variation {
            Variation::None => images,
            Variation::Zoom { factor } => zoom(images, factor),
            Variation::CenterCrop { share } => zoom(images, 1.0 / share),
            Variation::Brightness { factor } => relight(images, normalization, |light| light * factor),
            Variation::Contrast { factor } => relight(images, normalization, |light| {
                let grey = mean_grey(light.clone());
                (light - grey.clone()) * factor + grey
            }),
        }
    }
}

impl From<Symmetry> for View {
    fn from(symmetry: Symmetry) -> Self {
        Self { symmetry, variation: Variation::None }
    }
}

impl From<Variation> for View {
    fn from(variation: Variation) -> Self {
        Self { symmetry: Symmetry::Identity, variation }
    }
}

/// `rotate_90`, `zoom_1.1`, or both: `rotate_90+zoom_1.1`.
impl fmt::Display for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.symmetry, self.variation) {
            (symmetry, Variation::None) => symmetry.fmt(formatter),
            (Symmetry::Identity, variation) => variation.fmt(formatter),
            (symmetry, variation) => write!(formatter, "{symmetry}+{variation}"),
        }
    }
}

impl fmt::Display for Variation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Zoom { factor } => write!(formatter, "zoom_{factor}"),
            Self::CenterCrop { share } => write!(formatter, "center_crop_{share}"),
            Self::Brightness { factor } => write!(formatter, "brightness_{factor}"),
            Self::Contrast { factor } => write!(formatter, "contrast_{factor}"),
        }
    }
}

/// Has `change` work on light between 0 (black) and 1 (white), `[B, C, H, W]` in and out, and normalises again.
fn relight(images: Tensor<4>, normalization: &Normalization, change: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    let device = images.device();
    let mean = by_channel(&normalization.mean, &device);
    let std = by_channel(&normalization.std, &device);
    let light = images * std.clone() + mean.clone();
    (change(light).clamp(0.0, 1.0) - mean) / std
}

/// A number a channel, `[1, C, 1, 1]`.
fn by_channel(values: &[f32], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len(), 1, 1]), device)
}

/// What red, green and blue add to the brightness that people see (ITU-R BT.601), as in torchvision and Pillow.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Mean grey of each image: `[B, C, H, W]` to `[B, 1, 1, 1]`.
fn mean_grey(light: Tensor<4>) -> Tensor<4> {
    let [_, channels, _, _] = light.dims();
    let means = light.mean_dim(3).mean_dim(2); // [B, C, 1, 1]
    if channels == LUMA.len() {
        let device = means.device();
        (means * by_channel(&LUMA, &device)).sum_dim(1) // [B, 1, 1, 1]
    } else {
        means.mean_dim(1) // [B, 1, 1, 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One grey image of four pixels, normalised from light between 0 and 1, seen in `view`, and back to light.
    fn seen(light: [f32; 4], view: Variation) -> Vec<f32> {
        let normalization = Normalization { mean: vec![0.4], std: vec![0.2] };
        let normalised = light.map(|light| (light - 0.4) / 0.2);
        let images = Tensor::<1>::from_floats(normalised, &Device::flex()).reshape([1, 1, 2, 2]);
        let images = View::from(view).apply(images, &normalization);
        images.into_data().iter::<f32>().map(|value| value * 0.2 + 0.4).collect()
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        let close = found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
        assert!(close, "{found:?} is not {expected:?}");
    }

    #[test]
    fn brightness_multiplies_light_and_stops_at_white() {
        let found = seen([0.0, 0.2, 0.5, 0.9], Variation::Brightness { factor: 1.5 });
        assert_close(&found, &[0.0, 0.3, 0.75, 1.0]);
    }

    #[test]
    fn contrast_pulls_towards_the_mean_grey() {
        assert_close(&seen([0.0, 0.2, 0.6, 0.8], Variation::Contrast { factor: 0.5 }), &[0.2, 0.3, 0.5, 0.6]);
        assert_close(&seen([0.0, 0.2, 0.6, 0.8], Variation::Contrast { factor: 2.0 }), &[0.0, 0.0, 0.8, 1.0]);
    }

    #[test]
    fn contrast_weighs_colours_as_the_eye_does_and_keeps_images_apart() {
        let normalization = Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] };
        // A red pixel and a white one, two images of one pixel each.
        let images = Tensor::<2>::from_floats([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]], &Device::flex());
        let found = View::from(Variation::Contrast { factor: 0.0 }).apply(images.reshape([2, 3, 1, 1]), &normalization);
        let found: Vec<f32> = found.into_data().iter::<f32>().collect();
        assert_close(&found, &[0.299, 0.299, 0.299, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn factors_of_one_change_nothing() {
        let light = [0.1, 0.2, 0.6, 1.0];
        for view in [
            Variation::Zoom { factor: 1.0 },
            Variation::CenterCrop { share: 1.0 },
            Variation::Brightness { factor: 1.0 },
            Variation::Contrast { factor: 1.0 },
        ] {
            assert_close(&seen(light, view), &light);
        }
    }

    #[test]
    fn only_symmetries_have_an_inverse() {
        let turned = View::from(Symmetry::Rotate90);
        assert_eq!(turned.inverse(), Some(View::from(Symmetry::Rotate270)));
        assert_eq!(View::from(Variation::Zoom { factor: 2.0 }).inverse(), None);
    }
}
