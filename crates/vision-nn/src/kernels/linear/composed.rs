//! The operation in terms of a backend's matrix products.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

/// See [`linear`](super::linear). The bias is laid out before the product: what comes between a product and its sum would keep a card from computing both,
/// and the function behind them, in one kernel.
pub(super) fn forward<B: Backend>(
    rows: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let bias = bias.map(|bias| {
        let out = bias.shape().num_elements();
        B::float_reshape(bias, Shape::new([1, out]))
    });
    let product = B::float_matmul(rows, B::float_transpose(weight));
    match bias {
        Some(bias) => B::float_add(product, bias),
        None => product,
    }
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
