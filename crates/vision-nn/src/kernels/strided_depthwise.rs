//! Depthwise convolution with a stride, or with padding that differs from side to side, on the CPU.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use cpu_kernels::StridedDepthwise;

use super::host::{is_cpu, tensor, values};

/// Convolves each channel with its own kernel; none where there is no such operation: off the CPU, and in half precision.
///
/// # Shapes
/// - `map`: `[B, H, W, C]`, as `windows` says
/// - `weight`: `[C, 1, k, k]`
/// - output: `[B, H', W', C]`
pub(crate) fn strided_depthwise(
    map: &Tensor<4>,
    weight: &Tensor<4>,
    windows: impl FnOnce() -> StridedDepthwise,
) -> Option<Tensor<4>> {
    let runs = is_cpu(&map.device()) && map.dtype() == DType::F32;
    let output = || Dispatch::strided_depthwise(map.clone().into_dispatch(), weight.clone().into_dispatch(), windows());
    runs.then(|| Tensor::from_dispatch(output()))
}

/// The operation on the CPU, in f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Autodiff)]
pub trait StridedDepthwiseConv: Backend {
    /// See [`strided_depthwise`].
    fn strided_depthwise(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self>;

    /// The gradient of the map: `[B, H, W, C]`.
    fn strided_depthwise_map_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self>;

    /// The gradient of the weight: `[C, 1, k, k]`.
    fn strided_depthwise_weight_gradient(
        map: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self>;
}

impl StridedDepthwiseConv for Flex {
    fn strided_depthwise(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        let output = windows.forward(&values(&map), &values(&weight), None);
        let [height, width] = windows.output;
        tensor(output, &Shape::new([windows.shape.batch, height, width, windows.shape.channels]))
    }

    fn strided_depthwise_map_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        let shape = windows.shape;
        let of_map = windows.map_gradient(&values(&gradient), &values(&weight));
        tensor(of_map, &Shape::new([shape.batch, shape.height, shape.width, shape.channels]))
    }

    fn strided_depthwise_weight_gradient(
        map: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        let shape = windows.shape;
        let of_weight = windows.weight_gradient(&values(&map), &values(&gradient));
        tensor(of_weight, &Shape::new([shape.channels, 1, shape.kernel, shape.kernel]))
    }
}

#[derive(Debug)]
struct StridedDepthwiseBackward;

impl<B: Backend + StridedDepthwiseConv> Backward<B, 2> for StridedDepthwiseBackward {
    /// Map and weight, and the windows.
    type State = ([NodeId; 2], StridedDepthwise);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [map_node, weight_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (nodes, windows) = ops.state;
        let [map, weight] = nodes.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        if let Some(node) = weight_node {
            let of_weight = B::strided_depthwise_weight_gradient(map, gradient.clone(), windows);
            gradients.register::<B>(node.id, of_weight);
        }
        if let Some(node) = map_node {
            gradients.register::<B>(node.id, B::strided_depthwise_map_gradient(weight, gradient, windows));
        }
    }
}

impl<B: Backend + StridedDepthwiseConv, C: CheckpointStrategy> StridedDepthwiseConv for Autodiff<B, C> {
    fn strided_depthwise(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        let nodes = [map.node.clone(), weight.node.clone()];
        match StridedDepthwiseBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = ([prepared.checkpoint(&map), prepared.checkpoint(&weight)], windows);
                prepared.finish(state, B::strided_depthwise(map.primitive, weight.primitive, windows))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::strided_depthwise(map.primitive, weight.primitive, windows))
            }
        }
    }

    fn strided_depthwise_map_gradient(
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn strided_depthwise_weight_gradient(
        _map: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _windows: StridedDepthwise,
    ) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
