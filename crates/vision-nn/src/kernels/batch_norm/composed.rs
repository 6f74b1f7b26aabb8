//! The operations in terms of a backend's own.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};

use cpu_kernels::Activation;

use super::NormForm;
use crate::kernels::storage::{as_row, as_vector, stored_as, widened};

/// `[N, C]` to mean and biased variance, `[C]`.
pub(super) fn moments<B: Backend>(rows: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let rows = widened::<B>(rows);
    let mean = B::float_mean_dim(rows.clone(), 0); // [1, C]
    let centred = B::float_sub(rows, mean.clone()); // [N, C]
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred), 0); // [1, C]
    (as_vector::<B>(mean), as_vector::<B>(variance))
}

/// Weight, bias, mean and variance in `vectors`.
pub(super) fn forward<B: Backend>(
    rows: FloatTensor<B>,
    vectors: [FloatTensor<B>; 4],
    form: NormForm,
) -> FloatTensor<B> {
    let dtype = rows.dtype();
    let [weight, bias, mean, variance] = vectors.map(as_row::<B>);
    let scale = B::float_mul(weight, inverse_deviation::<B>(variance, form)); // [1, C]
    let z = B::float_add(B::float_mul(B::float_sub(widened::<B>(rows), mean), scale), bias); // [N, C]
    let output = match form.activation {
        Activation::Identity => z,
        Activation::Relu => B::relu(z),
        Activation::Silu => B::float_mul(z.clone(), B::sigmoid(z)),
    };
    stored_as::<B>(output, dtype)
}

/// See [`cpu_kernels::BatchNorm::gradient`], which computes the same.
pub(super) fn gradient<B: Backend>(
    rows: FloatTensor<B>,
    vectors: [FloatTensor<B>; 4],
    gradient: FloatTensor<B>,
    form: NormForm,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (count, dtype) = (rows.shape()[0], rows.dtype());
    let (rows, gradient) = (widened::<B>(rows), widened::<B>(gradient));
    let [weight, bias, mean, variance] = vectors.map(as_row::<B>);
    let inverse = inverse_deviation::<B>(variance, form); // [1, C]
    let scale = B::float_mul(weight, inverse.clone()); // [1, C]
    let centred = B::float_sub(rows, mean); // [N, C]
    let z = || B::float_add(B::float_mul(centred.clone(), scale.clone()), bias); // [N, C]
    let gradient = match form.activation {
        Activation::Identity => gradient,
        Activation::Relu => B::relu_backward(B::relu(z()), gradient),
        Activation::Silu => B::float_mul(gradient, silu_slope::<B>(z())),
    };
    let of_bias = B::float_sum_dim(gradient.clone(), 0); // [1, C]
    let products = B::float_sum_dim(B::float_mul(gradient.clone(), centred.clone()), 0); // [1, C]
    let of_weight = B::float_mul(products, inverse.clone()); // [1, C]
    let inner = if form.of_batch {
        let share = 1.0 / count.max(1) as f32;
        let mean_bias = B::float_mul_scalar(of_bias.clone(), share.into());
        let slope = B::float_mul_scalar(B::float_mul(of_weight.clone(), inverse), share.into());
        B::float_sub(B::float_sub(gradient, mean_bias), B::float_mul(centred, slope)) // [N, C]
    } else {
        gradient
    };
    let of_rows = stored_as::<B>(B::float_mul(inner, scale), dtype);
    (of_rows, as_vector::<B>(of_weight), as_vector::<B>(of_bias))
}

fn inverse_deviation<B: Backend>(variance: FloatTensor<B>, form: NormForm) -> FloatTensor<B> {
    B::float_recip(B::float_sqrt(B::float_add_scalar(variance, form.epsilon.into())))
}

/// `σ(z) (1 + z (1 - σ(z)))`
fn silu_slope<B: Backend>(z: FloatTensor<B>) -> FloatTensor<B> {
    let sigmoid = B::sigmoid(z.clone());
    let rest = B::float_add_scalar(B::float_neg(sigmoid.clone()), 1.0.into());
    B::float_mul(sigmoid, B::float_add_scalar(B::float_mul(z, rest), 1.0.into()))
}
