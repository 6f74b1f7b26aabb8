//! Bytes of pixels to normalised images, a unit a number.

use burn::cubecl;
use burn::cubecl::prelude::*;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::tensors::{address_type, cube_count, empty};
use super::{CubeOperation, Form};
use crate::kernels::pixels::{PIXELS, form};

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

/// Words are read as what they are, four bytes, which in the register of a float might be taken for one that is not normal.
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
    let word = words[(plane / channels * of_image + source / 4) as usize];
    let byte = (word >> (8 * (source % 4))) & 255;
    let factor = constants[channel as usize];
    let summand = constants[(channels + channel) as usize];
    images[place as usize] = f32::cast_from(byte) * factor + summand;
}
