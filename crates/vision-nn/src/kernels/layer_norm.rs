//! Layer normalisation over the last axis, keeping nothing for the backward pass but its input.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor, module};

use super::host::{is_cpu, tensor, values};

/// Normalises over the last axis. Burn's own runs wherever the vectorised one does not.
///
/// # Shapes
/// - `input` and output: `[.., C]`
/// - `weight`, `bias`: `[C]`
pub fn layer_norm<const D: usize>(input: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    if is_cpu(&input.device()) && input.dtype() == DType::F32 {
        let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
        Tensor::from_dispatch(Dispatch::fused_layer_norm(input, weight, bias, epsilon as f32))
    } else {
        module::layer_norm(input, weight, Some(bias), epsilon)
    }
}

/// The operation on the CPU, in f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Autodiff)]
pub trait FusedLayerNorm: Backend {
    /// See [`layer_norm`].
    fn fused_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// The gradients of input, weight and bias.
    fn fused_layer_norm_gradient(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl FusedLayerNorm for Flex {
    fn fused_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let output = cpu_kernels::layer_norm(&values(&input), &values(&weight), &values(&bias), epsilon);
        tensor(output, input.layout().shape())
    }

    fn fused_layer_norm_gradient(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let found = cpu_kernels::layer_norm_gradient(&values(&input), &values(&weight), &values(&gradient), epsilon);
        let of_parameter = weight.layout().shape();
        let of_bias = tensor(found.bias, of_parameter);
        (tensor(found.input, input.layout().shape()), tensor(found.weight, of_parameter), of_bias)
    }
}

#[derive(Debug)]
struct LayerNormBackward;

impl<B: Backend + FusedLayerNorm> Backward<B, 3> for LayerNormBackward {
    /// Input, weight, epsilon.
    type State = (NodeId, NodeId, f32);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (input, weight, epsilon) = ops.state;
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(input);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        let (of_input, of_weight, of_bias) = B::fused_layer_norm_gradient(input, weight, gradient, epsilon);
        for (node, gradient) in ops.parents.into_iter().zip([of_input, of_weight, of_bias]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + FusedLayerNorm, C: CheckpointStrategy> FusedLayerNorm for Autodiff<B, C> {
    fn fused_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let nodes = [input.node.clone(), weight.node.clone(), bias.node.clone()];
        match LayerNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = (prepared.checkpoint(&input), prepared.checkpoint(&weight), epsilon);
                let output = B::fused_layer_norm(input.primitive, weight.primitive, bias.primitive, epsilon);
                prepared.finish(state, output)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::fused_layer_norm(input.primitive, weight.primitive, bias.primitive, epsilon))
            }
        }
    }

    fn fused_layer_norm_gradient(
        _input: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
