//! A loss whose gradient is given: with it a backward pass begins anywhere in a graph.
//!
//! `sum(output * gradient)` would do the same, with a product as large as the output and its way back.

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps as _;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

use super::{is_captured, leaf_on_tape, on_captured, primitive};

/// A loss of no particular value whose gradient with respect to `output` is `gradient`.
///
/// # Shapes
/// - `output`, on the tape, and `gradient`, off it: the same
/// - returned: `[1]`
pub(super) fn loss_with_gradient<const D: usize>(output: Tensor<D>, gradient: Tensor<D>) -> Tensor<1> {
    let device = output.device();
    let gradient = leaf_on_tape(gradient, &device);
    if is_captured(&device) {
        return on_captured!(device, B => {
            Tensor::from_primitive::<B>(B::loss_with_gradient(primitive::<B, D>(output), primitive::<B, D>(gradient)))
        });
    }
    Tensor::from_dispatch(Dispatch::loss_with_gradient(output.into_dispatch(), gradient.into_dispatch()))
}

/// The operation on a backend.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait GivenGradient: Backend {
    /// See [`loss_with_gradient`].
    fn loss_with_gradient(output: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// A backend without a tape: the loss has a value, and that is all.
macro_rules! value_on {
    ($backend:ty) => {
        impl GivenGradient for $backend {
            fn loss_with_gradient(output: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
                Self::float_zeros(Shape::new([1]), &output.device(), output.dtype().into())
            }
        }
    };
}

value_on!(Flex);
value_on!(Capture);
#[cfg(feature = "cuda")]
value_on!(Cuda);
#[cfg(feature = "wgpu")]
value_on!(Wgpu);

#[derive(Debug)]
struct GivenGradientBackward;

impl<B: Backend> Backward<B, 1> for GivenGradientBackward {
    /// The gradient of the output.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [output] = ops.parents;
        gradients.consume::<B>(&ops.node);
        if let Some(node) = output {
            gradients.register::<B>(node.id, ops.state);
        }
    }
}

impl<B: Backend + GivenGradient, C: CheckpointStrategy> GivenGradient for Autodiff<B, C> {
    fn loss_with_gradient(output: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let gradient = gradient.primitive;
        match GivenGradientBackward.prepare::<C>([output.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                prepared.finish(gradient.clone(), B::loss_with_gradient(output.primitive, gradient))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::loss_with_gradient(output.primitive, gradient)),
        }
    }
}
