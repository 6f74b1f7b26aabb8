//! The operation on CubeCL devices: its own kernels, or Burn's operations for rows that those do not take.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::Fusion;

use super::{FusedLayerNorm, cards_take, composed, is_chosen};
use crate::kernels::cube::layer_norm::{Backward, Forward};
use crate::kernels::cube::{Queued, launch};
use crate::kernels::recorded::notes_ours;

impl<R: CubeRuntime> FusedLayerNorm for Fusion<CubeBackend<R>> {
    fn fused_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        if !is_ours(&input) {
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
        if !is_ours(&input) {
            return composed::gradient::<Self>(input, weight, gradient, epsilon);
        }
        launch(Backward(epsilon), [input, weight, gradient]).into()
    }
}

/// Whether the device of the input runs the kernels, and Burn's operations are neither asked for nor chosen.
fn is_ours<R: CubeRuntime>(input: &Queued<R>) -> bool {
    let shared_bytes = R::client(input.client.device()).properties().hardware.max_shared_memory_size;
    notes_ours() && cards_take(&input.shape, shared_bytes) && is_chosen(&input.shape, input.dtype)
}
