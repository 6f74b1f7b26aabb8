//! The end of a residual branch as one operation: the bias of its last layer, layer scale, stochastic depth, and the sum. Computed in f32 whatever the maps are stored in; of the
//! maps only the branch is kept for the backward pass, and only where a scale wants it.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
mod passes;
pub(crate) mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

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
use burn::tensor::{Shape, Tensor, TensorData};

use super::host::is_cpu;
use super::linear::FusedLinear;
use super::recorded::composes;
use super::storage::{as_rows, widened};
use crate::is_captured;
use crate::pass::stored_as;
use crate::tape::{on_captured, primitive};
use passes::ResidualPasses;

/// A factor for each sample; none is 1 for all.
type Factors = Option<Arc<[f32]>>;

/// What each channel of a branch goes through: `(branch + bias) * scale`. A layer that leaves its bias to this operation saves a pass over its output, and
/// one over the gradient.
#[derive(Debug, Clone)]
pub struct BranchScale {
    /// `[C]`, f32
    pub bias: Tensor<1>,
    /// `[C]`, f32
    pub scale: Tensor<1>,
}

/// `map + (branch + bias) * scale * factors`, or without bias and scale.
///
/// # Shapes
/// - `map`, `branch` and output: `[B, .., C]`, of one type
/// - `factors`: `[B]`
pub(crate) fn residual<const D: usize>(
    map: Tensor<D>,
    branch: Tensor<D>,
    scale: Option<BranchScale>,
    factors: Factors,
) -> Tensor<D> {
    let device = map.device();
    // A mere sum is best left to Burn's fusion, which makes it where the branch is made.
    let is_sum = scale.is_none() && factors.is_none() && !is_cpu(&device);
    if is_sum || composes(&device) {
        return composed(map, branch, scale, factors);
    }
    if is_captured(&device) {
        return on_captured!(device, B => {
            let (map, branch) = (primitive::<B, D>(map), primitive::<B, D>(branch));
            Tensor::from_primitive::<B>(match scale {
                Some(BranchScale { bias, scale }) => {
                    let (bias, scale) = (primitive::<B, 1>(bias), primitive::<B, 1>(scale));
                    B::scaled_residual(map, branch, bias, scale, factors)
                }
                None => B::plain_residual(map, branch, factors),
            })
        });
    }
    let (map, branch) = (map.into_dispatch(), branch.into_dispatch());
    Tensor::from_dispatch(match scale {
        Some(BranchScale { bias, scale }) => {
            Dispatch::scaled_residual(map, branch, bias.into_dispatch(), scale.into_dispatch(), factors)
        }
        None => Dispatch::plain_residual(map, branch, factors),
    })
}

/// The same in Burn's own operations, in the type of the maps.
fn composed<const D: usize>(
    map: Tensor<D>,
    branch: Tensor<D>,
    scale: Option<BranchScale>,
    factors: Factors,
) -> Tensor<D> {
    let place = (branch.device(), branch.dtype());
    let branch = match scale {
        Some(BranchScale { bias, scale }) => {
            let [bias, scale] = [bias, scale].map(|vector| stored_as(vector, branch.dtype()).unsqueeze::<D>());
            (branch + bias) * scale
        }
        None => branch,
    };
    let Some(factors) = factors else {
        return map + branch;
    };
    let mut shape = [1; D];
    shape[0] = factors.len();
    let factors = TensorData::new(factors.to_vec(), shape);
    map + branch * Tensor::from_data(factors, (&place.0, place.1))
}

/// The operation on a backend.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait FusedResidual: Backend {
    /// See [`residual`].
    fn scaled_residual(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        factors: Factors,
    ) -> FloatTensor<Self>;

    /// The same without bias and scale.
    fn plain_residual(map: FloatTensor<Self>, branch: FloatTensor<Self>, factors: Factors) -> FloatTensor<Self>;
}

/// A backend whose passes are the operation.
macro_rules! in_passes_on {
    ($backend:ty) => {
        impl FusedResidual for $backend {
            fn scaled_residual(
                map: FloatTensor<Self>,
                branch: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                scale: FloatTensor<Self>,
                factors: Factors,
            ) -> FloatTensor<Self> {
                let factors = on_device_of::<Self>(&map, factors);
                Self::residual_sum(map, branch, Some([bias, scale]), factors)
            }

            fn plain_residual(
                map: FloatTensor<Self>,
                branch: FloatTensor<Self>,
                factors: Factors,
            ) -> FloatTensor<Self> {
                let factors = on_device_of::<Self>(&map, factors);
                Self::residual_sum(map, branch, None, factors)
            }
        }
    };
}

