//! Softmax over the last axis in f32, keeping nothing for the backward pass but its output as it is stored.

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use super::storage::{stored_as, widened};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// Softmax over the last axis.
///
/// # Shapes
/// - `scores` and output: `[.., N]`, of one type
pub fn softmax<const D: usize>(scores: Tensor<D>) -> Tensor<D> {
    let device = scores.device();
    if is_captured(&device) {
        return on_captured!(device, B => Tensor::from_primitive::<B>(B::fused_softmax(primitive::<B, D>(scores))));
    }
    Tensor::from_dispatch(Dispatch::fused_softmax(scores.into_dispatch()))
}

/// The operation on a backend; the bodies are composed of Burn's own operations.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait FusedSoftmax: Backend {
    /// See [`softmax`].
    fn fused_softmax(scores: FloatTensor<Self>) -> FloatTensor<Self> {
        let (last, dtype) = (scores.shape().num_dims() - 1, scores.dtype());
        stored_as::<Self>(Self::softmax(widened::<Self>(scores), last), dtype)
    }

    /// The gradient of the scores.
    fn fused_softmax_gradient(output: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let (last, dtype) = (output.shape().num_dims() - 1, output.dtype());
        let (output, gradient) = (widened::<Self>(output), widened::<Self>(gradient));
        let weighted = Self::float_sum_dim(Self::float_mul(gradient.clone(), output.clone()), last);
        stored_as::<Self>(Self::float_mul(Self::float_sub(gradient, weighted), output), dtype)
    }
}

impl FusedSoftmax for Flex {}
impl FusedSoftmax for Capture {}
#[cfg(feature = "cuda")]
impl FusedSoftmax for Cuda {}
#[cfg(feature = "wgpu")]
impl FusedSoftmax for Wgpu {}

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
    use burn::backend::{DispatchKindConversion, DispatchTensor};
    use burn::tensor::{DType, Device, Distribution, activation};

    use super::*;
    use crate::kernels::test_definition::{assert_near, host, numbers, primitive_of, rounded, rounding};

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

    fn shares_of(scores: &[f64], length: usize) -> Vec<f64> {
        let of_row = |scores: &[f64]| -> Vec<f64> {
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - highest).exp()).sum();
            scores.iter().map(|score| (score - highest).exp() / sum).collect()
        };
        scores.chunks_exact(length).flat_map(of_row).collect()
    }

    fn slopes_of(shares: &[f64], upstream: &[f64], length: usize) -> Vec<f64> {
        let of_row = |(shares, upstream): (&[f64], &[f64])| -> Vec<f64> {
            let mean: f64 = shares.iter().zip(upstream).map(|(share, slope)| share * slope).sum();
            shares.iter().zip(upstream).map(|(share, slope)| share * (slope - mean)).collect()
        };
        shares.chunks_exact(length).zip(upstream.chunks_exact(length)).flat_map(of_row).collect()
    }

    fn assert_defined<B: Backend + FusedSoftmax>(device: &Device, storages: &[DType])
    where
        DispatchTensor: DispatchKindConversion<B>,
    {
        for (&storage, shape) in
            storages.iter().flat_map(|storage| [[3, 5, 1], [5, 7, 49]].map(|shape| (storage, shape)))
        {
            let count = shape.iter().product();
            let scores: Vec<f64> = numbers(1, count).iter().map(|number| 5.0 * number).collect();
            let [scores, upstream] = [scores, numbers(2, count)].map(|map| rounded(&map, device, storage));
            let stored = |map: &[f64]| primitive_of::<B, 3>(map, shape, device, storage);
            let output = B::fused_softmax(stored(&scores));
            let gradient = B::fused_softmax_gradient(output.clone(), stored(&upstream));
            let found = [output, gradient].map(|map| (map.dtype(), host::<B, 3>(map)));
            // The gradient is that of what was kept.
            let slopes = slopes_of(&found[0].1, &upstream, shape[2]);
            let shares = shares_of(&scores, shape[2]);
            for ((dtype, found), expected) in found.iter().zip([shares, slopes]) {
                assert_eq!(*dtype, storage);
                assert_near(&format!("{shape:?} in {storage:?}"), found, &expected, 1e-5 + rounding(storage));
            }
        }
    }

    #[test]
    fn the_definition_holds_on_the_cpu() {
        assert_defined::<Flex>(&Device::flex(), &[DType::F32, DType::BF16, DType::F16]);
    }

    /// WebGPU has no bf16.
    #[cfg(feature = "wgpu")]
    #[test]
    fn the_definition_holds_on_software_vulkan() {
        assert_defined::<Wgpu>(&Device::wgpu(burn::tensor::DeviceKind::DefaultDevice), &[DType::F32, DType::F16]);
    }
}
