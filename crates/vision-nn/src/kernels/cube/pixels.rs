//! Bytes of pixels to normalised images, a unit a number; with the last steps of augmentation or, which is less to ask for, without.

use burn::cubecl;
use burn::cubecl::prelude::*;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::tensors::{address_type, cube_count, empty};
use super::{CubeOperation, Form};
use crate::kernels::pixels::{FINISHED_PIXELS, PIXELS, form};

/// Units of a cube: as many as every WebGPU has.
const UNITS: u32 = 256;

/// Images `[B, C, H, W]` of words `[B, W]` that hold pixels `[H, W, C]`, and of constants `[2, C]`.
#[derive(Debug)]
pub(crate) struct Normalise {
    /// `[H, W, C]`
    pub(crate) size: [usize; 3],
}

impl CubeOperation<2, 1> for Normalise {
    const NAME: &'static str = PIXELS;

    fn outputs(&self, [(words, _), _]: [Form; 2]) -> [Form; 1] {
        [form(words[0], self.size)]
    }

    fn run<R: CubeRuntime>(&self, [words, constants]: [CubeTensor<R>; 2]) -> [CubeTensor<R>; 1] {
        let [height, width, channels] = self.size;
        let [words, constants] = [words, constants].map(into_contiguous);
        let [batch, of_image] = words.meta.shape().dims();
        let (shape, dtype) = form(batch, self.size);
        let count = shape.num_elements();
        let images = empty(&words, shape, dtype);
        // SAFETY: units past the last number leave at once, and each image has words for all of its pixels.
        unsafe {
            normalise::launch_unchecked(
                &words.client.clone(),
                cube_count(&words, count.div_ceil(UNITS as usize)),
                CubeDim::new_1d(UNITS),
                address_type(&[&words, &images]),
                words.into_tensor_arg(),
                constants.into_tensor_arg(),
                images.clone().into_tensor_arg(),
                count as u32,
                (height * width) as u32,
                of_image as u32,
                channels as u32,
            );
        }
        [images]
    }
}

/// The same, with steps `[B, 12]` in the third place.
#[derive(Debug)]
pub(crate) struct Finish {
    /// `[H, W, C]`
    pub(crate) size: [usize; 3],
}

impl CubeOperation<3, 1> for Finish {
    const NAME: &'static str = FINISHED_PIXELS;

    fn outputs(&self, [(words, _), ..]: [Form; 3]) -> [Form; 1] {
        [form(words[0], self.size)]
    }

    fn run<R: CubeRuntime>(&self, [words, constants, steps]: [CubeTensor<R>; 3]) -> [CubeTensor<R>; 1] {
        let [height, width, channels] = self.size;
        let [words, constants, steps] = [words, constants, steps].map(into_contiguous);
        let [batch, of_image] = words.meta.shape().dims();
        let (shape, dtype) = form(batch, self.size);
        let count = shape.num_elements();
        let images = empty(&words, shape, dtype);
        // SAFETY: as in `Normalise`, and steps were checked to stay within the batch and its images before they were written.
        unsafe {
            finish::launch_unchecked(
                &words.client.clone(),
                cube_count(&words, count.div_ceil(UNITS as usize)),
                CubeDim::new_1d(UNITS),
                address_type(&[&words, &images]),
                words.into_tensor_arg(),
                constants.into_tensor_arg(),
                steps.into_tensor_arg(),
                images.clone().into_tensor_arg(),
                count as u32,
                height as u32,
                width as u32,
                of_image as u32,
                channels as u32,
            );
        }
        [images]
    }
}

/// A byte of an image. Words are read as what they are, four bytes, which in the register of a float might be taken for one that is not normal.
#[cube]
fn read(words: &Tensor<u32>, image: u32, of_image: u32, source: u32) -> u32 {
    let word = words[(image * of_image + source / 4) as usize];
    (word >> (8 * (source % 4))) & 255
}

/// The number of a byte in a channel.
#[cube]
fn number_of(byte: u32, constants: &Tensor<f32>, channel: u32, channels: u32) -> f32 {
    let factor = constants[channel as usize];
    let summand = constants[(channels + channel) as usize];
    f32::cast_from(byte) * factor + summand
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn normalise(
    words: &Tensor<u32>,
    constants: &Tensor<f32>,
    images: &mut Tensor<f32>,
    count: u32,
    area: u32,
    of_image: u32,
    channels: u32,
) {
    let place = ABSOLUTE_POS as u32;
    if place >= count {
        terminate!();
    }
    let plane = place / area;
    let channel = plane % channels;
    let source = place % area * channels + channel;
    let byte = read(words, plane / channels, of_image, source);
    images[place as usize] = number_of(byte, constants, channel, channels);
}

/// Where a number of an image is.
#[derive(CubeType)]
struct Place {
    y: u32,
    x: u32,
    channel: u32,
    height: u32,
    width: u32,
    channels: u32,
    /// Words of an image.
    of_image: u32,
}

/// As [`normalise`], of the byte that the image's steps leave at a place. See `numbers_of` for how they are written.
#[cube(launch_unchecked, address_type = "dynamic")]
fn finish(
    words: &Tensor<u32>,
    constants: &Tensor<f32>,
    steps: &Tensor<u32>,
    images: &mut Tensor<f32>,
    count: u32,
    height: u32,
    width: u32,
    of_image: u32,
    channels: u32,
) {
    let at = ABSOLUTE_POS as u32;
    if at >= count {
        terminate!();
    }
    let plane = at / (height * width);
    let y = at / width % height;
    let x = at % width;
    let image = plane / channels;
    let channel = plane % channels;
    let place = Place { y, x, channel, height, width, channels, of_image };
    let mut byte = byte_of(words, steps, image, &place);
    let list = (image * 12) as usize;
    if y >= steps[list + 8] && y < steps[list + 9] && x >= steps[list + 10] && x < steps[list + 11] {
        let partner = steps[list + 6];
        let weight = steps[list + 7];
        let other = byte_of(words, steps, partner, &place);
        byte = (byte * (32_768 - weight) + other * weight + 16_384) >> 15;
    }
    images[at as usize] = number_of(byte, constants, channel, channels);
}

/// The byte of an image that is turned and partly hidden, but not mixed.
#[cube]
fn byte_of(words: &Tensor<u32>, steps: &Tensor<u32>, image: u32, place: &Place) -> u32 {
    let list = (image * 12) as usize;
    let symmetry = steps[list];
    let column = select((symmetry & 1) == 1, place.width - 1 - place.x, place.x);
    let row = select((symmetry & 2) == 2, place.height - 1 - place.y, place.y);
    let pixel = select((symmetry & 4) == 4, column * place.width + row, row * place.width + column);
    let source = pixel * place.channels + place.channel;
    let mut byte = read(words, image, place.of_image, source);
    let is_in_rows = place.y >= steps[list + 2] && place.y < steps[list + 3];
    if is_in_rows && place.x >= steps[list + 4] && place.x < steps[list + 5] {
        byte = (steps[list + 1] >> (8 * place.channel)) & 255;
    }
    byte
}
