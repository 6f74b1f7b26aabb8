//! A copy of a weight in half precision that was made beforehand, on the tape in the weight's place.

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use crate::is_captured;
use crate::tape::{leaf_on_tape, on_captured, primitive};

/// The copy, made of the weight on its tape: what is the copy's gradient goes to the weight as it is, in half precision.
///
/// # Shapes
/// - `weight`, on the tape, `copy`, off it, and output: the same
pub(crate) fn prepared_copy<const D: usize>(weight: Tensor<D>, copy: Tensor<D>) -> Tensor<D> {
    let device = weight.device();
    if !device.is_autodiff() {
        return copy;
    }
    let copy = leaf_on_tape(copy, &device);
    if is_captured(&device) {
        return on_captured!(device, B => {
            Tensor::from_primitive::<B>(B::prepared_copy(primitive::<B, D>(weight), primitive::<B, D>(copy)))
        });
    }
    Tensor::from_dispatch(Dispatch::prepared_copy(weight.into_dispatch(), copy.into_dispatch()))
}

/// The operation on a backend.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait PreparedCopy: Backend {
    /// See [`prepared_copy`].
    fn prepared_copy(_weight: FloatTensor<Self>, copy: FloatTensor<Self>) -> FloatTensor<Self> {
        copy
    }
}

impl PreparedCopy for Flex {}
impl PreparedCopy for Capture {}
#[cfg(feature = "cuda")]
impl PreparedCopy for Cuda {}
#[cfg(feature = "wgpu")]
impl PreparedCopy for Wgpu {}

#[derive(Debug)]
struct PreparedCopyBackward;

impl<B: Backend> Backward<B, 1> for PreparedCopyBackward {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [weight] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        if let Some(node) = weight {
            gradients.register::<B>(node.id, gradient);
        }
    }
}

impl<B: Backend + PreparedCopy, C: CheckpointStrategy> PreparedCopy for Autodiff<B, C> {
    fn prepared_copy(weight: FloatTensor<Self>, copy: FloatTensor<Self>) -> FloatTensor<Self> {
        PreparedCopyBackward.prepare::<C>([weight.node]).compute_bound().stateless(copy.primitive)
    }
}
