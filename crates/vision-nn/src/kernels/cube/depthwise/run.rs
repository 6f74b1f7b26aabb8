//! From tensors to launched kernels.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::cubecl::prelude::*;
use burn::cubecl::{calculate_cube_count_elemwise, tensor_vector_size_parallel};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cpu_kernels::StridedDepthwise;

use super::convolve::convolve;
use super::correlate::{UNITS_OF_A_CUBE, correlate_chunks, strips_of, sum_chunks};
use super::spread::spread;
use crate::kernels::cube::tensors::{address_type, empty, in_f32};
use crate::kernels::depthwise::plan::{chunks_of, map_shape, output_shape, parameter_forms};

/// Vectors of four: a plane of 32 units then reads 512 bytes of f32 or 256 of half precision at once, and a row of sums still fits in registers.
const LARGEST_VECTOR: usize = 4;

pub(super) fn forward<R: CubeRuntime>(
    windows: &StridedDepthwise,
    map: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
) -> CubeTensor<R> {
    let (map, weight) = (with_adjacent_channels(map), in_f32(weight));
    let bias = bias.map(in_f32);
    let output = empty(&map, output_shape(windows), map.dtype);
    let size = vector_size(&[&map, &output]);
    let [height, width] = windows.output;
    let (vectors, columns) = (windows.shape.channels / size, columns_of_a_unit(width, 1));
    let runs = width.div_ceil(columns);
    let all_runs = windows.shape.batch * height * runs;
    let Some(blocks) = Blocks::of(&map, vectors, all_runs) else {
        return output;
    };
    let (has_bias, storage) = (bias.is_some(), dtype_to_storage_type(map.dtype));
    // SAFETY: units past the last leave at once, and reads and writes are held to the rows and columns of their tensors.
    unsafe {
        convolve::launch_unchecked(
            &output.client,
            blocks.count,
            blocks.cube,
            address_type(&[&map, &output]),
            size,
            map.into_tensor_arg(),
            weight.clone().into_tensor_arg(),
            bias.unwrap_or(weight).into_tensor_arg(),
            output.clone().into_tensor_arg(),
            blocks.of_channels as u32,
            runs as u32,
            height as u32,
            vectors as u32,
            all_runs as u32,
            windows.before[0] as i32,
            windows.before[1] as i32,
            windows.shape.kernel,
            windows.stride,
            columns,
            blocks.lanes,
            has_bias,
            storage,
        );
    }
    output
}

pub(super) fn map_gradient<R: CubeRuntime>(
    windows: &StridedDepthwise,
    weight: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    let (gradient, weight) = (with_adjacent_channels(gradient), in_f32(weight));
    let of_map = empty(&gradient, map_shape(windows), gradient.dtype);
    let size = vector_size(&[&gradient, &of_map]);
    let (shape, stride, [top, left]) = (windows.shape, windows.stride, windows.before);
    let (vectors, places) = (shape.channels / size, left % stride + shape.width);
    let columns = columns_of_a_unit(places, stride);
    let runs = places.div_ceil(columns);
    let all_runs = shape.batch * shape.height * runs;
    let Some(blocks) = Blocks::of(&gradient, vectors, all_runs) else {
        return of_map;
    };
    let storage = dtype_to_storage_type(gradient.dtype);
    // SAFETY: as in `forward`.
    unsafe {
        spread::launch_unchecked(
            &of_map.client,
            blocks.count,
            blocks.cube,
            address_type(&[&gradient, &of_map]),
            size,
            gradient.into_tensor_arg(),
            weight.into_tensor_arg(),
            of_map.clone().into_tensor_arg(),
            blocks.of_channels as u32,
            runs as u32,
            shape.height as u32,
            vectors as u32,
            all_runs as u32,
            top as u32,
            left as u32,
            shape.kernel,
            stride,
            columns,
            blocks.lanes,
            storage,
        );
    }
    of_map
}

