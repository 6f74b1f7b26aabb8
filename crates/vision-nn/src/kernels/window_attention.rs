//! Attention within the windows of a map as one operation that keeps no scores, on the CPU.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use cpu_kernels::WindowAttention;

use super::host::{is_cpu, tensor, values};

/// Whether [`window_attention`] runs over this map: on the CPU, in f32, with windows that tile it.
pub fn has_window_attention(map: &Tensor<4>, window: [usize; 2]) -> bool {
    let [_, height, width, _] = map.dims();
    let tiles = height.is_multiple_of(window[0]) && width.is_multiple_of(window[1]);
    tiles && is_cpu(&map.device()) && map.dtype() == DType::F32
}

/// What each token of a map sees in its window, where [`has_window_attention`] says so.
///
/// # Shapes
/// - `projected`: `[B, H, W, 3 C]`, queries, keys and values
/// - `bias`: `[nH, N, N]`, added to the scores
/// - output: `[B, H, W, C]`
pub fn window_attention(projected: Tensor<4>, bias: Tensor<3>, window: [usize; 2], shift: [usize; 2]) -> Tensor<4> {
    let [batch, height, width, triple] = projected.dims();
    let [heads, _, _] = bias.dims();
    let head_width = triple / 3 / heads;
    let windows = WindowAttention { batch, grid: [height, width], window, shift, heads, head_width };
    let output = Dispatch::fused_window_attention(projected.into_dispatch(), bias.into_dispatch(), windows);
    Tensor::from_dispatch(output)
}

/// The operation on the CPU, in f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Autodiff)]
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
        let [height, width] = windows.grid;
        tensor(output, &Shape::new([windows.batch, height, width, windows.heads * windows.head_width]))
    }

    fn fused_window_attention_gradient(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: WindowAttention,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let found = windows.gradient(&values(&projected), &values(&bias), &values(&gradient));
        (tensor(found.projected, projected.layout().shape()), tensor(found.bias, bias.layout().shape()))
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
