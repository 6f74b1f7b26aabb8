use burn::tensor::{DType, Device, Tensor};
use memory_planner::Precision;
use vision_nn::images_of_pixels;

/// Means and deviations that images are normalised by, a channel each, for pixel values in 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    /// Subtracted.
    pub mean: Vec<f32>,
    /// Divides.
    pub std: Vec<f32>,
}

impl Normalization {
    /// ImageNet's RGB figures, timm's default; for one channel their averages.
    pub fn imagenet(in_channels: usize) -> Self {
        match in_channels {
            1 => Self { mean: vec![0.449], std: vec![0.226] },
            _ => Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] },
        }
    }
}

/// The type that maps are stored in, for [`Pass::storing`](vision_nn::Pass::storing).
pub fn storage_type(precision: Precision) -> DType {
    match precision {
        Precision::Fp32 => DType::F32,
        Precision::Bf16 => DType::BF16,
        Precision::Fp16 => DType::F16,
    }
}

/// Bytes of pixels to a normalised tensor.
///
/// # Shapes
/// - `pixels`: `[B, H, W, C]` with `size = [H, W, C]`
/// - output: `[B, C, H, W]`
pub fn images_to_tensor(pixels: &[u8], size: [usize; 3], normalization: &Normalization, device: &Device) -> Tensor<4> {
    images_of_pixels(pixels, size, &normalization.mean, &normalization.std, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_move_in_front_and_are_normalised() {
        let normalization = Normalization { mean: vec![0.0, 0.5, 0.0], std: vec![1.0, 0.5, 2.0] };
        // One image of 1x2: pixels (0, 0, 255) and (255, 255, 0).
        let tensor = images_to_tensor(&[0, 0, 255, 255, 255, 0], [1, 2, 3], &normalization, &Device::flex());
        assert_eq!(tensor.dims(), [1, 3, 1, 2]);
        let values: Vec<f32> = tensor.into_data().iter().collect();
        assert_eq!(values, [0.0, 1.0, -1.0, 1.0, 0.5, 0.0]);
    }
}
