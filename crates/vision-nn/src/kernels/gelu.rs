//! GELU in its exact form, keeping nothing for the backward pass but its input.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor, activation};

use super::host::{is_cpu, tensor, values};

/// `x Φ(x)` of each number. Burn's own runs wherever the vectorised one does not.
pub fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    if is_cpu(&input.device()) && input.dtype() == DType::F32 {
        Tensor::from_dispatch(Dispatch::fused_gelu(input.into_dispatch()))
    } else {
        activation::gelu(input)
    }
}

/// The operation on the CPU, in f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Autodiff)]
pub trait FusedGelu: Backend {
    /// See [`gelu`].
    fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the input.
    fn fused_gelu_gradient(input: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl FusedGelu for Flex {
    fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self> {
        tensor(cpu_kernels::gelu(&values(&input)), input.layout().shape())
    }

    fn fused_gelu_gradient(input: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        tensor(cpu_kernels::gelu_gradient(&values(&input), &values(&gradient)), input.layout().shape())
    }
}

#[derive(Debug)]
struct GeluBackward;

impl<B: Backend + FusedGelu> Backward<B, 1> for GeluBackward {
    type State = NodeId;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [input_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(ops.state);
        if let Some(node) = input_node {
            gradients.register::<B>(node.id, B::fused_gelu_gradient(input, gradient));
        }
    }
}

impl<B: Backend + FusedGelu, C: CheckpointStrategy> FusedGelu for Autodiff<B, C> {
    fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self> {
        match GeluBackward.prepare::<C>([input.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = prepared.checkpoint(&input);
                prepared.finish(state, B::fused_gelu(input.primitive))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::fused_gelu(input.primitive)),
        }
    }

    fn fused_gelu_gradient(_input: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
