//! Batch normalisation of rows, with an activation behind it: two kernels for the moments, one forward, three backward.
//!
//! Nothing is added atomically: the same input gives the same bits.

mod backward;
mod forward;
mod moments;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::cubecl::prelude::*;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::tensors::{address_type, empty, in_f32, like};
use super::{CubeOperation, Form};
use crate::kernels::batch_norm::{BATCH_NORM, BATCH_NORM_GRADIENTS, MOMENTS, NormForm, most_chunks};
use crate::kernels::columns::{Chunks, Columns};

/// Columns and sharers of the kernels that add up chunks: few columns, each with many chunks.
const COLUMNS: u32 = 8;
const SHARERS: u32 = 32;

/// Mean and biased variance of the channels of rows `[N, C]`: `[C]` each, f32.
#[derive(Debug)]
pub(crate) struct Moments;

/// The normalised rows, of rows `[N, C]`, weight, bias, mean and variance `[C]`.
#[derive(Debug)]
pub(crate) struct Forward(pub(crate) NormForm);

/// The gradients of rows, weight and bias, of the same and the output's gradient.
#[derive(Debug)]
pub(crate) struct Backward(pub(crate) NormForm);

impl CubeOperation<1, 2> for Moments {
    const NAME: &'static str = MOMENTS;

    fn outputs(&self, [(shape, _)]: [Form; 1]) -> [Form; 2] {
        [0, 1].map(|_| (Shape::new([shape[1]]), DType::F32))
    }

    fn run<R: CubeRuntime>(&self, [rows]: [CubeTensor<R>; 1]) -> [CubeTensor<R>; 2] {
        let rows = into_contiguous(rows);
        let sums = Sums::of(&rows);
        let partial = sums.empty_partial(&rows);
        let Sums { count, columns, chunks, storage } = sums;
        let [mean, variance] = [0, 1].map(|_| empty(&rows, Shape::new([columns.channels()]), DType::F32));
        // SAFETY: units read and write the vectors of rows, channels and chunks that there are, and no others.
        unsafe {
            moments::partial_moments::launch_unchecked(
                &rows.client,
                columns.cubes(&chunks, 1),
                columns.cube(),
                address_type(&[&rows]),
                columns.vector_size,
                rows.clone().into_tensor_arg(),
                partial.clone().into_tensor_arg(),
                count as u32,
                chunks.rows_each as u32,
                columns.vectors,
                columns.units(),
                storage,
            );
            moments::all_moments::launch_unchecked(
                &rows.client.clone(),
                CubeCount::new_1d(columns.vectors.div_ceil(COLUMNS as usize) as u32),
                CubeDim::new_2d(COLUMNS, SHARERS),
                address_type(&[&rows]),
                columns.vector_size,
                rows.into_tensor_arg(),
                partial.into_tensor_arg(),
                mean.clone().into_tensor_arg(),
                variance.clone().into_tensor_arg(),
                count as u32,
                chunks.rows_each as u32,
                chunks.count as u32,
                columns.vectors,
                (COLUMNS * SHARERS) as usize,
                storage,
            );
        }
        [mean, variance]
    }
}

impl CubeOperation<5, 1> for Forward {
    const NAME: &'static str = BATCH_NORM;

    fn outputs(&self, [rows, ..]: [Form; 5]) -> [Form; 1] {
        [rows]
    }

    fn run<R: CubeRuntime>(&self, [rows, weight, bias, mean, variance]: [CubeTensor<R>; 5]) -> [CubeTensor<R>; 1] {
        let rows = into_contiguous(rows);
        let [weight, bias, mean, variance] = [weight, bias, mean, variance].map(in_f32);
        let output = like(&rows);
        let Sums { count, columns, storage, .. } = Sums::of(&rows);
        let chunks = columns.chunks_to_write(count, 1);
        // SAFETY: units read and write the vectors of rows and channels that there are, and no others.
        unsafe {
            forward::normalise::launch_unchecked(
                &rows.client.clone(),
                columns.cubes(&chunks, 1),
                columns.cube(),
                address_type(&[&rows]),
                columns.vector_size,
                rows.into_tensor_arg(),
                weight.into_tensor_arg(),
                bias.into_tensor_arg(),
                mean.into_tensor_arg(),
                variance.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                count as u32,
                chunks.rows_each as u32,
                self.0.epsilon,
                columns.vectors,
                self.0.activation,
                storage,
            );
        }
        [output]
    }
}

impl CubeOperation<6, 3> for Backward {
    const NAME: &'static str = BATCH_NORM_GRADIENTS;

    fn outputs(&self, [rows, weight, ..]: [Form; 6]) -> [Form; 3] {
        let vector = (weight.0, DType::F32);
        [rows, vector.clone(), vector]
    }

