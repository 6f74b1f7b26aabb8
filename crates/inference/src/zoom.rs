//! Magnifies the middle of images without changing their size.

use burn::tensor::{Int, Tensor, TensorData};

/// Magnifies by `factor` about the middle, bilinearly. Below 1 the image shrinks, and its edge pixels continue to the
/// border: that suits a white page as well as a photograph, where bars of one colour would suit neither.
///
/// # Shapes
/// - `images`: `[B, C, H, W]`
/// - output: `[B, C, H, W]`
pub(crate) fn zoom(images: Tensor<4>, factor: f32) -> Tensor<4> {
    let rows = sample_axis(images, 2, factor);
    sample_axis(rows, 3, factor)
}

/// One axis at a time: two picks and a blend, which every backend has, and whose result depends on no backend's convention
/// for resizing.
fn sample_axis(images: Tensor<4>, axis: usize, factor: f32) -> Tensor<4> {
    let length = images.dims()[axis];
    let device = images.device();
    let positions = Positions::new(length, factor);
    let mut weight_shape = [1; 4];
    weight_shape[axis] = length;
    let pick = |places: Vec<i64>| {
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [length]), &device);
        images.clone().select(axis, places)
    };
    let lower = pick(positions.lower);
    let upper = pick(positions.upper);
    let weights = Tensor::<4>::from_data(TensorData::new(positions.weights, weight_shape), &device);
    lower.clone() + (upper - lower) * weights
}

/// Where each output pixel of an axis comes from: `lower + weight * (upper - lower)`.
struct Positions {
    lower: Vec<i64>,
    upper: Vec<i64>,
    /// In `[0, 1)`.
    weights: Vec<f32>,
}

impl Positions {
    fn new(length: usize, factor: f32) -> Self {
        let middle = length as f64 / 2.0;
        let last = length.saturating_sub(1);
        let mut positions = Self { lower: Vec::new(), upper: Vec::new(), weights: Vec::new() };
        for place in 0..length {
            // Pixel centres lie at one half; `max` and `min` also turn a NaN into a number.
            let source = (place as f64 + 0.5 - middle) / f64::from(factor) + middle - 0.5;
            let source = source.max(0.0).min(last as f64);
            let lower = source.floor() as usize;
            positions.lower.push(lower as i64);
            positions.upper.push((lower + 1).min(last) as i64);
            positions.weights.push((source - lower as f64) as f32);
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn zoomed(row: [f32; 4], factor: f32) -> Vec<f32> {
        let images = Tensor::<4>::from_floats([[[row; 4]]], &Device::flex());
        let zoomed = zoom(images, factor);
        assert_eq!(zoomed.dims(), [1, 1, 4, 4]);
        let values: Vec<f32> = zoomed.into_data().iter::<f32>().collect();
        assert!(values.chunks(4).all(|other| other == &values[..4]), "equal rows stay equal");
        values[..4].to_vec()
    }

    #[test]
    fn a_factor_of_one_changes_nothing() {
        assert_eq!(zoomed([1.0, 5.0, 2.0, 7.0], 1.0), [1.0, 5.0, 2.0, 7.0]);
    }

    #[test]
    fn a_factor_of_two_shows_the_middle_half() {
        // Output centres 0.5, 1.5, 2.5, 3.5 come from 1.25, 1.75, 2.25, 2.75, less one half as places: 0.75 .. 2.25.
        assert_eq!(zoomed([0.0, 1.0, 2.0, 3.0], 2.0), [0.75, 1.25, 1.75, 2.25]);
    }

    #[test]
    fn a_factor_of_one_half_continues_the_edges() {
        assert_eq!(zoomed([0.0, 1.0, 2.0, 3.0], 0.5), [0.0, 0.5, 2.5, 3.0]);
    }

    #[test]
    fn both_axes_are_zoomed_alike() {
        let values: Vec<f32> = (0..16).map(|place| (place % 7) as f32).collect();
        let images = Tensor::<4>::from_data(TensorData::new(values, [1, 1, 4, 4]), &Device::flex());
        let then_turned = zoom(images.clone(), 1.3).swap_dims(2, 3);
        let turned_first = zoom(images.swap_dims(2, 3), 1.3);
        let difference = (then_turned - turned_first).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-6, "{difference}");
    }

    #[test]
    fn factors_without_sense_do_not_panic() {
        for factor in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let images = Tensor::<4>::zeros([1, 1, 3, 1], &Device::flex());
            assert_eq!(zoom(images, factor).dims(), [1, 1, 3, 1]);
        }
    }
}
