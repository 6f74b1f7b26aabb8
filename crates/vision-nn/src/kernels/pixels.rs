//! Bytes of pixels to normalised images. A card is given the bytes, a quarter of what numbers take, and makes the numbers; the CPU looks them up.
//!
//! The last steps of augmentation may be taken in the same pass, which reads a pixel elsewhere than it writes its number: turned, hidden, mixed with that of
//! another image. Mixed pixels are rounded to bytes, as they are where bytes are mixed, so that numbers are made of the same bytes wherever steps are done.
//! A card is given a list of steps beside the bytes. It mixes images that are on it together alone: whoever cuts a batch so that partners part mixes them
//! before, for to carry them along would double what is uploaded and planned.

#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::{Capture, DispatchDevice};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use cpu_kernels::{PixelRectangle, PixelSteps, Pixels};

use super::parameters::is_card;
use super::recorded::{Form, notes_ours, record};
use crate::leaf_on_tape;
use crate::tape::{is_captured, primitive};

/// The name of the operation in recorded graphs.
pub(crate) const PIXELS: &str = "pixels to images";

/// The same with the last steps of augmentation.
pub(crate) const FINISHED_PIXELS: &str = "pixels to finished images";

/// Pixels in a word of four bytes.
const BYTES: usize = size_of::<f32>();

/// Words that tell the steps of an image.
const NUMBERS_OF_STEPS: usize = 12;

/// Images of bytes: `(pixel / 255 - mean) / std`, by channel.
///
/// # Shapes
/// - `pixels`: `[B, H, W, C]` with `size = [H, W, C]`
/// - `mean`, `std`: `[C]`
/// - output: `[B, C, H, W]`, f32, on `device`, where nobody wants its gradient
pub fn images_of_pixels(pixels: &[u8], size: [usize; 3], mean: &[f32], std: &[f32], device: &Device) -> Tensor<4> {
    finished_images_of_pixels(pixels, &[], size, mean, std, device)
}

/// The same, once the steps of each image are done; without any list there are none.
///
/// # Shapes
/// - `steps`: `[B]` or none
/// - all else as in [`images_of_pixels`]
///
/// # Panics
/// When there are other than no steps or one for each image, or one of them reads what is not there.
pub fn finished_images_of_pixels(
    pixels: &[u8],
    steps: &[PixelSteps],
    size: [usize; 3],
    mean: &[f32],
    std: &[f32],
    device: &Device,
) -> Tensor<4> {
    let [height, width, channels] = size;
    let batch = pixels.len() / size.iter().product::<usize>().max(1);
    let fit = steps.len() == batch && steps.iter().all(|steps| steps.stays_within(batch, size));
    assert!(steps.is_empty() || fit, "the steps are not those of {batch} images of {size:?}: {steps:?}");
    // A kernel counts numbers in 32 bits.
    if !notes_ours() || !is_card(device) || batch == 0 || u32::try_from(pixels.len()).is_err() {
        let pixels = Pixels { bytes: pixels, size, tables: &tables_of(mean, std) };
        let values = if steps.is_empty() { pixels.numbers() } else { pixels.finished_numbers(steps) };
        return Tensor::from_data(TensorData::new(values, [batch, channels, height, width]), device);
    }
    let inner = device.clone().inner();
    let words = TensorData::from_bytes_vec(words_of(pixels, size), words_of_images(batch, size), DType::F32);
    let constants = constants_of(mean, std);
    let constants = Tensor::from_data(TensorData::new(constants, [2, channels]), &inner);
    let steps = (!steps.is_empty()).then(|| {
        let list = TensorData::from_bytes_vec(words_of_list(steps), words_of_steps(batch), DType::F32);
        Tensor::from_data(list, &inner)
    });
    images_of_words(Tensor::from_data(words, &inner), constants, steps, size, device)
}

/// The shape of the f32 that hold the bytes of `batch` images of H, W, C: four to a word, and each image in words of its own.
pub fn words_of_images(batch: usize, size: [usize; 3]) -> [usize; 2] {
    [batch, size.iter().product::<usize>().div_ceil(BYTES)]
}

