//! The operation in terms of a backend's own.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};

use crate::kernels::storage::{as_row, as_rows, as_vector, stored_as, widened};

/// See [`layer_norm`](super::layer_norm).
pub(super) fn forward<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    epsilon: f32,
) -> FloatTensor<B> {
    let (shape, dtype) = (input.shape(), input.dtype());
    let (centred, scale) = centred_and_scale::<B>(input, epsilon); // [N, C], [N, 1]
    let normalised = B::float_mul(centred, scale);
    let output = B::float_add(B::float_mul(normalised, as_row::<B>(weight)), as_row::<B>(bias));
    B::float_reshape(stored_as::<B>(output, dtype), shape)
}

/// See [`cpu_kernels::layer_norm_gradient`], which computes the same.
pub(super) fn gradient<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    epsilon: f32,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (shape, dtype) = (input.shape(), input.dtype());
    let (centred, scale) = centred_and_scale::<B>(input, epsilon); // [N, C], [N, 1]
    let normalised = B::float_mul(centred, scale.clone()); // [N, C]
    let gradient = widened::<B>(as_rows::<B>(gradient)); // [N, C]
    let of_bias = as_vector::<B>(B::float_sum_dim(gradient.clone(), 0));
    let of_weight = as_vector::<B>(B::float_sum_dim(B::float_mul(gradient.clone(), normalised.clone()), 0));
    let weighted = B::float_mul(gradient, as_row::<B>(weight)); // [N, C]
    let mean = B::float_mean_dim(weighted.clone(), 1); // [N, 1]
    let slope = B::float_mean_dim(B::float_mul(weighted.clone(), normalised.clone()), 1); // [N, 1]
    let inner = B::float_sub(B::float_sub(weighted, mean), B::float_mul(normalised, slope));
    let of_input = B::float_reshape(stored_as::<B>(B::float_mul(inner, scale), dtype), shape);
    (of_input, of_weight, of_bias)
}

/// Each row less its mean, and one over the root of its (biased) variance plus `epsilon`: `[N, C]` and `[N, 1]`.
fn centred_and_scale<B: Backend>(input: FloatTensor<B>, epsilon: f32) -> (FloatTensor<B>, FloatTensor<B>) {
    let rows = widened::<B>(as_rows::<B>(input)); // [N, C]
    let mean = B::float_mean_dim(rows.clone(), 1); // [N, 1]
    let centred = B::float_sub(rows, mean); // [N, C]
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1); // [N, 1]
    (centred, B::float_recip(B::float_sqrt(B::float_add_scalar(variance, epsilon.into()))))
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{DType, Shape};

    use super::super::FusedLayerNorm;
    use super::*;
    use crate::kernels::choice::{Operation, Site, Way, with_choice};
    use crate::kernels::test_tensors::{assert_near, numbers};

    const SHAPE: [usize; 3] = [5, 6, 20];
    const EPSILON: f32 = 1e-6;

    #[test]
    fn a_backends_own_operations_give_what_the_cpus_loops_give() {
        // Sums of 30 numbers of order one in f32; beyond that, bf16 rounds what is given back to 8 bits of numbers up to 4.
        for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::BF16, 2e-2)] {
            let [input, upstream] = [1.0, 2.0].map(|seed| stored_as::<Flex>(numbers(seed, &SHAPE), dtype));
            let [weight, bias] = [3.0, 4.0].map(|seed| numbers(seed, &SHAPE[2..]));
            let output = forward::<Flex>(input.clone(), weight.clone(), bias.clone(), EPSILON);
            assert_eq!((output.dtype(), output.shape()), (dtype, Shape::new(SHAPE)));
            let expected = Flex::fused_layer_norm(input.clone(), weight.clone(), bias, EPSILON);
            assert_near(&output, &expected, tolerance);
            let found = gradient::<Flex>(input.clone(), weight.clone(), upstream.clone(), EPSILON);
            let expected = Flex::fused_layer_norm_gradient(input, weight, upstream, EPSILON);
            assert_eq!((found.0.dtype(), found.1.dtype(), found.2.dtype()), (dtype, DType::F32, DType::F32));
            assert_near(&found.0, &expected.0, tolerance);
            assert_near(&found.1, &expected.1, 2e-5);
            assert_near(&found.2, &expected.2, 2e-5);
        }
    }

    #[test]
    fn where_they_are_chosen_the_cpu_runs_them() {
        let [input, upstream] = [1.0, 2.0].map(|seed| numbers(seed, &SHAPE));
        let [weight, bias] = [3.0, 4.0].map(|seed| numbers(seed, &SHAPE[2..]));
        let site = Site { operation: Operation::LayerNorm, storage: DType::F32, shape: SHAPE[1..].to_vec() };
        let (output, found) = with_choice(&site, Way::Burns, || {
            let output = Flex::fused_layer_norm(input.clone(), weight.clone(), bias.clone(), EPSILON);
            (output, Flex::fused_layer_norm_gradient(input.clone(), weight.clone(), upstream.clone(), EPSILON))
        });
        // The same operations in the same order.
        assert_near(&output, &forward::<Flex>(input.clone(), weight.clone(), bias, EPSILON), 0.0);
        let expected = gradient::<Flex>(input, weight, upstream, EPSILON);
        assert_near(&found.0, &expected.0, 0.0);
        assert_near(&found.1, &expected.1, 0.0);
        assert_near(&found.2, &expected.2, 0.0);
    }
}
