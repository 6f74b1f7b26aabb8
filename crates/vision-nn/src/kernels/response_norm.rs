//! Global response normalisation of channels-last maps, keeping nothing of the map's size for the backward pass but its input.
//!
//! On the CPU it runs the loops of `cpu-kernels`; on cards it is made of kernels that read the map once each, and of Burn's arithmetic on a few numbers of
//! each sample.
//!
//! Written as operations on the tape it would keep the map twice or three times, and a channel that is zero everywhere would have no gradient but NaN: the
//! slope of a root at zero is infinite.

mod composed;
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
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::host::{tensor_like, values};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// Scales each channel of each sample by `1 + weight * response`, and adds `bias`. The response is the channel's length over all positions, divided by the mean
/// of the sample's lengths and `epsilon`.
///
/// Computed in f32 whatever the map is stored in.
///
/// # Shapes
/// - `cells` and output: `[B, N, C]`, N positions
/// - `weight`, `bias`: `[C]`
pub fn response_norm(cells: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<3> {
    let device = cells.device();
    let epsilon = epsilon as f32;
    if is_captured(&device) {
        return on_captured!(device, B => {
            let (weight, bias) = (primitive::<B, 1>(weight), primitive::<B, 1>(bias));
            Tensor::from_primitive::<B>(B::response_norm(primitive::<B, 3>(cells), weight, bias, epsilon))
        });
    }
    let (cells, weight, bias) = (cells.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::response_norm(cells, weight, bias, epsilon))
}

/// The operation on a backend.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait ResponseNorm: Backend {
    /// See [`response_norm`].
    fn response_norm(
        cells: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// The gradients of cells, weight and bias.
    fn response_norm_gradient(
        cells: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// A backend on which the operation is made of those of [`PerChannel`](super::per_channel::PerChannel).
macro_rules! composed_on {
    ($backend:ty) => {
        impl ResponseNorm for $backend {
            fn response_norm(
                cells: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                epsilon: f32,
            ) -> FloatTensor<Self> {
                composed::forward::<Self>(cells, weight, bias, epsilon)
            }

            fn response_norm_gradient(
                cells: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                gradient: FloatTensor<Self>,
                epsilon: f32,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                composed::gradient::<Self>(cells, weight, gradient, epsilon)
            }
        }
    };
}

composed_on!(Capture);
#[cfg(feature = "cuda")]
composed_on!(Cuda);
#[cfg(feature = "wgpu")]
composed_on!(Wgpu);

impl ResponseNorm for Flex {
    fn response_norm(
        cells: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let (weight, bias) = (values(&weight), values(&bias));
        let norm = cpu_kernels::ResponseNorm { weight: &weight, bias: &bias, epsilon };
        tensor_like(norm.forward(&values(&cells), cells.layout().shape()[1]), &cells)
    }

    fn response_norm_gradient(
        cells: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let factors = values(&weight);
        // The bias has no part in the gradients.
        let norm = cpu_kernels::ResponseNorm { weight: &factors, bias: &[], epsilon };
        let found = norm.gradient(&values(&cells), &values(&gradient), cells.layout().shape()[1]);
        let of_vector = |numbers| tensor_like(numbers, &weight);
        (tensor_like(found.map, &cells), of_vector(found.weight), of_vector(found.bias))
    }
}

#[derive(Debug)]
struct ResponseNormBackward;

impl<B: Backend + ResponseNorm> Backward<B, 3> for ResponseNormBackward {
    /// Cells, weight, epsilon.
    type State = (NodeId, NodeId, f32);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (cells, weight, epsilon) = ops.state;
        let cells = checkpointer.retrieve_node_output::<FloatTensor<B>>(cells);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        let (of_cells, of_weight, of_bias) = B::response_norm_gradient(cells, weight, gradient, epsilon);
        for (node, gradient) in ops.parents.into_iter().zip([of_cells, of_weight, of_bias]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + ResponseNorm, C: CheckpointStrategy> ResponseNorm for Autodiff<B, C> {
    fn response_norm(
        cells: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let nodes = [cells.node.clone(), weight.node.clone(), bias.node.clone()];
        match ResponseNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = (prepared.checkpoint(&cells), prepared.checkpoint(&weight), epsilon);
                let output = B::response_norm(cells.primitive, weight.primitive, bias.primitive, epsilon);
                prepared.finish(state, output)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::response_norm(cells.primitive, weight.primitive, bias.primitive, epsilon))
            }
        }
    }

    fn response_norm_gradient(
        _cells: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
