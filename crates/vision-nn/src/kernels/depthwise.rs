//! Depthwise convolution over channels-last maps: stride 1, odd kernel, zero padding that keeps the size, bias inside. Sums are made in f32, and
//! nothing of the map's size is kept for the backward pass but the map as it is stored.
//!
//! Burn's own runs the input gradient as a direct transposed convolution and the weight gradient channel by channel. Here the input
//! gradient is the forward pass with the kernel turned by 180 degrees, which holds for stride 1 and odd kernels.

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
use burn::tensor::{Shape, Tensor};

use super::storage::{as_rows, as_vector, stored_as, widened};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// Convolves each channel with its own kernel.
///
/// # Shapes
/// - `map` and output: `[B, H, W, C]`, of one type
/// - `weight`: `[C, 1, k, k]` with k odd, f32
/// - `bias`: `[C]`, f32
pub fn depthwise_conv2d(map: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    let device = map.device();
    if is_captured(&device) {
        return on_captured!(device, B => {
            let output = B::depthwise(primitive::<B, 4>(map), primitive::<B, 4>(weight), primitive::<B, 1>(bias));
            Tensor::from_primitive::<B>(output)
        });
    }
    Tensor::from_dispatch(Dispatch::depthwise(map.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()))
}

/// The operation on a backend; the bodies here are composed of Burn's own operations.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait Depthwise: Backend {
    /// See [`depthwise_conv2d`].
    fn depthwise(map: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the map: `[B, H, W, C]`.
    fn depthwise_map_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the weight: `[C, 1, k, k]`.
    fn depthwise_weight_gradient(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The operation in terms of Burn's own.
mod composed {
    use super::*;

    const TO_CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];
    const TO_CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];

    pub(super) fn forward<B: Backend>(
        map: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        let (options, dtype) = (options(&weight.shape()), map.dtype());
        let map = B::float_permute(widened::<B>(map), &TO_CHANNELS_FIRST);
        let output = B::float_permute(B::conv2d(map, weight, bias, options), &TO_CHANNELS_LAST);
        stored_as::<B>(output, dtype)
    }

    pub(super) fn map_gradient<B: Backend>(weight: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
        forward::<B>(gradient, B::float_flip(weight, &[2, 3]), None)
    }

    pub(super) fn weight_gradient<B: Backend>(
        map: FloatTensor<B>,
        weight: FloatTensor<B>,
        gradient: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let options = options(&weight.shape());
        let map = B::float_permute(widened::<B>(map), &TO_CHANNELS_FIRST);
        let gradient = B::float_permute(widened::<B>(gradient), &TO_CHANNELS_FIRST);
        B::conv2d_weight_backward(map, weight, gradient, options)
    }

    fn options(weight: &Shape) -> ConvOptions<2> {
        let (channels, kernel) = (weight[0], weight[2]);
        ConvOptions::new([1, 1], [kernel / 2; 2], [1, 1], channels)
    }
}

/// A backend on which the operation is composed of Burn's own.
macro_rules! composed_on {
    ($backend:ty) => {
        impl Depthwise for $backend {
            fn depthwise(
                map: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                composed::forward::<Self>(map, weight, Some(bias))
            }

            fn depthwise_map_gradient(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
                composed::map_gradient::<Self>(weight, gradient)
            }

            fn depthwise_weight_gradient(
                map: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                gradient: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                composed::weight_gradient::<Self>(map, weight, gradient)
            }
        }
    };
}

composed_on!(Capture);
#[cfg(feature = "cuda")]
composed_on!(Cuda);
#[cfg(feature = "wgpu")]
composed_on!(Wgpu);

#[derive(Debug)]
struct DepthwiseBackward;

impl<B: Backend + Depthwise> Backward<B, 3> for DepthwiseBackward {
    /// The map, if the weight wants it, and the weight.
    type State = (NodeId, NodeId);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [map_node, weight_node, bias_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (map, weight) = ops.state;
        let map = checkpointer.retrieve_node_output::<FloatTensor<B>>(map);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        if let Some(node) = bias_node {
            gradients.register::<B>(node.id, sum_over_positions::<B>(gradient.clone()));
        }
        if let Some(node) = weight_node {
            let of_weight = B::depthwise_weight_gradient(map, weight.clone(), gradient.clone());
            gradients.register::<B>(node.id, of_weight);
        }
        if let Some(node) = map_node {
            gradients.register::<B>(node.id, B::depthwise_map_gradient(weight, gradient));
        }
    }
}

/// `[B, H, W, C]` to `[C]`, in f32.
fn sum_over_positions<B: Backend>(gradient: FloatTensor<B>) -> FloatTensor<B> {
    as_vector::<B>(B::float_sum_dim(widened::<B>(as_rows::<B>(gradient)), 0))
}

impl<B: Backend + Depthwise, C: CheckpointStrategy> Depthwise for Autodiff<B, C> {
    fn depthwise(map: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [map.node.clone(), weight.node.clone(), bias.node.clone()];
        match DepthwiseBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = (prepared.checkpoint(&map), prepared.checkpoint(&weight));
                prepared.finish(state, B::depthwise(map.primitive, weight.primitive, bias.primitive))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::depthwise(map.primitive, weight.primitive, bias.primitive))
            }
        }
    }

    fn depthwise_map_gradient(_weight: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn depthwise_weight_gradient(
        _map: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