    fn run<R: CubeRuntime>(&self, inputs: [CubeTensor<R>; 6]) -> [CubeTensor<R>; 3] {
        let [rows, weight, bias, mean, variance, gradient] = inputs;
        let [rows, gradient] = [rows, gradient].map(into_contiguous);
        let vectors = [weight, bias, mean, variance].map(in_f32);
        let sums = Sums::of(&rows);
        let partial = self.launch_partial_sums(&sums, &rows, &vectors, &gradient);
        let [of_weight, of_bias] = add_up(&sums, partial);
        let output = self.launch_rows(&sums, [rows, gradient], vectors, [of_weight.clone(), of_bias.clone()]);
        [output, of_weight, of_bias]
    }
}

impl Backward {
    fn launch_partial_sums<R: CubeRuntime>(
        &self,
        sums: &Sums,
        rows: &CubeTensor<R>,
        [weight, bias, mean, variance]: &[CubeTensor<R>; 4],
        gradient: &CubeTensor<R>,
    ) -> CubeTensor<R> {
        let partial = sums.empty_partial(rows);
        let Sums { count, columns, chunks, storage } = *sums;
        // SAFETY: units read and write the vectors of rows, channels and chunks that there are, and no others.
        unsafe {
            backward::partial_sums::launch_unchecked(
                &rows.client,
                columns.cubes(&chunks, 1),
                columns.cube(),
                address_type(&[rows]),
                columns.vector_size,
                rows.clone().into_tensor_arg(),
                weight.clone().into_tensor_arg(),
                bias.clone().into_tensor_arg(),
                mean.clone().into_tensor_arg(),
                variance.clone().into_tensor_arg(),
                gradient.clone().into_tensor_arg(),
                partial.clone().into_tensor_arg(),
                count as u32,
                chunks.rows_each as u32,
                self.0.epsilon,
                columns.vectors,
                columns.units(),
                self.0.activation,
                storage,
            );
        }
        partial
    }

    fn launch_rows<R: CubeRuntime>(
        &self,
        sums: &Sums,
        [rows, gradient]: [CubeTensor<R>; 2],
        [weight, bias, mean, variance]: [CubeTensor<R>; 4],
        [of_weight, of_bias]: [CubeTensor<R>; 2],
    ) -> CubeTensor<R> {
        let output = like(&rows);
        let Sums { count, columns, storage, .. } = *sums;
        let chunks = columns.chunks_to_write(count, 1);
        let share = if self.0.of_batch { 1.0 / count as f32 } else { 0.0 };
        // SAFETY: units read and write the vectors of rows and channels that there are, and no others.
        unsafe {
            backward::rows_gradient::launch_unchecked(
                &rows.client.clone(),
                columns.cubes(&chunks, 1),
                columns.cube(),
                address_type(&[&rows]),
                columns.vector_size,
                rows.into_tensor_arg(),
                weight.into_tensor_arg(),
                bias.into_tensor_arg(),
                mean.into_tensor_arg(),
                variance.into_tensor_arg(),
                gradient.into_tensor_arg(),
                of_weight.into_tensor_arg(),
                of_bias.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                count as u32,
                chunks.rows_each as u32,
                self.0.epsilon,
                share,
                columns.vectors,
                self.0.activation,
                storage,
            );
        }
        output
    }
}

/// Adds up what the chunks have left.
fn add_up<R: CubeRuntime>(sums: &Sums, partial: CubeTensor<R>) -> [CubeTensor<R>; 2] {
    let columns = sums.columns;
    let totals = [0, 1].map(|_| empty(&partial, Shape::new([columns.channels()]), DType::F32));
    let [of_weight, of_bias] = totals.clone();
    // SAFETY: units read and write the vectors of chunks and channels that there are, and no others.
    unsafe {
        backward::all_sums::launch_unchecked(
            &partial.client.clone(),
            CubeCount::new_1d((2 * columns.vectors).div_ceil(COLUMNS as usize) as u32),
            CubeDim::new_2d(COLUMNS, SHARERS),
            address_type(&[&partial]),
            columns.vector_size,
            partial.into_tensor_arg(),
            of_weight.into_tensor_arg(),
            of_bias.into_tensor_arg(),
            sums.chunks.count as u32,
            columns.vectors,
            (COLUMNS * SHARERS) as usize,
        );
    }
    totals
}

/// How the sums over rows are shared out.
#[derive(Clone, Copy)]
struct Sums {
    /// Rows.
    count: usize,
    columns: Columns,
    chunks: Chunks,
    storage: ElemType,
}

impl Sums {
    fn of<R: CubeRuntime>(rows: &CubeTensor<R>) -> Self {
        let [count, channels] = rows.meta.shape().dims();
        let columns = Columns::of(channels);
        let chunks = columns.chunks(count, most_chunks(&columns));
        Self { count, columns, chunks, storage: dtype_to_storage_type(rows.dtype) }
    }

    fn empty_partial<R: CubeRuntime>(&self, beside: &CubeTensor<R>) -> CubeTensor<R> {
        empty(beside, Shape::new([self.chunks.count, 2, self.columns.channels()]), DType::F32)
    }
}
