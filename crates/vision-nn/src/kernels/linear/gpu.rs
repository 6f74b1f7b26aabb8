//! The operation on CubeCL devices. A product that elementwise operations follow is Burn's, whose fusion computes them in its kernel: the sum with a bias and
//! an activation, or the gradient of one. It finds that kernel where it begins with the product; behind casts of parameters it does not, and makes maps of f32
//! instead.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::Fusion;

use super::{FusedLinear, Turned, composed};
use crate::kernels::cube::launch;
use crate::kernels::cube::product::Product;
use crate::kernels::cube::settled::settled;

impl<R: CubeRuntime> FusedLinear for Fusion<CubeBackend<R>> {
    fn fused_linear(rows: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::forward::<Self>(settled(rows), weight, Some(bias))
    }

    fn fused_projection(rows: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let [output] = launch(Product(Turned::RIGHT), [rows, weight]);
        output
    }

    fn fused_linear_rows_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let [of_rows] = launch(Product(Turned::NONE), [gradient, weight]);
        of_rows
    }

    fn fused_linear_hidden_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::rows_gradient::<Self>(weight, settled(gradient))
    }

    fn fused_linear_weight_gradient(rows: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let [of_weight] = launch(Product(Turned::LEFT), [gradient, rows]);
        of_weight
    }
}