in_passes_on!(Flex);
in_passes_on!(Capture);
#[cfg(feature = "cuda")]
in_passes_on!(Cuda);
#[cfg(feature = "wgpu")]
in_passes_on!(Wgpu);

/// Factors as a tensor, `[B]`, beside another.
fn on_device_of<B: Backend>(beside: &FloatTensor<B>, factors: Factors) -> Option<FloatTensor<B>> {
    let factors = factors?;
    let data = TensorData::new(factors.to_vec(), Shape::new([factors.len()]));
    Some(B::float_from_data(data, &beside.device()))
}

/// `[.., C]` to `[C]`, in f32.
fn sum_of_rows<B: FusedLinear>(map: FloatTensor<B>) -> FloatTensor<B> {
    widened::<B>(B::fused_linear_bias_gradient(as_rows::<B>(map)))
}

#[derive(Debug)]
struct ScaledBackward;

/// What a backward pass over a scaled branch wants.
#[derive(Debug, Clone)]
struct ScaledState<B: Backend> {
    /// Where the scale has a gradient.
    branch: Option<NodeId>,
    /// Bias and scale.
    scale: [NodeId; 2],
    /// `[B]`
    factors: Option<FloatTensor<B>>,
}

impl<B: FusedLinear + ResidualPasses> Backward<B, 4> for ScaledBackward {
    type State = ScaledState<B>;

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let ScaledState { branch, scale, factors } = ops.state;
        let branch = branch.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let scale = scale.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let [map_node, branch_node, bias_node, scale_node] = ops.parents;
        if branch_node.is_some() || bias_node.is_some() || scale_node.is_some() {
            let (of_branch, of_vectors) = B::residual_gradients(branch, Some(scale), factors, gradient.clone());
            let (of_bias, of_scale) = of_vectors.map(<(_, _)>::from).unzip();
            if let Some(node) = bias_node {
                // Without the branch there are no sums.
                let of_bias = of_bias.unwrap_or_else(|| sum_of_rows::<B>(of_branch.clone()));
                gradients.register::<B>(node.id, of_bias);
            }
            if let Some((node, of_scale)) = scale_node.zip(of_scale) {
                gradients.register::<B>(node.id, of_scale);
            }
            if let Some(node) = branch_node {
                gradients.register::<B>(node.id, of_branch);
            }
        }
        if let Some(node) = map_node {
            gradients.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct PlainBackward;

impl<B: Backend + ResidualPasses> Backward<B, 2> for PlainBackward {
    /// Factors.
    type State = Option<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [map, branch] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        if let Some(node) = branch {
            let (of_branch, _) = match ops.state {
                Some(factors) => B::residual_gradients(None, None, Some(factors), gradient.clone()),
                None => (gradient.clone(), None),
            };
            gradients.register::<B>(node.id, of_branch);
        }
        if let Some(node) = map {
            gradients.register::<B>(node.id, gradient);
        }
    }
}

impl<B: FusedLinear + FusedResidual + ResidualPasses, C: CheckpointStrategy> FusedResidual for Autodiff<B, C> {
    fn scaled_residual(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        factors: Factors,
    ) -> FloatTensor<Self> {
        let nodes = [&map, &branch, &bias, &scale].map(|tensor| tensor.node.clone());
        let factors = on_device_of::<B>(&map.primitive, factors);
        match ScaledBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = ScaledState {
                    branch: scale.is_tracked().then(|| prepared.checkpoint(&branch)),
                    scale: [prepared.checkpoint(&bias), prepared.checkpoint(&scale)],
                    factors: factors.clone(),
                };
                let vectors = [bias.primitive, scale.primitive];
                prepared.finish(state, B::residual_sum(map.primitive, branch.primitive, Some(vectors), factors))
            }
            OpsKind::UnTracked(prepared) => {
                let vectors = [bias.primitive, scale.primitive];
                prepared.finish(B::residual_sum(map.primitive, branch.primitive, Some(vectors), factors))
            }
        }
    }

    fn plain_residual(map: FloatTensor<Self>, branch: FloatTensor<Self>, factors: Factors) -> FloatTensor<Self> {
        let factors = on_device_of::<B>(&map.primitive, factors);
        match PlainBackward.prepare::<C>([map.node.clone(), branch.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let sum = B::residual_sum(map.primitive, branch.primitive, None, factors.clone());
                prepared.finish(factors, sum)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::residual_sum(map.primitive, branch.primitive, None, factors))
            }
        }
    }
}
