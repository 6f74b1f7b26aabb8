//! The operation on CubeCL devices: its own kernels. [`has_window_attention`](super::has_window_attention) has been asked.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::Fusion;
use cpu_kernels::WindowAttention;

use super::FusedWindowAttention;
use crate::kernels::cube::launch;
use crate::kernels::cube::window_attention::{Backward, Forward};

impl<R: CubeRuntime> FusedWindowAttention for Fusion<CubeBackend<R>> {
    fn fused_window_attention(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        windows: WindowAttention,
    ) -> FloatTensor<Self> {
        let [output] = launch(Forward(windows), [projected, bias]);
        output
    }

    fn fused_window_attention_gradient(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: WindowAttention,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        launch(Backward(windows), [projected, bias, gradient]).into()
    }
}
