//! The end of a residual branch as one operation: layer scale, stochastic depth, and the sum.

use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor, TensorData};
use cpu_kernels::Residual;

use super::host::{is_cpu, tensor, values};
use crate::pass::stored_as;

/// A factor for each sample; none is 1 for all.
type Factors = Option<Arc<[f32]>>;

/// `map + branch * scale * factors`. Composed of Burn's own operations wherever the one for the CPU does not run.
///
/// # Shapes
/// - `map`, `branch` and output: `[B, .., C]`
/// - `scale`: `[C]`
/// - `factors`: `[B]`
pub(crate) fn residual<const D: usize>(
    map: Tensor<D>,
    branch: Tensor<D>,
    scale: Option<Tensor<1>>,
    factors: Factors,
) -> Tensor<D> {
    if !is_cpu(&map.device()) || map.dtype() != DType::F32 {
        return composed(map, branch, scale, factors);
    }
    let (map, branch) = (map.into_dispatch(), branch.into_dispatch());
    Tensor::from_dispatch(match scale {
        Some(scale) => Dispatch::scaled_residual(map, branch, scale.into_dispatch(), factors),
        None => Dispatch::plain_residual(map, branch, factors),
    })
}

fn composed<const D: usize>(
    map: Tensor<D>,
    branch: Tensor<D>,
    scale: Option<Tensor<1>>,
    factors: Factors,
) -> Tensor<D> {
    let place = (branch.device(), branch.dtype());
    let branch = match scale {
        Some(scale) => {
            let scale = stored_as(scale, branch.dtype());
            branch * scale.unsqueeze::<D>()
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

/// The operation on the CPU, in f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Autodiff)]
pub trait FusedResidual: Backend {
    /// See [`residual`].
    fn scaled_residual(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        factors: Factors,
    ) -> FloatTensor<Self>;

    /// The same without a scale.
    fn plain_residual(map: FloatTensor<Self>, branch: FloatTensor<Self>, factors: Factors) -> FloatTensor<Self>;

    /// The gradients of branch and scale of [`scaled_residual`](Self::scaled_residual).
    fn scaled_residual_gradient(
        branch: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        factors: Factors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of the branch of [`plain_residual`](Self::plain_residual).
    fn plain_residual_gradient(gradient: FloatTensor<Self>, factors: Factors) -> FloatTensor<Self>;
}

impl FusedResidual for Flex {
    fn scaled_residual(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        factors: Factors,
    ) -> FloatTensor<Self> {
        let scale = values(&scale);
        let sum = of(&map, Some(&scale), &factors).forward(&values(&map), &values(&branch));
        tensor(sum, map.layout().shape())
    }

    fn plain_residual(map: FloatTensor<Self>, branch: FloatTensor<Self>, factors: Factors) -> FloatTensor<Self> {
        let sum = of(&map, None, &factors).forward(&values(&map), &values(&branch));
        tensor(sum, map.layout().shape())
    }

    fn scaled_residual_gradient(
        branch: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        factors: Factors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (gradient, scales) = (values(&gradient), values(&scale));
        let residual = of(&branch, Some(&scales), &factors);
        let of_branch = tensor(residual.branch_gradient(&gradient), branch.layout().shape());
        (of_branch, tensor(residual.scale_gradient(&values(&branch), &gradient), scale.layout().shape()))
    }

    fn plain_residual_gradient(gradient: FloatTensor<Self>, factors: Factors) -> FloatTensor<Self> {
        if factors.is_none() {
            return gradient;
        }
        let of_branch = of(&gradient, None, &factors).branch_gradient(&values(&gradient));
        tensor(of_branch, gradient.layout().shape())
    }
}

fn of<'a>(map: &FlexTensor, scale: Option<&'a [f32]>, factors: &'a Factors) -> Residual<'a> {
    let shape = map.layout().shape();
    Residual { scale, factors: factors.as_deref(), channels: shape[shape.num_dims() - 1] }
}

#[derive(Debug)]
struct ScaledBackward;

impl<B: Backend + FusedResidual> Backward<B, 3> for ScaledBackward {
    /// Branch and scale; factors.
    type State = ([NodeId; 2], Factors);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (nodes, factors) = ops.state;
        let [branch, scale] = nodes.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let (of_branch, of_scale) = B::scaled_residual_gradient(branch, scale, gradient.clone(), factors);
        for (node, gradient) in ops.parents.into_iter().zip([gradient, of_branch, of_scale]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct PlainBackward;

impl<B: Backend + FusedResidual> Backward<B, 2> for PlainBackward {
    type State = Factors;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [map, branch] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        if let Some(node) = branch {
            gradients.register::<B>(node.id, B::plain_residual_gradient(gradient.clone(), ops.state));
        }
        if let Some(node) = map {
            gradients.register::<B>(node.id, gradient);
        }
    }
}

impl<B: Backend + FusedResidual, C: CheckpointStrategy> FusedResidual for Autodiff<B, C> {
    fn scaled_residual(
        map: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        factors: Factors,
    ) -> FloatTensor<Self> {
        let nodes = [map.node.clone(), branch.node.clone(), scale.node.clone()];
        match ScaledBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = ([prepared.checkpoint(&branch), prepared.checkpoint(&scale)], factors.clone());
                prepared.finish(state, B::scaled_residual(map.primitive, branch.primitive, scale.primitive, factors))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::scaled_residual(map.primitive, branch.primitive, scale.primitive, factors))
            }
        }
    }

    fn plain_residual(map: FloatTensor<Self>, branch: FloatTensor<Self>, factors: Factors) -> FloatTensor<Self> {
        match PlainBackward.prepare::<C>([map.node.clone(), branch.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                prepared.finish(factors.clone(), B::plain_residual(map.primitive, branch.primitive, factors))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::plain_residual(map.primitive, branch.primitive, factors))
            }
        }
    }

    fn scaled_residual_gradient(
        _branch: FloatTensor<Self>,
        _scale: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _factors: Factors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }

    fn plain_residual_gradient(_gradient: FloatTensor<Self>, _factors: Factors) -> FloatTensor<Self> {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    type Operation = fn(Tensor<4>, Tensor<4>, Option<Tensor<1>>, Factors) -> Tensor<4>;

    /// Output, and the gradients of map, branch and, where there is one, scale.
    fn run(given: &[Tensor<4>; 3], scale: Option<&Tensor<1>>, factors: &Factors, operation: Operation) -> Vec<f32> {
        let device = Device::flex().autodiff();
        let [map, branch, upstream] = given.each_ref().map(|tensor| Tensor::<4>::from_data(tensor.to_data(), &device));
        let (map, branch) = (map.require_grad(), branch.require_grad());
        let scale = scale.map(|scale| Tensor::<1>::from_data(scale.to_data(), &device).require_grad());
        let output = operation(map.clone(), branch.clone(), scale.clone(), factors.clone());
        let tape = (output.clone() * upstream).sum().backward();
        let maps = [output.inner(), map.grad(&tape).unwrap(), branch.grad(&tape).unwrap()];
        let of_scale = scale.map(|scale| scale.grad(&tape).unwrap().into_data());
        let all = maps.into_iter().map(Tensor::into_data).chain(of_scale);
        all.flat_map(|data| data.iter::<f32>().collect::<Vec<_>>()).collect()
    }

    #[test]
    fn output_and_gradients_are_those_of_burns_operations() {
        let device = Device::flex();
        let random = || Tensor::<4>::random([3, 2, 5, 7], Distribution::Normal(0.0, 1.0), &device);
        let given = [random(), random(), random()];
        let scale = Tensor::<1>::random([7], Distribution::Normal(0.0, 1.0), &device);
        for scale in [Some(&scale), None] {
            for factors in [Some(Arc::from([1.25, 0.0, 1.25])), None] {
                let ours = run(&given, scale, &factors, residual);
                let burns = run(&given, scale, &factors, composed);
                assert_eq!(ours.len(), burns.len());
                for (ours, burns) in ours.into_iter().zip(burns) {
                    // At most thirty products of order one in f32.
                    assert!((ours - burns).abs() < 1e-5, "{ours} is not {burns}");
                }
            }
        }
    }
}
