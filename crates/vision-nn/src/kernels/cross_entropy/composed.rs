//! The operation in terms of a backend's own.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

use crate::kernels::storage::{stored_as, widened};

/// See [`cross_entropy`](super::cross_entropy).
pub(super) fn forward<B: Backend>(logits: FloatTensor<B>, targets: FloatTensor<B>) -> FloatTensor<B> {
    let logarithms = B::log_softmax(widened::<B>(logits), 1); // [B, K]
    B::float_neg(B::float_sum(B::float_mul(logarithms, widened::<B>(targets)))) // [1]
}

/// `upstream (p Σ t - t)`
pub(super) fn gradient<B: Backend>(
    logits: FloatTensor<B>,
    targets: FloatTensor<B>,
    gradient: FloatTensor<B>,
) -> FloatTensor<B> {
    let dtype = logits.dtype();
    let targets = widened::<B>(targets);
    let shares = B::softmax(widened::<B>(logits), 1); // [B, K]
    let whole = B::float_sum_dim(targets.clone(), 1); // [B, 1]
    let slope = B::float_sub(B::float_mul(shares, whole), targets); // [B, K]
    let upstream = B::float_reshape(gradient, Shape::new([1, 1]));
    stored_as::<B>(B::float_mul(slope, upstream), dtype)
}
