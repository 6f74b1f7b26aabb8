//! The eight ways to lay a square down on itself.

use std::fmt;

use burn::tensor::Tensor;

/// A symmetry of the square: it moves pixels and changes none. Turns are counter-clockwise, as in `numpy.rot90` and
/// torchvision; so [`Symmetry::Rotate270`] is a quarter turn clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Symmetry {
    /// The image as it is.
    Identity,
    /// A quarter turn counter-clockwise.
    Rotate90,
    /// A half turn.
    Rotate180,
    /// A quarter turn clockwise.
    Rotate270,
    /// Left and right change places.
    FlipHorizontal,
    /// Top and bottom change places.
    FlipVertical,
    /// Mirrored at the diagonal from the upper left: rows become columns.
    Transpose,
    /// Mirrored at the other diagonal, from the upper right.
    AntiTranspose,
}

impl Symmetry {
    /// All eight, the identity first.
    pub const ALL: [Self; 8] = [
        Self::Identity,
        Self::Rotate90,
        Self::Rotate180,
        Self::Rotate270,
        Self::FlipHorizontal,
        Self::FlipVertical,
        Self::Transpose,
        Self::AntiTranspose,
    ];

    /// The symmetry that undoes this one. All but the quarter turns undo themselves.
    #[must_use]
    pub fn inverse(self) -> Self {
        match self {
            Self::Rotate90 => Self::Rotate270,
            Self::Rotate270 => Self::Rotate90,
            same => same,
        }
    }

    /// Whether height and width change places.
    #[must_use]
    pub fn swaps_axes(self) -> bool {
        matches!(self, Self::Rotate90 | Self::Rotate270 | Self::Transpose | Self::AntiTranspose)
    }

    /// Moves the pixels.
    ///
    /// # Shapes
    /// - `images`: `[B, C, H, W]`
    /// - output: `[B, C, H, W]`, or `[B, C, W, H]` where [`Symmetry::swaps_axes`]
    #[must_use]
    pub fn apply(self, images: Tensor<4>) -> Tensor<4> {
        let images = if self.swaps_axes() { images.swap_dims(2, 3) } else { images }; // [B, C, W, H] where swapped
        match self {
            Self::Identity | Self::Transpose => images,
            Self::FlipVertical | Self::Rotate90 => images.flip([2]),
            Self::FlipHorizontal | Self::Rotate270 => images.flip([3]),
            Self::Rotate180 | Self::AntiTranspose => images.flip([2, 3]),
        }
    }
}

impl fmt::Display for Symmetry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Identity => "identity",
            Self::Rotate90 => "rotate_90",
            Self::Rotate180 => "rotate_180",
            Self::Rotate270 => "rotate_270",
            Self::FlipHorizontal => "flip_horizontal",
            Self::FlipVertical => "flip_vertical",
            Self::Transpose => "transpose",
            Self::AntiTranspose => "anti_transpose",
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Every value is different.
    fn counted(shape: [usize; 4]) -> Tensor<4> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|place: usize| place as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn values(images: Tensor<4>) -> Vec<f32> {
        images.into_data().iter::<f32>().collect()
    }

    #[test]
    fn a_quarter_turn_is_counter_clockwise() {
        let image = Tensor::<4>::from_floats([[[[1.0, 2.0], [3.0, 4.0]]]], &Device::flex());
        let turned = |symmetry: Symmetry| values(symmetry.apply(image.clone()));
        assert_eq!(turned(Symmetry::Rotate90), [2.0, 4.0, 1.0, 3.0]);
        assert_eq!(turned(Symmetry::Rotate180), [4.0, 3.0, 2.0, 1.0]);
        assert_eq!(turned(Symmetry::Rotate270), [3.0, 1.0, 4.0, 2.0]);
    }

    #[test]
    fn flips_and_transposes_mirror_at_the_axis_that_they_name() {
        let image = Tensor::<4>::from_floats([[[[1.0, 2.0], [3.0, 4.0]]]], &Device::flex());
        let mirrored = |symmetry: Symmetry| values(symmetry.apply(image.clone()));
        assert_eq!(mirrored(Symmetry::FlipHorizontal), [2.0, 1.0, 4.0, 3.0]);
        assert_eq!(mirrored(Symmetry::FlipVertical), [3.0, 4.0, 1.0, 2.0]);
        assert_eq!(mirrored(Symmetry::Transpose), [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(mirrored(Symmetry::AntiTranspose), [4.0, 2.0, 3.0, 1.0]);
    }

    #[test]
    fn every_symmetry_followed_by_its_inverse_gives_the_image_back() {
        // Odd, even and not square; several images and channels, which must not mix.
        for shape in [[2, 3, 4, 4], [2, 3, 5, 5], [2, 1, 2, 3]] {
            for symmetry in Symmetry::ALL {
                let images = counted(shape);
                let back = symmetry.inverse().apply(symmetry.apply(images.clone()));
                assert_eq!(back.dims(), shape, "{symmetry}");
                assert_eq!(values(back), values(images), "{symmetry}");
            }
        }
    }

    #[test]
    fn four_quarter_turns_are_none() {
        let images = counted([1, 2, 3, 3]);
        let turned = (0..4).fold(images.clone(), |images, _| Symmetry::Rotate90.apply(images));
        assert_eq!(values(turned), values(images));
    }
}
