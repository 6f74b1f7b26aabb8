//! Attention within the windows of a map as one operation that keeps no scores.
//!
//! On the CPU it runs the loops of `cpu-kernels`, on CUDA and WebGPU the kernels of `cube`. Where [`has_window_attention`] says that there is no such operation,
//! its caller composes it.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
pub(crate) mod plan;
#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};
use cpu_kernels::WindowAttention;

use super::choice::{self, Operation};
use super::host::{is_cpu, stored_tensor, tensor, values};
use super::recorded::{notes_ours, record};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// The names of the operations in recorded graphs.
pub(crate) const WINDOW_ATTENTION: &str = "window attention";
pub(crate) const WINDOW_ATTENTION_GRADIENTS: &str = "window attention gradients";

/// Whether [`window_attention`] runs over such a map: windows tile it, and on a card its kernels take them, unless Burn's operations are asked for or
/// [chosen](super::choice). Recordings have it where cards do.
///
/// # Shapes
/// - `map`: `[B, H, W, C]`
pub fn has_window_attention(map: &Tensor<4>, window: [usize; 2], heads: usize) -> bool {
    let ([batch, height, width, channels], device) = (map.dims(), map.device());
    let tiles = height.is_multiple_of(window[0]) && width.is_multiple_of(window[1]);
    let head_width = channels / heads;
    let windows = WindowAttention { batch, grid: [height, width], window, shift: [0, 0], heads, head_width };
    let takes = tiles && (is_cpu(&device) || notes_ours() && plan::cards_take(&windows));
    let numbers = [height, width, window[0], window[1], heads, head_width];
    takes && choice::is_ours(Operation::WindowAttention, map.dtype(), &numbers, batch)
}

/// What each token of a map sees in its window, where [`has_window_attention`] says so.
///
/// # Shapes
/// - `projected`: `[B, H, W, 3 C]`, queries, keys and values
/// - `bias`: `[nH, N, N]`, added to the scores, f32
/// - output: `[B, H, W, C]`, of the type of `projected`
pub fn window_attention(projected: Tensor<4>, bias: Tensor<3>, window: [usize; 2], shift: [usize; 2]) -> Tensor<4> {
    let ([batch, height, width, triple], device) = (projected.dims(), projected.device());
    let [heads, _, _] = bias.dims();
    let head_width = triple / 3 / heads;
    let windows = WindowAttention { batch, grid: [height, width], window, shift, heads, head_width };
    if is_captured(&device) {
        return on_captured!(device, B => {
            let (projected, bias) = (primitive::<B, 4>(projected), primitive::<B, 3>(bias));
            Tensor::from_primitive::<B>(B::fused_window_attention(projected, bias, windows))
        });
    }
    let output = Dispatch::fused_window_attention(projected.into_dispatch(), bias.into_dispatch(), windows);
    Tensor::from_dispatch(output)
}

/// The operation on a backend. Projections, output and their gradients have one type, the bias and its gradient are f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait FusedWindowAttention: Backend {
    /// See [`window_attention`].
    fn fused_window_attention(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        windows: WindowAttention,
    ) -> FloatTensor<Self>;

    /// The gradients of projections and bias.
    fn fused_window_attention_gradient(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: WindowAttention,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl FusedWindowAttention for Flex {
    fn fused_window_attention(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        windows: WindowAttention,
    ) -> FloatTensor<Self> {
        let output = windows.forward(&values(&projected), &values(&bias));
        stored_tensor(output, &plan::output_shape(&windows), projected.dtype())
    }

    fn fused_window_attention_gradient(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: WindowAttention,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let found = windows.gradient(&values(&projected), &values(&bias), &values(&gradient));
        let of_projected = stored_tensor(found.projected, projected.layout().shape(), projected.dtype());
        (of_projected, tensor(found.bias, bias.layout().shape()))
    }
}

/// As a card runs it: [`has_window_attention`] has been asked.
impl FusedWindowAttention for Capture {
    fn fused_window_attention(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        windows: WindowAttention,
    ) -> FloatTensor<Self> {
        let form = (plan::output_shape(&windows), projected.dtype());
        let [output] = record(WINDOW_ATTENTION, [projected, bias], [form], &[plan::bias_scratch(&windows)]);
        output
    }

    fn fused_window_attention_gradient(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: WindowAttention,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let forms = [(projected.shape(), projected.dtype()), (bias.shape(), DType::F32)];
        let scratch = [plan::bias_scratch(&windows), plan::sums_scratch(&windows)];
        record(WINDOW_ATTENTION_GRADIENTS, [projected, bias, gradient], forms, &scratch).into()
    }
}

#[derive(Debug)]
struct WindowAttentionBackward;

impl<B: Backend + FusedWindowAttention> Backward<B, 2> for WindowAttentionBackward {
    /// Projections and bias; windows.
    type State = ([NodeId; 2], WindowAttention);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (nodes, windows) = ops.state;
        let [projected, bias] = nodes.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let (of_projected, of_bias) = B::fused_window_attention_gradient(projected, bias, gradient, windows);
        for (node, gradient) in ops.parents.into_iter().zip([of_projected, of_bias]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + FusedWindowAttention, C: CheckpointStrategy> FusedWindowAttention for Autodiff<B, C> {
    fn fused_window_attention(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        windows: WindowAttention,
    ) -> FloatTensor<Self> {
        let nodes = [projected.node.clone(), bias.node.clone()];
        match WindowAttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = ([prepared.checkpoint(&projected), prepared.checkpoint(&bias)], windows);
                prepared.finish(state, B::fused_window_attention(projected.primitive, bias.primitive, windows))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::fused_window_attention(projected.primitive, bias.primitive, windows))
            }
        }
    }

    fn fused_window_attention_gradient(
        _projected: FloatTensor<Self>,
        _bias: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _windows: WindowAttention,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
