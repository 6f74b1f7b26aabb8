use std::ops::Range;

use burn::tensor::{DType, Device, Tensor};
use data_pipeline::{Batch, LastSteps, Rectangle};
use memory_planner::Precision;
use vision_nn::{PixelRectangle, PixelSteps, finished_images_of_pixels, images_of_pixels};

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

/// Some samples of a batch as a normalised tensor, with the steps done that the loader has left.
///
/// The device does them, unless a sample is mixed with one that is not among these: then this thread does, before. The loader is asked to leave mixing only
/// where all of a batch is taken at once, so that this is what a batch costs once that has failed for lack of memory. The samples' bytes are all that is
/// uploaded either way, with a few words of steps each.
///
/// # Shapes
/// - output: `[rows, C, H, W]`
pub fn images_of_batch(batch: &Batch, rows: Range<usize>, normalization: &Normalization, device: &Device) -> Tensor<4> {
    let Normalization { mean, std } = normalization;
    let left = batch.last_steps.get(rows.clone()).unwrap_or_default();
    if left.iter().any(|steps| steps.mixed.is_some_and(|mixed| !rows.contains(&mixed.partner))) {
        return images_of_pixels(&batch.finished(rows), batch.size, mean, std, device);
    }
    let bytes = batch.sample_bytes();
    let pixels = &batch.pixels[rows.start * bytes..rows.end * bytes];
    let steps: Vec<PixelSteps> = left.iter().map(|steps| among_rows(steps, &rows)).collect();
    finished_images_of_pixels(pixels, &steps, batch.size, mean, std, device)
}

/// A sample's steps, with the partner's place among these rows.
fn among_rows(steps: &LastSteps, rows: &Range<usize>) -> PixelSteps {
    let rectangle = |Rectangle { rows, columns }: Rectangle| PixelRectangle { rows, columns };
    let LastSteps { symmetry, erased, mixed } = *steps;
    PixelSteps {
        transposed: symmetry.transposed,
        mirrored: symmetry.mirrored,
        upended: symmetry.upended,
        erased: erased.map(|erased| rectangle(erased.place)).unwrap_or_default(),
        color: erased.map(|erased| erased.color).unwrap_or_default(),
        partner: mixed.map_or(0, |mixed| mixed.partner - rows.start),
        weight: mixed.map_or(0, |mixed| mixed.weight),
        mixed: mixed.map(|mixed| rectangle(mixed.place)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use data_pipeline::{Erased, Mixed, Symmetry};

    use super::*;

    /// Five images of 6x6, turned in different ways, of which two are hidden in part and four are mixed: with what lies far off, and across each other.
    fn batch() -> Batch {
        let place = |from: usize, to: usize| Rectangle { rows: [from, to], columns: [1, to] };
        let steps = |row: usize| LastSteps {
            symmetry: Symmetry { transposed: row % 2 == 1, mirrored: row % 3 == 1, upended: row > 2 },
            erased: row.is_multiple_of(3).then(|| Erased { place: place(row, row + 2), color: [200, row as u8, 7] }),
            mixed: (row != 2).then(|| Mixed { partner: 4 - row, weight: 7_000 * row as u32 + 100, place: place(1, 6) }),
        };
        Batch {
            index: 0,
            pixels: (0..5 * 108u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 23) as u8).collect(),
            labels: vec![Some(0); 5],
            samples: (0..5).collect(),
            corrupt: Vec::new(),
            size: [6, 6, 3],
            partners: Vec::new(),
            last_steps: (0..5).map(steps).collect(),
        }
    }

    fn numbers(images: Tensor<4>) -> Vec<f32> {
        images.into_data().iter().collect()
    }

    #[test]
    fn a_sample_looks_the_same_in_a_micro_batch_of_any_size() {
        let (batch, normalization, device) = (batch(), Normalization::imagenet(3), Device::flex());
        let expected = numbers(images_to_tensor(&batch.finished(0..5), batch.size, &normalization, &device));
        assert_ne!(expected, numbers(images_to_tensor(&batch.pixels, batch.size, &normalization, &device)));
        for size in 1..=5 {
            let cuts = (0..5).step_by(size).map(|first| first..(first + size).min(5));
            let images = cuts.flat_map(|rows| numbers(images_of_batch(&batch, rows, &normalization, &device)));
            assert_eq!(images.collect::<Vec<f32>>(), expected, "micro-batches of {size}");
        }
    }

    #[test]
    fn a_batch_without_steps_is_its_pixels() {
        let batch = Batch { last_steps: Vec::new(), ..batch() };
        assert_eq!(batch.finished(0..5), batch.pixels);
        let (normalization, device) = (Normalization::imagenet(3), Device::flex());
        let rows = images_of_batch(&batch, 1..3, &normalization, &device);
        let pixels = &batch.pixels[108..3 * 108];
        assert_eq!(numbers(rows), numbers(images_to_tensor(pixels, batch.size, &normalization, &device)));
    }

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
