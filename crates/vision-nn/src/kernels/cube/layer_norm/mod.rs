//! Layer normalisation over the last axis: one kernel forward, two backward.
//!
//! The backward pass finds mean and variance of a row again. It must read the row in any case and has it in registers, so that numbers kept for each
//! row would save no memory traffic.

mod backward;
mod forward;
mod rows;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::cubecl::ir::features::Plane;
use burn::cubecl::prelude::*;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::tensors::{address_type, cube_count, empty, in_f32, like};
use super::{CubeOperation, Form};
use crate::kernels::layer_norm::{LAYER_NORM, LAYER_NORM_GRADIENTS, LINES, gradient_cubes};

/// Units that share a row, where the device has no planes of at least so many, or planes of several sizes.
const UNITS: u32 = 32;

/// The normalised rows of input `[.., C]` by weight and bias `[C]`, with the number added to the variance.
#[derive(Debug)]
pub(crate) struct Forward(pub(crate) f32);

/// The gradients of input, weight and bias, of input, weight and the output's gradient.
#[derive(Debug)]
pub(crate) struct Backward(pub(crate) f32);

impl CubeOperation<3, 1> for Forward {
    const NAME: &'static str = LAYER_NORM;

    fn outputs(&self, [input, ..]: [Form; 3]) -> [Form; 1] {
        [input]
    }

    fn run<R: CubeRuntime>(&self, [input, weight, bias]: [CubeTensor<R>; 3]) -> [CubeTensor<R>; 1] {
        let input = in_even_rows(input);
        let [weight, bias] = [weight, bias].map(in_f32);
        let output = like(&input);
        let (rows, lines) = (Rows::of(&[&input]), Lines::of(&input));
        let (cubes, storage) = (rows.count.div_ceil(LINES), dtype_to_storage_type(input.dtype));
        let input_step = rows.step_of(&input);
        // SAFETY: units read and write the vectors of rows and channels that there are, and no others.
        unsafe {
            forward::normalise::launch_unchecked(
                &input.client.clone(),
                cube_count(&input, cubes),
                lines.cube,
                address_type(&[&input]),
                rows.vector_size,
                input.into_tensor_arg(),
                weight.into_tensor_arg(),
                bias.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                rows.count as u32,
                input_step as u32,
                self.0,
                rows.vectors,
                rows.steps(&lines),
                lines.shared_numbers(),
                lines.has_planes,
                storage,
            );
        }
        [output]
    }
}

impl CubeOperation<3, 3> for Backward {
    const NAME: &'static str = LAYER_NORM_GRADIENTS;

    fn outputs(&self, [input, weight, _]: [Form; 3]) -> [Form; 3] {
        let parameter = (weight.0, DType::F32);
        [input, parameter.clone(), parameter]
    }

    fn run<R: CubeRuntime>(&self, [input, weight, gradient]: [CubeTensor<R>; 3]) -> [CubeTensor<R>; 3] {
        let [input, gradient] = [input, gradient].map(in_even_rows);
        let weight = in_f32(weight);
        let [of_weight, of_bias] = [like(&weight), like(&weight)];
        let (rows, lines) = (Rows::of(&[&input, &gradient]), Lines::of(&input));
        let cubes = gradient_cubes(rows.count);
        let partial = empty(&weight, Shape::new([cubes, 2, rows.vectors * rows.vector_size]), DType::F32);
        let of_input = self.launch_input(&rows, &lines, [input, weight, gradient], partial.clone());
        launch_parameters(&rows, partial, [of_weight.clone(), of_bias.clone()]);
        [of_input, of_weight, of_bias]
    }
}

impl Backward {
    fn launch_input<R: CubeRuntime>(
        &self,
        rows: &Rows,
        lines: &Lines,
        [input, weight, gradient]: [CubeTensor<R>; 3],
        partial: CubeTensor<R>,
    ) -> CubeTensor<R> {
        let output = like(&input);
        let cubes = partial.meta.shape()[0];
        let (all_lines, storage) = (cubes * LINES, dtype_to_storage_type(input.dtype));
        let [input_step, gradient_step] = [&input, &gradient].map(|map| rows.step_of(map) as u32);
        // SAFETY: units read and write the vectors of rows, channels and cubes that there are, and no others.
        unsafe {
            backward::input_gradient::launch_unchecked(
                &input.client.clone(),
                CubeCount::new_1d(cubes as u32),
                lines.cube,
                address_type(&[&input, &gradient]),
                rows.vector_size,
                input.into_tensor_arg(),
                weight.into_tensor_arg(),
                gradient.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                partial.into_tensor_arg(),
                rows.count as u32,
                all_lines as u32,
                rows.count.div_ceil(all_lines) as u32,
                input_step,
                gradient_step,
                self.0,
                rows.vectors,
                rows.steps(lines),
                lines.shared_numbers(),
                lines.has_planes,
                storage,
            );
        }
        output
    }
}

