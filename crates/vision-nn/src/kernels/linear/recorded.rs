//! The operation where nothing is computed, as `gpu` runs it.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Capture, TensorMetadata};

use super::{FusedLinear, PRODUCT, SETTLED, Turned, composed, product_form};
use crate::kernels::recorded::record;

impl FusedLinear for Capture {
    fn fused_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::forward::<Self>(settled(rows), weight, Some(bias))
    }

    fn fused_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        product(rows, weight, Turned::RIGHT)
    }

    fn fused_linear_rows_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        product(gradient, weight, Turned::NONE)
    }

    fn fused_linear_hidden_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::rows_gradient::<Self>(weight, settled(gradient))
    }

    fn fused_linear_weight_gradient(rows: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        product(gradient, rows, Turned::LEFT)
    }
}

fn product(left: FloatTensor<Capture>, right: FloatTensor<Capture>, turned: Turned) -> FloatTensor<Capture> {
    let form = (product_form(&left.shape(), &right.shape(), turned), left.dtype());
    let [output] = record(PRODUCT, [left, right], [form], &[]);
    output
}

fn settled(tensor: FloatTensor<Capture>) -> FloatTensor<Capture> {
    let form = (tensor.shape(), tensor.dtype());
    let [tensor] = record(SETTLED, [tensor], [form], &[]);
    tensor
}