/// The gradients of weight and bias.
pub(super) fn parameter_gradients<R: CubeRuntime>(
    windows: &StridedDepthwise,
    map: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> [CubeTensor<R>; 2] {
    let partial = chunk_sums(windows, with_adjacent_channels(map), with_adjacent_channels(gradient));
    let (channels, kernel) = (windows.shape.channels, windows.shape.kernel);
    let (taps, sums) = (kernel * kernel, (kernel * kernel + 1) * channels);
    let [of_weight, of_bias] = parameter_forms(windows).map(|(shape, dtype)| empty(&partial, shape, dtype));
    let strips = strips_of(partial.meta.shape()[0]);
    let cube = CubeDim::new_2d(UNITS_OF_A_CUBE / strips, strips);
    let units = sums.next_multiple_of(cube.x as usize) * strips as usize;
    // SAFETY: units past the last sum neither read nor write.
    unsafe {
        sum_chunks::launch_unchecked(
            &of_weight.client,
            calculate_cube_count_elemwise(&of_weight.client, units, cube),
            cube,
            address_type(&[&partial]),
            partial.into_tensor_arg(),
            of_weight.clone().into_tensor_arg(),
            of_bias.clone().into_tensor_arg(),
            channels as u32,
            sums as u32,
            taps as u32,
            strips,
        );
    }
    [of_weight, of_bias]
}

/// `[chunks, k k + 1, C]`: what each chunk of rows adds to the gradients of the taps and of the bias.
fn chunk_sums<R: CubeRuntime>(
    windows: &StridedDepthwise,
    map: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    let (shape, [height, width]) = (windows.shape, windows.output);
    let chunks = chunks_of(windows);
    let form = Shape::new([chunks.count, shape.kernel * shape.kernel + 1, shape.channels]);
    let partial = empty(&map, form, DType::F32);
    let size = vector_size(&[&map, &gradient]);
    let vectors = shape.channels / size;
    let Some(grid) = Grid::of(&map, chunks.count * shape.kernel * vectors) else {
        return partial;
    };
    let storage = dtype_to_storage_type(map.dtype);
    // SAFETY: as in `forward`; the rows of a chunk end with those of the outputs.
    unsafe {
        correlate_chunks::launch_unchecked(
            &partial.client,
            grid.count,
            grid.cube,
            address_type(&[&map, &gradient, &partial]),
            size,
            map.into_tensor_arg(),
            gradient.into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            vectors as u32,
            height as u32,
            grid.units as u32,
            chunks.rows_each as u32,
            chunks.longer as u32,
            windows.before[0] as u32,
            windows.before[1] as i32,
            shape.kernel,
            windows.stride,
            columns_of_a_unit(width, 1),
            storage,
        );
    }
    partial
}

/// Cubes whose units have a few vectors of channels, the same for all of the cube, and many stretches of rows.
struct Blocks {
    /// Vectors of channels of a cube.
    lanes: usize,
    /// Cubes that have all channels among them.
    of_channels: usize,
    cube: CubeDim,
    count: CubeCount,
}

impl Blocks {
    /// None where there is nothing to do.
    fn of<R: CubeRuntime>(tensor: &CubeTensor<R>, vectors: usize, all_runs: usize) -> Option<Self> {
        // Eight vectors of f32 are a line of the cache; 256 units are as many as every WebGPU has.
        let lanes = vectors.clamp(1, 8);
        let (of_channels, cube) = (vectors.div_ceil(lanes), CubeDim::new_2d(lanes as u32, 32));
        let units = of_channels * all_runs.next_multiple_of(32) * lanes;
        let count = calculate_cube_count_elemwise(&tensor.client, units, cube);
        (units > 0).then_some(Self { lanes, of_channels, cube, count })
    }
}

/// Cubes enough for a number of units, one a place of the output.
struct Grid {
    units: usize,
    cube: CubeDim,
    count: CubeCount,
}

impl Grid {
    /// None where there is nothing to do.
    fn of<R: CubeRuntime>(tensor: &CubeTensor<R>, units: usize) -> Option<Self> {
        let cube = CubeDim::new(&tensor.client, units.max(1));
        let count = calculate_cube_count_elemwise(&tensor.client, units, cube);
        (units > 0).then_some(Self { units, cube, count })
    }
}

/// How many neighbouring outputs of a row a unit makes: as many as a row has, up to eight, or else as leave the fewest places empty at its end.
/// A multiple of `stride`.
fn columns_of_a_unit(width: usize, stride: usize) -> usize {
    let candidates = (4..=8).rev().filter(|columns| columns % stride == 0);
    let fewest = candidates.min_by_key(|columns| width.next_multiple_of(*columns)).unwrap_or(stride);
    fewest.min(width.max(1).next_multiple_of(stride))
}

/// The tensor, in other memory only where its channels do not lie side by side.
fn with_adjacent_channels<R: CubeRuntime>(map: CubeTensor<R>) -> CubeTensor<R> {
    if map.meta.strides()[3] == 1 { map } else { into_contiguous(map) }
}

/// The largest vectors of channels in which all of these maps can be read and written.
fn vector_size<R: CubeRuntime>(maps: &[&CubeTensor<R>]) -> usize {
    let of = |map: &&CubeTensor<R>| {
        let sizes = map.client.io_optimized_vector_sizes(map.dtype.size()).filter(|size| *size <= LARGEST_VECTOR);
        tensor_vector_size_parallel(sizes, map.meta.shape(), map.meta.strides(), 3)
    };
    maps.iter().map(of).min().unwrap_or(1)
}
