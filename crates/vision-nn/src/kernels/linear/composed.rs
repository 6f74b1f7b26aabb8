//! The operation in terms of a backend's matrix products.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

/// See [`linear`](super::linear).
pub(super) fn forward<B: Backend>(
    rows: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    B::linear(rows, B::float_transpose(weight), bias)
}

/// `gradient · weight`
pub(super) fn rows_gradient<B: Backend>(weight: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(gradient, weight)
}

/// `gradientᵀ · rows`: the weight's own layout.
pub(super) fn weight_gradient<B: Backend>(rows: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(B::float_transpose(gradient), rows)
}

/// The sum over rows.
pub(super) fn bias_gradient<B: Backend>(gradient: FloatTensor<B>) -> FloatTensor<B> {
    B::linear_bias_backward(gradient)
}
