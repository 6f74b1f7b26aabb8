//! Depthwise convolution over channels-last maps: any stride, zeros around the map, bias inside. Sums are made in f32, and nothing of the map's size
//! is kept for the backward pass but the map as it is stored.
//!
//! On the CPU it runs the loops of `cpu-kernels`, on CUDA and WebGPU the kernels of `cube`; elsewhere, where those do not cover a shape, and where a
//! measurement [chose](super::choice) so, it is composed of Burn's own operations. Burn's own runs the input gradient as a direct transposed convolution
//! and the weight gradient channel by channel, and sums in the type of the map.

mod composed;
mod cpu;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
pub(crate) mod plan;
mod recorded;

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
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use cpu_kernels::{DepthwiseShape, StridedDepthwise};

use super::storage::{as_rows, as_vector, widened};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// Convolves each channel with its own kernel: stride 1, and zeros around the map that keep its size.
///
/// # Shapes
/// - `map` and output: `[B, H, W, C]`, of one type
/// - `weight`: `[C, 1, k, k]` with k odd, f32
/// - `bias`: `[C]`, f32
pub fn depthwise_conv2d(map: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    let ([batch, height, width, channels], [_, _, kernel, _]) = (map.dims(), weight.dims());
    let shape = DepthwiseShape { batch, height, width, channels, kernel };
    let windows = StridedDepthwise { shape, stride: 1, before: [kernel / 2; 2], output: [height, width] };
    depthwise(map, weight, Some(bias), windows)
}

/// Convolves each channel with its own kernel.
///
/// # Shapes
/// - `map`: `[B, H, W, C]`, as `windows` says
/// - `weight`: `[C, 1, k, k]`, f32
/// - `bias`: `[C]`, f32
/// - output: `[B, H', W', C]`, of the map's type
pub(crate) fn depthwise(
    map: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    windows: StridedDepthwise,
) -> Tensor<4> {
    let device = map.device();
    if is_captured(&device) {
        return on_captured!(device, B => {
            let (map, weight) = (primitive::<B, 4>(map), primitive::<B, 4>(weight));
            Tensor::from_primitive::<B>(match bias {
                Some(bias) => B::biased_depthwise(map, weight, primitive::<B, 1>(bias), windows),
                None => B::depthwise(map, weight, windows),
            })
        });
    }
    let (map, weight) = (map.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::biased_depthwise(map, weight, bias.into_dispatch(), windows),
        None => Dispatch::depthwise(map, weight, windows),
    })
}

/// The operation on a backend.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait Depthwise: Backend {
    /// See [`depthwise`].
    fn depthwise(map: FloatTensor<Self>, weight: FloatTensor<Self>, windows: StridedDepthwise) -> FloatTensor<Self>;

    /// The same with a bias.
    fn biased_depthwise(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self>;

    /// The gradient of the map: `[B, H, W, C]`, in the type of `gradient`.
    fn depthwise_map_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self>;

    /// The gradient of the weight: `[C, 1, k, k]`, f32.
    fn depthwise_weight_gradient(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self>;

    /// The gradients of the weight and of the bias, `[C]`, f32.
    fn depthwise_parameter_gradients(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// `[B, H, W, C]` to `[C]`, in f32.
fn sum_over_positions<B: Backend>(gradient: FloatTensor<B>) -> FloatTensor<B> {
    as_vector::<B>(B::float_sum_dim(widened::<B>(as_rows::<B>(gradient)), 0))
}

#[derive(Debug)]
struct DepthwiseBackward;

/// What the backward pass wants of the forward pass.
#[derive(Debug, Clone)]
struct Kept {
    /// Where the weight has a gradient.
    map: Option<NodeId>,
    weight: NodeId,
    windows: StridedDepthwise,
}

impl<B: Backend + Depthwise, const PARENTS: usize> Backward<B, PARENTS> for DepthwiseBackward {
    type State = Kept;

    fn backward(self, ops: Ops<Self::State, PARENTS>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let Kept { map, weight, windows } = ops.state;
        let map = map.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        let mut parents = ops.parents.into_iter();
        let mut next = || parents.next().flatten();
        let (map_node, weight_node, bias_node) = (next(), next(), next());
        match (weight_node.zip(map), bias_node) {
            (Some((weight_node, map)), Some(bias_node)) => {
                let (of_weight, of_bias) =
                    B::depthwise_parameter_gradients(map, weight.clone(), gradient.clone(), windows);
                gradients.register::<B>(weight_node.id, of_weight);
                gradients.register::<B>(bias_node.id, of_bias);
            }
            (Some((node, map)), None) => {
                let of_weight = B::depthwise_weight_gradient(map, weight.clone(), gradient.clone(), windows);
                gradients.register::<B>(node.id, of_weight);
            }
            (None, Some(node)) => gradients.register::<B>(node.id, sum_over_positions::<B>(gradient.clone())),
            (None, None) => {}
        }
        if let Some(node) = map_node {
            gradients.register::<B>(node.id, B::depthwise_map_gradient(weight, gradient, windows));
        }
    }
}

impl<B: Backend + Depthwise, C: CheckpointStrategy> Depthwise for Autodiff<B, C> {
    fn depthwise(map: FloatTensor<Self>, weight: FloatTensor<Self>, windows: StridedDepthwise) -> FloatTensor<Self> {
        let nodes = [map.node.clone(), weight.node.clone()];
        match Backward::<B, 2>::prepare::<C>(DepthwiseBackward, nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let map_node = weight.is_tracked().then(|| prepared.checkpoint(&map));
                let state = Kept { map: map_node, weight: prepared.checkpoint(&weight), windows };
                prepared.finish(state, B::depthwise(map.primitive, weight.primitive, windows))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::depthwise(map.primitive, weight.primitive, windows)),
        }
    }

    fn biased_depthwise(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        let nodes = [map.node.clone(), weight.node.clone(), bias.node.clone()];
        match Backward::<B, 3>::prepare::<C>(DepthwiseBackward, nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let map_node = weight.is_tracked().then(|| prepared.checkpoint(&map));
                let state = Kept { map: map_node, weight: prepared.checkpoint(&weight), windows };
                prepared.finish(state, B::biased_depthwise(map.primitive, weight.primitive, bias.primitive, windows))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::biased_depthwise(map.primitive, weight.primitive, bias.primitive, windows))
            }
        }
    }

    fn depthwise_map_gradient(
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn depthwise_weight_gradient(
        _map: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn depthwise_parameter_gradients(
        _map: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _windows: StridedDepthwise,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}

#[cfg(test)]
mod tests;
