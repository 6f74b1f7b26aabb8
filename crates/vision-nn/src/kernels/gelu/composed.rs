//! The operation in terms of a backend's own.

use std::f32::consts::SQRT_2;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};

use crate::kernels::storage::{stored_as, widened};

/// `1 / sqrt(2 pi)`
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// `x Φ(x)`
pub(super) fn forward<B: Backend>(input: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = input.dtype();
    stored_as::<B>(B::gelu(widened::<B>(input)), dtype)
}

/// `gradient (Φ(x) + x φ(x))`, exact where Burn's own goes by the tanh approximation.
pub(super) fn gradient<B: Backend>(input: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = input.dtype();
    let (x, gradient) = (widened::<B>(input), widened::<B>(gradient));
    let error = B::float_erf(B::float_div_scalar(x.clone(), SQRT_2.into()));
    let cumulative = B::float_mul_scalar(B::float_add_scalar(error, 1.0f32.into()), 0.5f32.into());
    let bell = B::float_exp(B::float_mul_scalar(B::float_mul(x.clone(), x.clone()), (-0.5f32).into()));
    let slope = B::float_add(cumulative, B::float_mul(x, B::float_mul_scalar(bell, DENSITY_AT_ZERO.into())));
    stored_as::<B>(B::float_mul(gradient, slope), dtype)
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::DType;

    use super::super::FusedGelu;
    use super::*;
    use crate::kernels::test_tensors::{assert_near, numbers};

    #[test]
    fn a_backends_own_operations_give_what_the_cpus_loops_give() {
        // The loops' erf is within 5e-7; bf16 has 8 bits, of numbers up to 4.
        for (dtype, tolerance) in [(DType::F32, 4e-6), (DType::BF16, 2e-2)] {
            let input = Flex::float_mul_scalar(numbers(1.0, &[40, 9]), 4.0f32.into());
            let [input, upstream] = [input, numbers(2.0, &[40, 9])].map(|tensor| stored_as::<Flex>(tensor, dtype));
            assert_near(&forward::<Flex>(input.clone()), &Flex::fused_gelu(input.clone()), tolerance);
            let found = gradient::<Flex>(input.clone(), upstream.clone());
            assert_near(&found, &Flex::fused_gelu_gradient(input, upstream), tolerance);
        }
    }
}
