//! Sums over the positions of each sample, and maps times a number for each sample and channel.
//!
//! Nothing is added atomically: the same input gives the same bits.

mod kernels;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::cubecl::prelude::*;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::tensors::{address_type, empty, in_f32, like};
use super::{CubeOperation, Form};
use crate::kernels::columns::Columns;
use crate::kernels::per_channel::{CHANNEL_BLEND, CHANNEL_SUMS, Summed, chunks_of_sums, sums_form};

/// `[B, K, C]` of a map `[B, P, C]`, with another beside it or not.
#[derive(Debug)]
pub(crate) struct Sums(pub(crate) Summed);

/// A map times its factors, `[B, C]`.
#[derive(Debug)]
pub(crate) struct Weigh;

/// The same and a shift, `[B, C]`.
#[derive(Debug)]
pub(crate) struct Shift;

/// The sum of two maps times their factors.
#[derive(Debug)]
pub(crate) struct Blend;

impl CubeOperation<1, 1> for Sums {
    const NAME: &'static str = CHANNEL_SUMS;

    fn outputs(&self, [(shape, _)]: [Form; 1]) -> [Form; 1] {
        [sums_form(&shape, self.0)]
    }

    fn run<R: CubeRuntime>(&self, [map]: [CubeTensor<R>; 1]) -> [CubeTensor<R>; 1] {
        let map = into_contiguous(map);
        [sums(self.0, map.clone(), map)]
    }
}

impl CubeOperation<2, 1> for Sums {
    const NAME: &'static str = CHANNEL_SUMS;

    fn outputs(&self, [(shape, _), _]: [Form; 2]) -> [Form; 1] {
        [sums_form(&shape, self.0)]
    }

    fn run<R: CubeRuntime>(&self, maps: [CubeTensor<R>; 2]) -> [CubeTensor<R>; 1] {
        let [map, other] = maps.map(into_contiguous);
        [sums(self.0, map, other)]
    }
}

impl CubeOperation<2, 1> for Weigh {
    const NAME: &'static str = CHANNEL_BLEND;

    fn outputs(&self, [map, _]: [Form; 2]) -> [Form; 1] {
        [map]
    }

    fn run<R: CubeRuntime>(&self, [map, factors]: [CubeTensor<R>; 2]) -> [CubeTensor<R>; 1] {
        [blend([map, factors], Beside::Nothing)]
    }
}

impl CubeOperation<3, 1> for Shift {
    const NAME: &'static str = CHANNEL_BLEND;

    fn outputs(&self, [map, ..]: [Form; 3]) -> [Form; 1] {
        [map]
    }

    fn run<R: CubeRuntime>(&self, [map, factors, shift]: [CubeTensor<R>; 3]) -> [CubeTensor<R>; 1] {
        [blend([map, factors], Beside::Shift(shift))]
    }
}

impl CubeOperation<4, 1> for Blend {
    const NAME: &'static str = CHANNEL_BLEND;

    fn outputs(&self, [map, ..]: [Form; 4]) -> [Form; 1] {
        [map]
    }

    fn run<R: CubeRuntime>(&self, [map, factors, other, others]: [CubeTensor<R>; 4]) -> [CubeTensor<R>; 1] {
        [blend([map, factors], Beside::Map([other, others]))]
    }
}

fn sums<R: CubeRuntime>(summed: Summed, map: CubeTensor<R>, other: CubeTensor<R>) -> CubeTensor<R> {
    let shape = map.meta.shape().clone();
    let [batch, positions, channels] = shape.dims();
    let (columns, chunks) = chunks_of_sums(&shape);
    let partial = empty(&map, Shape::new([batch, chunks.count, summed.count(), channels]), DType::F32);
    let (form, storage) = (sums_form(&shape, summed), dtype_to_storage_type(map.dtype));
    let output = empty(&map, form.0, form.1);
    let numbers = summed.count() * columns.vectors;
    /// Units of a cube of the second pass.
    const UNITS: usize = 64;
    // SAFETY: units read and write the vectors of samples, positions, channels and chunks that there are, and no others.
    unsafe {
        kernels::partial_sums::launch_unchecked(
            &output.client,
            columns.cubes(&chunks, batch),
            columns.cube(),
            address_type(&[&map]),
            columns.vector_size,
            map.into_tensor_arg(),
            other.into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            positions as u32,
            chunks.rows_each as u32,
            chunks.count as u32,
            columns.vectors,
            columns.units(),
            summed,
            storage,
        );
        kernels::all_sums::launch_unchecked(
            &output.client,
            CubeCount::new_2d(numbers.div_ceil(UNITS) as u32, batch as u32),
            CubeDim::new_1d(UNITS as u32),
            address_type(&[&partial]),
            columns.vector_size,
            partial.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            chunks.count as u32,
            numbers,
        );
    }
    output
}

/// What is added to a weighed map.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, which is taken apart at once")]
enum Beside<R: CubeRuntime> {
    Nothing,
    /// `[B, C]`
    Shift(CubeTensor<R>),
    /// Another map and its factors.
    Map([CubeTensor<R>; 2]),
}

fn blend<R: CubeRuntime>([map, factors]: [CubeTensor<R>; 2], beside: Beside<R>) -> CubeTensor<R> {
    let (map, factors) = (into_contiguous(map), in_f32(factors));
    let [batch, positions, channels] = map.meta.shape().dims();
    let output = like(&map);
    let columns = Columns::of(channels);
    let (chunks, storage) = (columns.chunks_to_write(positions, batch), dtype_to_storage_type(map.dtype));
    let (has_shift, has_other) = (matches!(beside, Beside::Shift(_)), matches!(beside, Beside::Map(_)));
    let [other, more] = match beside {
        Beside::Nothing => [map.clone(), factors.clone()],
        Beside::Shift(shift) => [map.clone(), in_f32(shift)],
        Beside::Map([other, others]) => [into_contiguous(other), in_f32(others)],
    };
    // SAFETY: units read and write the vectors of samples, positions and channels that there are, and no others.
    unsafe {
        kernels::blend::launch_unchecked(
            &output.client,
            columns.cubes(&chunks, batch),
            columns.cube(),
            address_type(&[&map]),
            columns.vector_size,
            map.into_tensor_arg(),
            factors.into_tensor_arg(),
            other.into_tensor_arg(),
            more.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            positions as u32,
            chunks.rows_each as u32,
            columns.vectors,
            has_shift,
            has_other,
            storage,
        );
    }
    output
}
