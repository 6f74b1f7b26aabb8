//! Softmax over the last axis, keeping nothing for the backward pass but its output.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::{ActivationOps, FloatTensorOps};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor, activation};

use super::host::is_cpu;

/// Softmax over the last axis. Burn's own runs wherever the vectorised one does not.
///
/// # Shapes
/// - `scores` and output: `[.., N]`
pub fn softmax<const D: usize>(scores: Tensor<D>) -> Tensor<D> {
    if is_cpu(&scores.device()) && scores.dtype() == DType::F32 {
        Tensor::from_dispatch(Dispatch::fused_softmax(scores.into_dispatch()))
    } else {
        activation::softmax(scores, D - 1)
    }
}

/// The operation on the CPU, in f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Autodiff)]
pub trait FusedSoftmax: Backend {
    /// See [`softmax`].
    fn fused_softmax(scores: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the scores.
    fn fused_softmax_gradient(output: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl FusedSoftmax for Flex {
    fn fused_softmax(scores: FloatTensor<Self>) -> FloatTensor<Self> {
        let last = scores.layout().shape().num_dims() - 1;
        Flex::softmax(scores, last)
    }

    fn fused_softmax_gradient(output: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let last = output.layout().shape().num_dims() - 1;
        let weighted = Flex::float_sum_dim(Flex::float_mul(gradient.clone(), output.clone()), last);
        Flex::float_mul(Flex::float_sub(gradient, weighted), output)
    }
}

#[derive(Debug)]
struct SoftmaxBackward;

impl<B: Backend + FusedSoftmax> Backward<B, 1> for SoftmaxBackward {
    /// The output.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [input_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        if let Some(node) = input_node {
            gradients.register::<B>(node.id, B::fused_softmax_gradient(ops.state, gradient));
        }
    }
}

impl<B: Backend + FusedSoftmax, C: CheckpointStrategy> FusedSoftmax for Autodiff<B, C> {
    fn fused_softmax(scores: FloatTensor<Self>) -> FloatTensor<Self> {
        match SoftmaxBackward.prepare::<C>([scores.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::fused_softmax(scores.primitive);
                prepared.finish(output.clone(), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::fused_softmax(scores.primitive)),
        }
    }

    fn fused_softmax_gradient(_output: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// Output, and the gradient of the sum of output times `weights`.
    fn run(scores: &Tensor<3>, weights: &Tensor<3>, softmax: impl Fn(Tensor<3>) -> Tensor<3>) -> [Tensor<3>; 2] {
        let device = Device::flex().autodiff();
        let scores = Tensor::from_data(scores.to_data(), &device).require_grad();
        let output = softmax(scores.clone());
        let weights = Tensor::<3>::from_data(weights.to_data(), &device);
        let tape = (output.clone() * weights).sum().backward();
        [output.inner(), scores.grad(&tape).unwrap()]
    }

    #[test]
    fn softmax_and_its_gradient_are_burns() {
        let device = Device::flex();
        let scores = Tensor::<3>::random([5, 7, 49], Distribution::Normal(0.0, 4.0), &device);
        // Blocked pairs, as attention has them.
        let scores = scores.slice_fill([0..2, 0..7, 30..49], -100.0);
        let weights = Tensor::<3>::random([5, 7, 49], Distribution::Normal(0.0, 1.0), &device);
        let ours = run(&scores, &weights, softmax);
        let burns = run(&scores, &weights, |scores| activation::softmax(scores, 2));
        for (ours, burns) in ours.into_iter().zip(burns) {
            let largest = (ours - burns).abs().max().into_scalar::<f32>();
            // Both are sums of 49 terms below one in f32: a few units in the last place.
            assert!(largest < 2e-6, "off by {largest:e}");
        }
    }
}
