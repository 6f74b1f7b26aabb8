//! Bytes of pixels to normalised images. A card is given the bytes, a quarter of what numbers take, and makes the numbers; the CPU looks them up.

#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::{Capture, DispatchDevice};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};

use super::parameters::is_card;
use super::recorded::{Form, notes_ours, record};
use crate::leaf_on_tape;
use crate::tape::{is_captured, primitive};

/// The name of the operation in recorded graphs.
pub(crate) const PIXELS: &str = "pixels to images";

/// Pixels in a word of four bytes.
const BYTES: usize = size_of::<f32>();

/// Images of bytes: `(pixel / 255 - mean) / std`, by channel.
///
/// # Shapes
/// - `pixels`: `[B, H, W, C]` with `size = [H, W, C]`
/// - `mean`, `std`: `[C]`
/// - output: `[B, C, H, W]`, f32, on `device`, where nobody wants its gradient
pub fn images_of_pixels(pixels: &[u8], size: [usize; 3], mean: &[f32], std: &[f32], device: &Device) -> Tensor<4> {
    let [height, width, channels] = size;
    let batch = pixels.len() / size.iter().product::<usize>().max(1);
    // A kernel counts numbers in 32 bits.
    if !notes_ours() || !is_card(device) || batch == 0 || u32::try_from(pixels.len()).is_err() {
        let values = looked_up(pixels, size, mean, std);
        return Tensor::from_data(TensorData::new(values, [batch, channels, height, width]), device);
    }
    let inner = device.clone().inner();
    let words = TensorData::from_bytes_vec(words_of(pixels, size), words_of_images(batch, size), DType::F32);
    let constants = constants_of(mean, std);
    let constants = Tensor::from_data(TensorData::new(constants, [2, channels]), &inner);
    images_of_words(Tensor::from_data(words, &inner), constants, size, device)
}

/// The shape of the f32 that hold the bytes of `batch` images of H, W, C: four to a word, and each image in words of its own.
pub fn words_of_images(batch: usize, size: [usize; 3]) -> [usize; 2] {
    [batch, size.iter().product::<usize>().div_ceil(BYTES)]
}

/// Images of words that lie on a card, or on the device that records one, off the tape. The bits of a word are no number.
///
/// # Shapes
/// - `words`: as [`words_of_images`] says
/// - `constants`: `[2, C]`, what a pixel of a channel is multiplied by, and what is added
/// - output: `[B, C, H, W]` on `device`, which is that of the words, with a tape or without
///
/// # Panics
/// On other devices.
pub fn images_of_words(words: Tensor<2>, constants: Tensor<2>, size: [usize; 3], device: &Device) -> Tensor<4> {
    let images = match words.device().as_dispatch() {
        #[cfg(feature = "cuda")]
        DispatchDevice::Cuda(_) => gpu::images::<Cuda, _>(words, constants, size),
        #[cfg(feature = "wgpu")]
        DispatchDevice::Wgpu(_) => gpu::images::<Wgpu, _>(words, constants, size),
        DispatchDevice::Capture(_) => {
            let [batch, _] = words.dims();
            let inputs = [words, constants].map(primitive::<Capture, 2>);
            let [images] = record(PIXELS, inputs, [form(batch, size)], &[]);
            Tensor::from_primitive::<Capture>(images)
        }
        _ => unreachable!("the caller asks for the device first, and words are off the tape"),
    };
    match device.is_autodiff() {
        true => leaf_on_tape(images, device),
        false => images,
    }
}

/// Whether images come to this device, with a tape or without, as words, or are noted so.
pub fn takes_words(device: &Device) -> bool {
    notes_ours() && (is_card(device) || is_captured(device))
}

/// Shape and type of the images.
pub(crate) fn form(batch: usize, [height, width, channels]: [usize; 3]) -> Form {
    (Shape::new([batch, channels, height, width]), DType::F32)
}

/// The pixels of each image, filled up to whole words.
fn words_of(pixels: &[u8], size: [usize; 3]) -> Vec<u8> {
    let image: usize = size.iter().product();
    if image.is_multiple_of(BYTES) {
        return pixels.to_vec();
    }
    let mut words = Vec::with_capacity(pixels.len() / image * image.next_multiple_of(BYTES));
    for image in pixels.chunks_exact(image) {
        words.extend_from_slice(image);
        words.resize(words.len().next_multiple_of(BYTES), 0);
    }
    words
}

/// `[2, C]`: factors, then summands.
fn constants_of(mean: &[f32], std: &[f32]) -> Vec<f32> {
    let factors = std.iter().map(|std| 1.0 / (255.0 * std));
    let summands = mean.iter().zip(std).map(|(mean, std)| -mean / std);
    factors.chain(summands).collect()
}

/// One table a channel: 256 possible bytes are fewer than a batch's pixels.
fn looked_up(pixels: &[u8], [height, width, channels]: [usize; 3], mean: &[f32], std: &[f32]) -> Vec<f32> {
    let area = height * width;
    let number = |byte: usize, c: usize| (byte as f32 / 255.0 - mean[c]) / std[c];
    let tables: Vec<[f32; 256]> = (0..channels).map(|c| std::array::from_fn(|byte| number(byte, c))).collect();
    let mut values = vec![0.0f32; pixels.len()];
    let images = pixels.chunks_exact((area * channels).max(1));
    for (image, out) in images.zip(values.chunks_exact_mut((area * channels).max(1))) {
        for (c, (table, plane)) in tables.iter().zip(out.chunks_exact_mut(area)).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(image[c..].iter().step_by(channels)) {
                *value = table[usize::from(*pixel)];
            }
        }
    }
    values
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu {
    use burn::backend::{Backend, DispatchKindConversion, DispatchTensor};
    use burn::tensor::Tensor;
    use burn_cubecl::CubeRuntime;

    use crate::kernels::cube::pixels::Normalise;
    use crate::kernels::cube::{Queued, launch};
    use crate::tape::primitive;

    pub(super) fn images<B, R>(words: Tensor<2>, constants: Tensor<2>, size: [usize; 3]) -> Tensor<4>
    where
        B: Backend<FloatTensorPrimitive = Queued<R>>,
        R: CubeRuntime,
        DispatchTensor: DispatchKindConversion<B>,
    {
        let [images] = launch(Normalise { size }, [words, constants].map(primitive::<B, 2>));
        Tensor::from_primitive::<B>(images)
    }
}
