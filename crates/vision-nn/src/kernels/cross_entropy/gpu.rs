//! The operation on CubeCL devices: its own kernels, or Burn's operations where there is nothing to sum.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::Fusion;

use super::{FusedCrossEntropy, cards_take, composed};
use crate::kernels::cube::cross_entropy::{Backward, Forward};
use crate::kernels::cube::launch;
use crate::kernels::recorded::notes_ours;

impl<R: CubeRuntime> FusedCrossEntropy for Fusion<CubeBackend<R>> {
    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self> {
        if !notes_ours() || !cards_take(&logits.shape) {
            return composed::forward::<Self>(logits, targets);
        }
        let [loss] = launch(Forward, [logits, targets]);
        loss
    }

    fn fused_cross_entropy_gradient(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if !notes_ours() || !cards_take(&logits.shape) {
            return composed::gradient::<Self>(logits, targets, gradient);
        }
        let [of_logits] = launch(Backward, [logits, targets, gradient]);
        of_logits
    }
}
