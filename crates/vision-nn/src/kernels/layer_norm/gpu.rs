//! The operation on CubeCL devices: its own kernels, or Burn's operations for rows that those do not take.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::Fusion;

use super::{FusedLayerNorm, cards_take, composed};
use crate::kernels::cube::launch;
use crate::kernels::cube::layer_norm::{Backward, Forward};

impl<R: CubeRuntime> FusedLayerNorm for Fusion<CubeBackend<R>> {
    fn fused_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        if !cards_take(&input.shape) {
            return composed::forward::<Self>(input, weight, bias, epsilon);
        }
        let [output] = launch(Forward(epsilon), [input, weight, bias]);
        output
    }

    fn fused_layer_norm_gradient(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !cards_take(&input.shape) {
            return composed::gradient::<Self>(input, weight, gradient, epsilon);
        }
        launch(Backward(epsilon), [input, weight, gradient]).into()
    }
}
