//! GELU in its exact form, computed in f32, keeping nothing for the backward pass but its input as it is stored.

mod composed;

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
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor};

use super::host::{alone, tensor_like, values};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// `x Φ(x)` of each number.
pub fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    let device = input.device();
    if is_captured(&device) {
        return on_captured!(device, B => Tensor::from_primitive::<B>(B::fused_gelu(primitive::<B, D>(input))));
    }
    Tensor::from_dispatch(Dispatch::fused_gelu(input.into_dispatch()))
}

/// The operation on a backend. Input, output and their gradients have one type.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait FusedGelu: Backend {
    /// See [`gelu`].
    fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the input.
    fn fused_gelu_gradient(input: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The output again, and the gradient of the input.
    fn fused_gelu_with_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        (Self::fused_gelu(input.clone()), Self::fused_gelu_gradient(input, gradient))
    }
}

/// A backend on which the operation is composed of Burn's own.
macro_rules! composed_on {
    ($backend:ty) => {
        impl FusedGelu for $backend {
            fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self> {
                composed::forward::<Self>(input)
            }

            fn fused_gelu_gradient(input: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
                composed::gradient::<Self>(input, gradient)
            }
        }
    };
}

composed_on!(Capture);
#[cfg(feature = "cuda")]
composed_on!(Cuda);
#[cfg(feature = "wgpu")]
composed_on!(Wgpu);

impl FusedGelu for Flex {
    fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self> {
        tensor_like(cpu_kernels::gelu(&values(&input)), &input)
    }

    fn fused_gelu_gradient(input: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        tensor_like(cpu_kernels::gelu_gradient(&values(&input), &values(&gradient)), &input)
    }

    fn fused_gelu_with_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if input.dtype() != DType::F32 {
            return (Self::fused_gelu(input.clone()), Self::fused_gelu_gradient(input, gradient));
        }
        let mut gradient = alone(gradient);
        let output = cpu_kernels::gelu_with_gradient(&values(&input), gradient.storage_mut());
        (tensor_like(output, &input), gradient)
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

    fn fused_gelu_with_gradient(
        _input: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
