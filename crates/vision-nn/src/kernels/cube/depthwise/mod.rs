//! Depthwise convolution over channels-last maps: a kernel each for the output, for the gradient of the map, and for those of weight and bias.
//!
//! Sums are made in f32 whatever the maps are stored in, and nothing is added atomically: the same input gives the same bits.

mod convolve;
mod window;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::cubecl::prelude::*;
use burn::cubecl::{calculate_cube_count_elemwise, tensor_vector_size_parallel};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::ops::permute;
use burn_cubecl::tensor::CubeTensor;
use cpu_kernels::StridedDepthwise;

use super::{CubeOperation, Form};

/// Vectors of four: a plane of 32 units then reads 512 bytes of f32 or 256 of half precision at once, and a row of sums still fits in registers.
const LARGEST_VECTOR: usize = 4;

/// Kernels up to this side are written out in registers.
const LARGEST_KERNEL: usize = 7;

/// Whether the kernels of this file run on such windows and types; what they do not cover is composed of Burn's own operations.
pub(crate) fn covers(windows: &StridedDepthwise, storage: DType) -> bool {
    let shape = windows.shape;
    let is_centred = |axis: usize, size: usize| {
        windows.before[axis] < shape.kernel && (windows.output[axis].max(1) - 1) * windows.stride < size
    };
    matches!(storage, DType::F32 | DType::F16 | DType::BF16)
        && shape.kernel <= LARGEST_KERNEL
        && (1..=2).contains(&windows.stride)
        && is_centred(0, shape.height)
        && is_centred(1, shape.width)
}

/// The convolution of a map `[B, H, W, C]` by a weight `[C, 1, k, k]`, without a bias: `[B, H', W', C]` in the type of the map.
#[derive(Debug)]
pub(crate) struct Forward(pub(crate) StridedDepthwise);

/// The same with a bias, `[C]`.
#[derive(Debug)]
pub(crate) struct BiasedForward(pub(crate) StridedDepthwise);

impl CubeOperation<2, 1> for Forward {
    const NAME: &'static str = "depthwise";

    fn outputs(&self, [map, _]: [Form; 2]) -> [Form; 1] {
        [(output_shape(&self.0), map.1)]
    }

    fn run<R: CubeRuntime>(&self, [map, weight]: [CubeTensor<R>; 2]) -> [CubeTensor<R>; 1] {
        [forward(&self.0, map, weight, None)]
    }
}

impl CubeOperation<3, 1> for BiasedForward {
    const NAME: &'static str = "biased depthwise";

    fn outputs(&self, [map, ..]: [Form; 3]) -> [Form; 1] {
        [(output_shape(&self.0), map.1)]
    }

    fn run<R: CubeRuntime>(&self, [map, weight, bias]: [CubeTensor<R>; 3]) -> [CubeTensor<R>; 1] {
        [forward(&self.0, map, weight, Some(bias))]
    }
}

fn output_shape(windows: &StridedDepthwise) -> Shape {
    let [height, width] = windows.output;
    Shape::new([windows.shape.batch, height, width, windows.shape.channels])
}

fn forward<R: CubeRuntime>(
    windows: &StridedDepthwise,
    map: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
) -> CubeTensor<R> {
    let (map, weight) = (with_adjacent_channels(map), taps_by_channel(weight));
    let bias = bias.map(|bias| into_contiguous(cast(bias, DType::F32)));
    let output = empty_device_dtype(map.client.clone(), map.device.clone(), output_shape(windows), map.dtype);
    let size = vector_size(&[&map, &output]);
    let [height, width] = windows.output;
    let (vectors, columns) = (windows.shape.channels / size, columns_of_a_unit(width, 1));
    let runs = width.div_ceil(columns);
    let units = windows.shape.batch * height * runs * vectors;
    if units == 0 {
        return output;
    }
    let cube = CubeDim::new(&map.client, units);
    let (has_bias, storage) = (bias.is_some(), dtype_to_storage_type(map.dtype));
    // SAFETY: units past the last leave at once, and reads and writes are held to the rows and columns of their tensors.
    unsafe {
        convolve::convolve::launch_unchecked(
            &map.client.clone(),
            calculate_cube_count_elemwise(&map.client, units, cube),
            cube,
            address_type(&[&map, &output]),
            size,
            map.into_tensor_arg(),
            weight.clone().into_tensor_arg(),
            bias.unwrap_or(weight).into_tensor_arg(),
            output.clone().into_tensor_arg(),
            vectors as u32,
            runs as u32,
            height as u32,
            units as u32,
            windows.before[0] as i32,
            windows.before[1] as i32,
            windows.shape.kernel,
            windows.stride,
            columns,
            has_bias,
            storage,
        );
    }
    output
}

/// How many neighbouring outputs of a row a unit makes: as many as a row has, up to eight, or else as leave the fewest places empty at its end.
/// A multiple of `stride`.
fn columns_of_a_unit(width: usize, stride: usize) -> usize {
    let most = 8 - 8 % stride;
    let candidates = (4..=most).rev().filter(|columns| columns % stride == 0);
    let fewest = candidates.min_by_key(|columns| width.next_multiple_of(*columns)).unwrap_or(stride);
    fewest.min(width.max(1).next_multiple_of(stride))
}

/// The tensor, in other memory only where its channels do not lie side by side.
fn with_adjacent_channels<R: CubeRuntime>(map: CubeTensor<R>) -> CubeTensor<R> {
    if map.meta.strides()[3] == 1 { map } else { into_contiguous(map) }
}

/// `[C, 1, k, k]` to `[k, k, 1, C]` in f32, so that the taps of neighbouring channels are one stretch of memory.
fn taps_by_channel<R: CubeRuntime>(weight: CubeTensor<R>) -> CubeTensor<R> {
    into_contiguous(permute(cast(weight, DType::F32), &[2, 3, 1, 0]))
}

/// The largest vectors of channels in which all of these maps can be read and written.
fn vector_size<R: CubeRuntime>(maps: &[&CubeTensor<R>]) -> usize {
    let of = |map: &&CubeTensor<R>| {
        let sizes = map.client.io_optimized_vector_sizes(map.dtype.size()).filter(|size| *size <= LARGEST_VECTOR);
        tensor_vector_size_parallel(sizes, map.meta.shape(), map.meta.strides(), 3)
    };
    maps.iter().map(of).min().unwrap_or(1)
}

fn address_type<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}
