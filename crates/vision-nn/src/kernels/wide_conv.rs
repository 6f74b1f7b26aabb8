//! A convolution that computes in f32 on maps that are stored in half precision, and keeps nothing for the backward pass but those.
//!
//! For convolutions with few products a sum and no tensor cores, whose kernels would add up in the type of the map: the strided depthwise ones.

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::ConvOptions;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use super::storage::{stored_as, widened};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// Convolves without bias, in f32.
///
/// # Shapes
/// - `map`: `[B, in, H, W]`
/// - `weight`: `[out, in / groups, k, k]`, f32
/// - output: `[B, out, H', W']`, of the map's type
pub(crate) fn wide_conv2d(map: Tensor<4>, weight: Tensor<4>, options: ConvOptions<2>) -> Tensor<4> {
    let device = map.device();
    if is_captured(&device) {
        return on_captured!(device, B => {
            let output = B::wide_conv2d(primitive::<B, 4>(map), primitive::<B, 4>(weight), options);
            Tensor::from_primitive::<B>(output)
        });
    }
    Tensor::from_dispatch(Dispatch::wide_conv2d(map.into_dispatch(), weight.into_dispatch(), options))
}

/// The operation on a backend.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait WideConv: Backend {
    /// See [`wide_conv2d`].
    fn wide_conv2d(map: FloatTensor<Self>, weight: FloatTensor<Self>, options: ConvOptions<2>) -> FloatTensor<Self> {
        let dtype = map.dtype();
        stored_as::<Self>(Self::conv2d(widened::<Self>(map), weight, None, options), dtype)
    }

    /// The gradients of map and weight.
    fn wide_conv2d_gradient(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let dtype = map.dtype();
        let (map, gradient) = (widened::<Self>(map), widened::<Self>(gradient));
        let of_map = Self::conv2d_x_backward(map.clone(), weight.clone(), gradient.clone(), options.clone());
        (stored_as::<Self>(of_map, dtype), Self::conv2d_weight_backward(map, weight, gradient, options))
    }
}

impl WideConv for Flex {}
impl WideConv for Capture {}
#[cfg(feature = "cuda")]
impl WideConv for Cuda {}
#[cfg(feature = "wgpu")]
impl WideConv for Wgpu {}

#[derive(Debug)]
struct WideConvBackward;

impl<B: Backend + WideConv> Backward<B, 2> for WideConvBackward {
    /// Map and weight.
    type State = ([NodeId; 2], ConvOptions<2>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (nodes, options) = ops.state;
        let [map, weight] = nodes.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let (of_map, of_weight) = B::wide_conv2d_gradient(map, weight, gradient, options);
        for (node, gradient) in ops.parents.into_iter().zip([of_map, of_weight]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + WideConv, C: CheckpointStrategy> WideConv for Autodiff<B, C> {
    fn wide_conv2d(map: FloatTensor<Self>, weight: FloatTensor<Self>, options: ConvOptions<2>) -> FloatTensor<Self> {
        let nodes = [map.node.clone(), weight.node.clone()];
        match WideConvBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = ([&map, &weight].map(|tensor| prepared.checkpoint(tensor)), options.clone());
                prepared.finish(state, B::wide_conv2d(map.primitive, weight.primitive, options))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::wide_conv2d(map.primitive, weight.primitive, options)),
        }
    }

    fn wide_conv2d_gradient(
        _map: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _options: ConvOptions<2>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Distribution, module};

    use super::*;

    const OPTIONS: fn() -> ConvOptions<2> = || ConvOptions::new([2, 2], [1, 1], [1, 1], 4);

    /// Output and the gradients of map and weight.
    fn run(dtype: DType, convolve: impl Fn(Tensor<4>, Tensor<4>) -> Tensor<4>) -> Vec<Tensor<1>> {
        let plain = Device::flex();
        plain.seed(3);
        let random = |shape: [usize; 4]| {
            // Exact in bf16, so that only what is computed is rounded.
            Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &plain).cast(DType::BF16).cast(dtype).to_data()
        };
        let device = plain.clone().autodiff();
        let onto = |data| Tensor::<4>::from_data(data, (&device, dtype)).require_grad();
        let (map, weight) = (onto(random([2, 4, 7, 6])), onto(random([4, 1, 3, 3])).cast(DType::F32));
        let weight = weight.detach().require_grad();
        let output = convolve(map.clone(), weight.clone());
        let tape = output.clone().cast(DType::F32).powi_scalar(2).sum().backward();
        let gradients = [map.grad(&tape).unwrap(), weight.grad(&tape).unwrap()];
        assert_eq!(gradients.each_ref().map(Tensor::dtype), [dtype, DType::F32]);
        [vec![output.inner()], gradients.to_vec()]
            .concat()
            .into_iter()
            .map(|t| t.cast(DType::F32).flatten(0, 3))
            .collect()
    }

    #[test]
    fn half_precision_maps_lose_only_the_rounding_of_what_is_stored() {
        let expected = run(DType::F32, |map, weight| module::conv2d(map, weight, None, OPTIONS()));
        let same = run(DType::F32, |map, weight| wide_conv2d(map, weight, OPTIONS()));
        let half = run(DType::BF16, |map, weight| wide_conv2d(map, weight, OPTIONS()));
        for ((expected, same), half) in expected.into_iter().zip(same).zip(half) {
            let largest = expected.clone().abs().max().into_scalar::<f32>();
            assert!((same - expected.clone()).abs().max().into_scalar::<f32>() < 1e-6 * largest);
            // Two roundings to 8 bits: of the output, and of its gradient.
            assert!((half - expected).abs().max().into_scalar::<f32>() < 1e-2 * largest);
        }
    }
}
