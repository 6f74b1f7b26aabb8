//! Cross-entropy of a softmax against soft targets as one operation: for the backward pass it keeps logits and targets, and no probabilities.
//!
//! On the CPU it runs the loops of `cpu-kernels`, on CUDA and WebGPU the kernels of `cube`; what [`composed`] is made of where those do not.

mod composed;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
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
use burn::tensor::{DType, Shape, Tensor};

use super::host::{tensor, tensor_like, values};
use super::recorded::{Scratch, notes_ours, record};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// The names of the operations in recorded graphs.
pub(crate) const CROSS_ENTROPY: &str = "cross-entropy";
pub(crate) const CROSS_ENTROPY_GRADIENT: &str = "cross-entropy gradient";

/// Whether a card's kernels take logits of that shape.
pub(crate) fn cards_take(logits: &Shape) -> bool {
    logits.num_elements() > 0
}

/// `-Σ t ln p` over all rows and classes, in nats, p being the softmax of a row of logits. Targets need not add up to one. No gradient goes to them.
///
/// # Shapes
/// - `logits`: `[B, K]`, in f32 or in half precision
/// - `targets`: `[B, K]`, f32
/// - output: `[1]`, f32
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let device = logits.device();
    if is_captured(&device) {
        return on_captured!(device, B => {
            let (logits, targets) = (primitive::<B, 2>(logits), primitive::<B, 2>(targets));
            Tensor::from_primitive::<B>(B::fused_cross_entropy(logits, targets))
        });
    }
    Tensor::from_dispatch(Dispatch::fused_cross_entropy(logits.into_dispatch(), targets.into_dispatch()))
}

/// The operation on a backend.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait FusedCrossEntropy: Backend {
    /// See [`cross_entropy`].
    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the logits, in their type, of that of the loss, `[1]`.
    fn fused_cross_entropy_gradient(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Where a card runs its kernels, they are what is recorded, unless all is to be in Burn's operations.
impl FusedCrossEntropy for Capture {
    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self> {
        if !notes_ours() || !cards_take(&logits.shape()) {
            return composed::forward::<Self>(logits, targets);
        }
        let scratch = [Scratch::of_rows(logits.shape()[0], size_of::<f32>())];
        let [loss] = record(CROSS_ENTROPY, [logits, targets], [(Shape::new([1]), DType::F32)], &scratch);
        loss
    }

    fn fused_cross_entropy_gradient(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if !notes_ours() || !cards_take(&logits.shape()) {
            return composed::gradient::<Self>(logits, targets, gradient);
        }
        let form = (logits.shape(), logits.dtype());
        let [of_logits] = record(CROSS_ENTROPY_GRADIENT, [logits, targets, gradient], [form], &[]);
        of_logits
    }
}

impl FusedCrossEntropy for Flex {
    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self> {
        let classes = logits.layout().shape()[1];
        let loss = cpu_kernels::cross_entropy(&values(&logits), &values(&targets), classes);
        tensor(vec![loss as f32], &Shape::new([1]))
    }

    fn fused_cross_entropy_gradient(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (classes, upstream) = (logits.layout().shape()[1], values(&gradient)[0]);
        let found = cpu_kernels::cross_entropy_gradient(&values(&logits), &values(&targets), upstream, classes);
        tensor_like(found, &logits)
    }
}

#[derive(Debug)]
struct CrossEntropyBackward;

impl<B: Backend + FusedCrossEntropy> Backward<B, 1> for CrossEntropyBackward {
    /// Logits and targets.
    type State = (NodeId, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [logits_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (logits, targets) = ops.state;
        let logits = checkpointer.retrieve_node_output::<FloatTensor<B>>(logits);
        if let Some(node) = logits_node {
            gradients.register::<B>(node.id, B::fused_cross_entropy_gradient(logits, targets, gradient));
        }
    }
}

impl<B: Backend + FusedCrossEntropy, C: CheckpointStrategy> FusedCrossEntropy for Autodiff<B, C> {
    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self> {
        let targets = targets.primitive;
        match CrossEntropyBackward.prepare::<C>([logits.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = (prepared.checkpoint(&logits), targets.clone());
                prepared.finish(state, B::fused_cross_entropy(logits.primitive, targets))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::fused_cross_entropy(logits.primitive, targets)),
        }
    }

    fn fused_cross_entropy_gradient(
        _logits: FloatTensor<Self>,
        _targets: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
