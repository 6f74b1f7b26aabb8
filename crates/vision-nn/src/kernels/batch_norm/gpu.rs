//! The operations on CubeCL devices: their own kernels, or Burn's operations for rows that those do not take.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::Fusion;

use super::{FusedBatchNorm, NormForm, composed, is_ours};
use crate::kernels::cube::batch_norm::{Backward, Forward, Moments};
use crate::kernels::cube::launch;

impl<R: CubeRuntime> FusedBatchNorm for Fusion<CubeBackend<R>> {
    fn fused_moments(rows: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !is_ours(&rows.shape, rows.dtype) {
            return composed::moments::<Self>(rows);
        }
        launch(Moments, [rows]).into()
    }

    fn fused_batch_norm(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        form: NormForm,
    ) -> FloatTensor<Self> {
        if !is_ours(&rows.shape, rows.dtype) {
            return composed::forward::<Self>(rows, [weight, bias, mean, variance], form);
        }
        let [output] = launch(Forward(form), [rows, weight, bias, mean, variance]);
        output
    }

    fn fused_batch_norm_gradient(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        form: NormForm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !is_ours(&rows.shape, rows.dtype) {
            return composed::gradient::<Self>(rows, [weight, bias, mean, variance], gradient, form);
        }
        launch(Backward(form), [rows, weight, bias, mean, variance, gradient]).into()
    }
}
