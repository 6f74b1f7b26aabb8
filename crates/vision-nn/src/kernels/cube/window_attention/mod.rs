//! Attention within the windows of a map: one kernel forward, two backward. Partition and roll are part of them, and scores are kept nowhere.
//!
//! Nothing is added atomically: the same input gives the same bits.

mod backward;
mod forward;
mod tokens;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::cubecl::prelude::*;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::permute;
use burn_cubecl::tensor::CubeTensor;
use cpu_kernels::WindowAttention;

use self::tokens::{Form as Compiled, VECTOR_SIZE};
use super::tensors::{address_type, cube_count, empty, in_f32, like};
use super::{CubeOperation, Form};
use crate::kernels::window_attention::plan::{Parts, count, output_shape};
use crate::kernels::window_attention::{WINDOW_ATTENTION, WINDOW_ATTENTION_GRADIENTS};

/// What tokens see, `[B, H, W, C]`, of projections `[B, H, W, 3 C]` and bias `[nH, N, N]`.
#[derive(Debug)]
pub(crate) struct Forward(pub(crate) WindowAttention);

/// The gradients of projections and bias, of the same and the output's gradient.
#[derive(Debug)]
pub(crate) struct Backward(pub(crate) WindowAttention);

impl CubeOperation<2, 1> for Forward {
    const NAME: &'static str = WINDOW_ATTENTION;

    fn outputs(&self, [projected, _]: [Form; 2]) -> [Form; 1] {
        [(output_shape(&self.0), projected.1)]
    }

    fn run<R: CubeRuntime>(&self, [projected, bias]: [CubeTensor<R>; 2]) -> [CubeTensor<R>; 1] {
        let (projected, turned_bias) = (into_contiguous(projected), turned(in_f32(bias)));
        let output = empty(&projected, output_shape(&self.0), projected.dtype);
        let (form, windows) = (Compiled::of(&self.0), count(&self.0));
        let storage = dtype_to_storage_type(projected.dtype);
        // SAFETY: units read and write tokens of windows and images that there are, and no others.
        unsafe {
            forward::look::launch_unchecked(
                &output.client,
                cube_count(&projected, windows * self.0.heads),
                CubeDim::new_1d(form.units),
                address_type(&[&projected]),
                VECTOR_SIZE,
                projected.into_tensor_arg(),
                turned_bias.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                windows as u32,
                factor(&self.0),
                form,
                storage,
            );
        }
        [output]
    }
}

impl CubeOperation<3, 2> for Backward {
    const NAME: &'static str = WINDOW_ATTENTION_GRADIENTS;

    fn outputs(&self, [projected, bias, _]: [Form; 3]) -> [Form; 2] {
        [projected, (bias.0, DType::F32)]
    }

    fn run<R: CubeRuntime>(&self, [projected, bias, gradient]: [CubeTensor<R>; 3]) -> [CubeTensor<R>; 2] {
        let [projected, gradient] = [projected, gradient].map(into_contiguous);
        let bias = in_f32(bias);
        let (of_projected, of_bias) = (like(&projected), like(&bias));
        let (form, parts) = (Compiled::of(&self.0), Parts::of(&self.0));
        let numbers = bias.meta.shape().num_elements();
        let partial = empty(&bias, Shape::new([parts.count, numbers]), DType::F32);
        let storage = dtype_to_storage_type(projected.dtype);
        // SAFETY: as in `Forward`; parts end with the windows.
        unsafe {
            backward::gradients::launch_unchecked(
                &of_projected.client,
                CubeCount::new_2d(form.heads, parts.count as u32),
                CubeDim::new_1d(form.units),
                address_type(&[&projected, &partial]),
                VECTOR_SIZE,
                projected.into_tensor_arg(),
                turned(bias.clone()).into_tensor_arg(),
                bias.into_tensor_arg(),
                gradient.into_tensor_arg(),
                of_projected.clone().into_tensor_arg(),
                partial.clone().into_tensor_arg(),
                count(&self.0) as u32,
                parts.windows_each as u32,
                factor(&self.0),
                form,
                storage,
            );
        }
        launch_bias(&form, numbers, partial, of_bias.clone());
        [of_projected, of_bias]
    }
}

/// Adds up what the parts have left.
fn launch_bias<R: CubeRuntime>(form: &Compiled, numbers: usize, partial: CubeTensor<R>, of_bias: CubeTensor<R>) {
    // 128 neighbouring bytes, and eight units that share the parts.
    const COLUMNS: u32 = 32;
    const SHARERS: u32 = 8;
    let parts = partial.meta.shape()[0];
    // SAFETY: units past the last number neither read nor write.
    unsafe {
        backward::bias_gradient::launch_unchecked(
            &of_bias.client.clone(),
            cube_count(&partial, numbers.div_ceil(COLUMNS as usize)),
            CubeDim::new_2d(COLUMNS, SHARERS),
            address_type(&[&partial]),
            partial.into_tensor_arg(),
            of_bias.into_tensor_arg(),
            parts as u32,
            numbers as u32,
            form.tokens,
            (COLUMNS * SHARERS) as usize,
        );
    }
}

/// The bias by key and then by query, so that neighbouring units read neighbouring numbers.
fn turned<R: CubeRuntime>(bias: CubeTensor<R>) -> CubeTensor<R> {
    into_contiguous(permute(bias, &[0, 2, 1]))
}

/// One over the root of the width of a head.
fn factor(windows: &WindowAttention) -> f32 {
    (windows.head_width as f32).powf(-0.5)
}