/// Adds up what the cubes have left in `partial`.
fn launch_parameters<R: CubeRuntime>(rows: &Rows, partial: CubeTensor<R>, [of_weight, of_bias]: [CubeTensor<R>; 2]) {
    // Few columns, each with many cubes to add up: 96 channels are 48 vectors of both gradients.
    const COLUMNS: u32 = 8;
    const SHARERS: u32 = 32;
    let cubes = partial.meta.shape()[0];
    let columns = 2 * rows.vectors;
    // SAFETY: units read and write the vectors of cubes and channels that there are, and no others.
    unsafe {
        backward::parameter_gradients::launch_unchecked(
            &partial.client.clone(),
            CubeCount::new_1d(columns.div_ceil(COLUMNS as usize) as u32),
            CubeDim::new_2d(COLUMNS, SHARERS),
            address_type(&[&partial]),
            rows.vector_size,
            partial.into_tensor_arg(),
            of_weight.into_tensor_arg(),
            of_bias.into_tensor_arg(),
            cubes as u32,
            rows.vectors,
            (COLUMNS * SHARERS) as usize,
        );
    }
}

/// How rows are read.
struct Rows {
    count: usize,
    vector_size: usize,
    /// In a row.
    vectors: usize,
}

impl Rows {
    /// Of maps of one shape and type, each [in even rows](in_even_rows).
    fn of<R: CubeRuntime>(maps: &[&CubeTensor<R>]) -> Self {
        let input = maps[0];
        let channels = channels_of(input.meta.shape());
        let fits = |size: usize| maps.iter().all(|map| step_in_numbers(map).is_multiple_of(size));
        let sizes = input.client.io_optimized_vector_sizes(input.dtype.size());
        // Weight and sums are f32, of which a vector has at most four.
        let sizes = sizes.filter(|size| *size <= 4 && channels.is_multiple_of(*size) && fits(*size));
        let vector_size = sizes.max().unwrap_or(1);
        Self { count: input.meta.shape().num_elements() / channels, vector_size, vectors: channels / vector_size }
    }

    /// Vectors from the start of a row to that of the next.
    fn step_of<R: CubeRuntime>(&self, map: &CubeTensor<R>) -> usize {
        step_in_numbers(map) / self.vector_size
    }

    /// Vectors of a row that a unit has.
    fn steps(&self, lines: &Lines) -> usize {
        self.vectors.div_ceil(lines.cube.x as usize)
    }
}

/// The cubes that work on rows.
struct Lines {
    cube: CubeDim,
    has_planes: bool,
}

impl Lines {
    fn of<R: CubeRuntime>(input: &CubeTensor<R>) -> Self {
        let properties = input.client.properties();
        let (least, most) = (properties.hardware.plane_size_min, properties.hardware.plane_size_max);
        let has_planes = properties.features.plane.contains(Plane::Ops) && least == most && least >= UNITS;
        let units = if has_planes { least } else { UNITS };
        Self { cube: CubeDim::new_2d(units, LINES as u32), has_planes }
    }

    /// Numbers that the units of a cube share while they sum up.
    fn shared_numbers(&self) -> usize {
        if self.has_planes { 1 } else { (self.cube.x * self.cube.y) as usize }
    }
}

/// The map, in other memory only where its rows do not follow each other at one distance: CUDA makes rows of its own longer, up to multiples of 512
/// bytes.
fn in_even_rows<R: CubeRuntime>(map: CubeTensor<R>) -> CubeTensor<R> {
    if has_even_rows(map.meta.shape(), map.meta.strides()) { map } else { into_contiguous(map) }
}

/// Whether the numbers of a row lie side by side, and rows at one distance from each other, which is no less than their length.
fn has_even_rows(shape: &[usize], strides: &[usize]) -> bool {
    let Some(last) = shape.len().checked_sub(1) else { return false };
    let step = step_of(shape, strides);
    let mut expected = step;
    let are_even = (0..last).rev().filter(|&axis| shape[axis] != 1).all(|axis| {
        let is_even = strides[axis] == expected;
        expected *= shape[axis];
        is_even
    });
    are_even && step >= shape[last] && (strides[last] == 1 || shape[last] == 1)
}

fn step_in_numbers<R: CubeRuntime>(map: &CubeTensor<R>) -> usize {
    step_of(map.meta.shape(), map.meta.strides())
}

/// Numbers from the start of a row to that of the next; the length of a row where there is only one.
fn step_of(shape: &[usize], strides: &[usize]) -> usize {
    let Some(last) = shape.len().checked_sub(1) else { return 0 };
    let innermost = (0..last).rev().find(|&axis| shape[axis] != 1);
    innermost.map_or(shape[last], |axis| strides[axis])
}

fn channels_of(shape: &Shape) -> usize {
    shape.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_even_in_order_with_gaps_between_them_and_in_parts_of_longer_rows() {
        for (shape, strides, step) in [
            (vec![2, 3, 5], vec![15, 5, 1], 5),
            (vec![2, 3, 96], vec![384, 128, 1], 128),
            (vec![4, 1, 6], vec![8, 77, 1], 8),
            (vec![1, 1, 6], vec![6, 6, 1], 6),
            (vec![7], vec![1], 7),
        ] {
            assert!(has_even_rows(&shape, &strides), "{shape:?} {strides:?}");
            assert_eq!(step_of(&shape, &strides), step);
        }
    }

    #[test]
    fn rows_that_overlap_are_torn_or_lie_in_two_ways_are_not_even() {
        for (shape, strides) in [
            (vec![2, 5, 3], vec![15, 1, 5]),
            (vec![2, 3, 5], vec![16, 5, 1]),
            (vec![4, 5], vec![0, 1]),
            (vec![4, 5], vec![3, 1]),
            (vec![4, 5], vec![10, 2]),
        ] {
            assert!(!has_even_rows(&shape, &strides), "{shape:?} {strides:?}");
        }
    }
}
