//! What is done to all parameters at once: an optimizer's step with the average of the weights, sums of squares, and sums of gradients.
//!
//! A kernel takes many tensors at a time, each with a binding of its own. What nobody else sees is written in place.

mod kernels;
mod steps;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::cubecl::prelude::*;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::Form;
use super::many::ListOperation;
use crate::kernels::parameters::plan::{BLEND, CAST, CHUNK, SCALE, SQUARES, sums_of_squares};

pub(crate) use steps::Move;

const UNITS: u32 = 256;

/// Tensors bound at most. CUDA before 12.1 hands a kernel 4 KiB of parameters at most, eight bytes to a pointer; and the code of a kernel grows with
/// each tensor.
const MOST_BINDINGS: usize = 128;

/// Bindings that go to what is not a tensor of the list.
const OTHER_BINDINGS: usize = 3;

/// Sums of squares whose sum is that over all tensors: one output, `[parts]`.
#[derive(Debug)]
pub(crate) struct Squares;

impl ListOperation for Squares {
    const NAME: &'static str = SQUARES;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        vec![sums_of_squares(inputs.iter().map(|(shape, _)| shape.num_elements()))]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let tensors: Vec<_> = inputs.into_iter().map(into_contiguous).collect();
        let (client, device) = (tensors[0].client.clone(), tensors[0].device.clone());
        let (shape, dtype) = sums_of_squares(tensors.iter().map(|tensor| tensor.meta.num_elements()));
        let sums = empty_device_contiguous_dtype(client, device, shape, dtype);
        let mut first_sum = 0;
        for part in tensors.chunks(tensors_at_once(&tensors, 1)) {
            // SAFETY: units stay below the length of their tensor, and each cube that has one writes the sum of its own.
            unsafe {
                kernels::squares::launch_unchecked(
                    &part[0].client,
                    cube_count(part),
                    CubeDim::new_1d(UNITS),
                    address_type(part),
                    arguments(part),
                    sums.clone().into_buffer_arg(),
                    first_sum,
                    CHUNK,
                    UNITS as usize,
                );
            }
            first_sum += cubes_of(part) as u32;
        }
        vec![sums]
    }
}

/// `own * kept + other * share`. Inputs are all own tensors and then all others; outputs are the own ones.
#[derive(Debug)]
pub(crate) struct Blend {
    pub(crate) kept: f64,
    pub(crate) share: f64,
}

impl ListOperation for Blend {
    const NAME: &'static str = BLEND;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        inputs[..inputs.len() / 2].to_vec()
    }

    fn run<R: CubeRuntime>(&self, mut inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let other: Vec<_> = inputs.split_off(inputs.len() / 2).into_iter().map(into_contiguous).collect();
        let own: Vec<_> = inputs.into_iter().map(alone).collect();
        let at_once = tensors_at_once(&own, 2);
        for (own, other) in own.chunks(at_once).zip(other.chunks(at_once)) {
            // SAFETY: units stay below the length of the other tensor, which is that of the own one.
            unsafe {
                kernels::blend::launch_unchecked(
                    &own[0].client,
                    cube_count(own),
                    CubeDim::new_1d(UNITS),
                    address_type(own),
                    arguments(own),
                    arguments(other),
                    self.kept as f32,
                    self.share as f32,
                    CHUNK,
                );
            }
        }
        own
    }
}

/// Every number times the factor.
#[derive(Debug)]
pub(crate) struct Scale(pub(crate) f64);

impl ListOperation for Scale {
    const NAME: &'static str = SCALE;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        inputs.to_vec()
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let tensors: Vec<_> = inputs.into_iter().map(alone).collect();
        for part in tensors.chunks(tensors_at_once(&tensors, 1)) {
            // SAFETY: units stay below the length of their tensor.
            unsafe {
                kernels::scale::launch_unchecked(
                    &part[0].client,
                    cube_count(part),
                    CubeDim::new_1d(UNITS),
                    address_type(part),
                    arguments(part),
                    self.0 as f32,
                    CHUNK,
                );
            }
        }
        tensors
    }
}

/// Every number in another type, in other memory.
#[derive(Debug)]
pub(crate) struct Cast(pub(crate) DType);

impl ListOperation for Cast {
    const NAME: &'static str = CAST;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        inputs.iter().map(|(shape, _)| (shape.clone(), self.0)).collect()
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let mut outputs = Vec::with_capacity(inputs.len());
        let at_once = tensors_at_once(&inputs, 2);
        let mut inputs = inputs.into_iter().map(into_contiguous).peekable();
        // What a launch has read is gone before the next finds memory for what it writes.
        while inputs.peek().is_some() {
            let part: Vec<_> = inputs.by_ref().take(at_once).collect();
            let cast = part.iter().map(|tensor| {
                let (client, device) = (tensor.client.clone(), tensor.device.clone());
                empty_device_contiguous_dtype(client, device, tensor.meta.shape().clone(), self.0)
            });
            let cast: Vec<_> = cast.collect();
            // SAFETY: units stay below the length of their tensor, and both of a pair have one.
            unsafe {
                kernels::convert::launch_unchecked(
                    &part[0].client,
                    cube_count(&part),
                    CubeDim::new_1d(UNITS),
                    address_type(&part),
                    part.iter().map(|tensor| tensor.clone().into_tensor_arg()).collect(),
                    cast.iter().map(|tensor| tensor.clone().into_tensor_arg()).collect(),
                    CHUNK,
                    dtype_to_storage_type(part[0].dtype),
                    dtype_to_storage_type(self.0),
                );
            }
            outputs.extend(cast);
        }
        outputs
    }
}

/// The tensor in memory that nobody else sees, in order.
fn alone<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// Parameters of one launch, of which each has so many tensors.
fn tensors_at_once<R: CubeRuntime>(tensors: &[CubeTensor<R>], each: usize) -> usize {
    let bindings = tensors.first().map_or(0, |tensor| tensor.client.properties().hardware.max_bindings as usize);
    (bindings.min(MOST_BINDINGS).saturating_sub(OTHER_BINDINGS) / each).max(1)
}

fn cubes_of<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> usize {
    tensors.iter().map(|tensor| tensor.meta.num_elements().div_ceil(CHUNK)).sum()
}

fn cube_count<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> CubeCount {
    let most = tensors[0].client.properties().hardware.max_cube_count.0 as usize;
    match cubes_of(tensors) {
        cubes if cubes <= most => CubeCount::new_1d(cubes as u32),
        cubes => CubeCount::new_2d(most as u32, cubes.div_ceil(most) as u32),
    }
}

fn arguments<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> SequenceArg<R, OwnedTensor<f32>> {
    tensors.iter().map(|tensor| tensor.clone().into_tensor_arg()).collect()
}

fn address_type<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}