/// The shape of the f32 that hold the steps of `batch` images. The bits of a word are no number here either.
pub fn words_of_steps(batch: usize) -> [usize; 2] {
    [batch, NUMBERS_OF_STEPS]
}

/// Images of words that lie on a card, or on the device that records one, off the tape. The bits of a word are no number.
///
/// # Shapes
/// - `words`: as [`words_of_images`] says
/// - `constants`: `[2, C]`, what a pixel of a channel is multiplied by, and what is added
/// - `steps`: as [`words_of_steps`] says
/// - output: `[B, C, H, W]` on `device`, which is that of the words, with a tape or without
///
/// # Panics
/// On other devices.
pub fn images_of_words(
    words: Tensor<2>,
    constants: Tensor<2>,
    steps: Option<Tensor<2>>,
    size: [usize; 3],
    device: &Device,
) -> Tensor<4> {
    let images = match words.device().as_dispatch() {
        #[cfg(feature = "cuda")]
        DispatchDevice::Cuda(_) => gpu::images::<Cuda, _>(words, constants, steps, size),
        #[cfg(feature = "wgpu")]
        DispatchDevice::Wgpu(_) => gpu::images::<Wgpu, _>(words, constants, steps, size),
        DispatchDevice::Capture(_) => {
            let [batch, _] = words.dims();
            let (bytes, images) = ([words, constants].map(primitive::<Capture, 2>), [form(batch, size)]);
            let [images] = match steps.map(primitive::<Capture, 2>) {
                None => record(PIXELS, bytes, images, &[]),
                Some(steps) => {
                    let [words, constants] = bytes;
                    record(FINISHED_PIXELS, [words, constants, steps], images, &[])
                }
            };
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

/// One a channel.
fn tables_of(mean: &[f32], std: &[f32]) -> Vec<[f32; 256]> {
    let table = |(mean, std): (&f32, &f32)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
    mean.iter().zip(std).map(table).collect()
}

/// The steps of an image as a kernel reads them: bits for transposed, mirrored and upended; a byte of colour a channel; the hidden rectangle; then partner,
/// weight and rectangle of the mixing.
fn numbers_of(steps: &PixelSteps) -> [u32; NUMBERS_OF_STEPS] {
    let PixelSteps { transposed, mirrored, upended, erased, color: [red, green, blue], partner, weight, mixed } =
        *steps;
    let symmetry = u32::from(mirrored) | (u32::from(upended) << 1) | (u32::from(transposed) << 2);
    let color = u32::from(red) | (u32::from(green) << 8) | (u32::from(blue) << 16);
    let [hidden, mixed] = [erased, mixed].map(|PixelRectangle { rows: [top, bottom], columns: [left, right] }| {
        [top, bottom, left, right].map(|place| place as u32)
    });
    let mut numbers = [symmetry, color, 0, 0, 0, 0, partner as u32, weight, 0, 0, 0, 0];
    numbers[2..6].copy_from_slice(&hidden);
    numbers[8..].copy_from_slice(&mixed);
    numbers
}

/// The steps of a batch, as bytes.
fn words_of_list(steps: &[PixelSteps]) -> Vec<u8> {
    steps.iter().flat_map(numbers_of).flat_map(u32::to_ne_bytes).collect()
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu {
    use burn::backend::{Backend, DispatchKindConversion, DispatchTensor};
    use burn::tensor::Tensor;
    use burn_cubecl::CubeRuntime;

    use crate::kernels::cube::pixels::{Finish, Normalise};
    use crate::kernels::cube::{Queued, launch};
    use crate::tape::primitive;

    pub(super) fn images<B, R>(
        words: Tensor<2>,
        constants: Tensor<2>,
        steps: Option<Tensor<2>>,
        size: [usize; 3],
    ) -> Tensor<4>
    where
        B: Backend<FloatTensorPrimitive = Queued<R>>,
        R: CubeRuntime,
        DispatchTensor: DispatchKindConversion<B>,
    {
        let [images] = match steps {
            None => launch(Normalise { size }, [words, constants].map(primitive::<B, 2>)),
            Some(steps) => launch(Finish { size }, [words, constants, steps].map(primitive::<B, 2>)),
        };
        Tensor::from_primitive::<B>(images)
    }
}
