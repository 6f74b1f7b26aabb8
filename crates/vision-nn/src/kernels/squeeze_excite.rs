//! Squeeze and excitation as one operation that keeps nothing for the backward pass but its map, on the CPU.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor};
use cpu_kernels::SqueezeExcite;

use super::host::{Values, is_cpu, tensor, values};
use crate::Pointwise;

/// Weighs the channels of a map; none where there is no such operation: off the CPU, and in half precision.
///
/// # Shapes
/// - `map` and output: `[B, P, C]`
/// - `reduce`: weight `[R, C, 1, 1]` and bias `[R]`; `expand`: `[C, R, 1, 1]` and `[C]`
pub(crate) fn squeeze_excite(map: &Tensor<3>, reduce: &Pointwise, expand: &Pointwise) -> Option<Tensor<3>> {
    let runs = is_cpu(&map.device()) && map.dtype() == DType::F32;
    runs.then(|| {
        let [reduce, expand] =
            [reduce, expand].map(|layer| (layer.weight.val().into_dispatch(), layer.bias.val().into_dispatch()));
        let map = map.clone().into_dispatch();
        Tensor::from_dispatch(Dispatch::fused_squeeze_excite(map, reduce.0, reduce.1, expand.0, expand.1))
    })
}

/// The operation on the CPU, in f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Autodiff)]
pub trait FusedSqueezeExcite: Backend {
    /// See [`squeeze_excite`].
    fn fused_squeeze_excite(
        map: FloatTensor<Self>,
        reduce: FloatTensor<Self>,
        reduce_bias: FloatTensor<Self>,
        expand: FloatTensor<Self>,
        expand_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The gradients of all that goes in, in that order.
    #[allow(clippy::type_complexity, reason = "five gradients")]
    fn fused_squeeze_excite_gradient(
        map: FloatTensor<Self>,
        reduce: FloatTensor<Self>,
        reduce_bias: FloatTensor<Self>,
        expand: FloatTensor<Self>,
        expand_bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl FusedSqueezeExcite for Flex {
    fn fused_squeeze_excite(
        map: FloatTensor<Self>,
        reduce: FloatTensor<Self>,
        reduce_bias: FloatTensor<Self>,
        expand: FloatTensor<Self>,
        expand_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let weights = [&reduce, &reduce_bias, &expand, &expand_bias].map(values);
        tensor(layer(&weights).forward(&values(&map), positions(&map)), map.layout().shape())
    }

    fn fused_squeeze_excite_gradient(
        map: FloatTensor<Self>,
        reduce: FloatTensor<Self>,
        reduce_bias: FloatTensor<Self>,
        expand: FloatTensor<Self>,
        expand_bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let weights = [&reduce, &reduce_bias, &expand, &expand_bias].map(values);
        let found = layer(&weights).gradient(&values(&map), &values(&gradient), positions(&map));
        (
            tensor(found.map, map.layout().shape()),
            tensor(found.reduce, reduce.layout().shape()),
            tensor(found.reduce_bias, reduce_bias.layout().shape()),
            tensor(found.expand, expand.layout().shape()),
            tensor(found.expand_bias, expand_bias.layout().shape()),
        )
    }
}

fn layer(weights: &[Values; 4]) -> SqueezeExcite<'_> {
    let [reduce, reduce_bias, expand, expand_bias] = weights.each_ref().map(|values| &**values);
    SqueezeExcite { reduce, reduce_bias, expand, expand_bias }
}

fn positions(map: &FlexTensor) -> usize {
    map.layout().shape()[1]
}

#[derive(Debug)]
struct SqueezeExciteBackward;

impl<B: Backend + FusedSqueezeExcite> Backward<B, 5> for SqueezeExciteBackward {
    /// All that went in.
    type State = [NodeId; 5];

    fn backward(self, ops: Ops<Self::State, 5>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let inputs = ops.state.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let [map, reduce, reduce_bias, expand, expand_bias] = inputs;
        let found = B::fused_squeeze_excite_gradient(map, reduce, reduce_bias, expand, expand_bias, gradient);
        for (node, gradient) in ops.parents.into_iter().zip([found.0, found.1, found.2, found.3, found.4]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + FusedSqueezeExcite, C: CheckpointStrategy> FusedSqueezeExcite for Autodiff<B, C> {
    fn fused_squeeze_excite(
        map: FloatTensor<Self>,
        reduce: FloatTensor<Self>,
        reduce_bias: FloatTensor<Self>,
        expand: FloatTensor<Self>,
        expand_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let inputs = [map, reduce, reduce_bias, expand, expand_bias];
        let nodes = inputs.each_ref().map(|input| input.node.clone());
        let output = |inputs: [FloatTensor<Self>; 5]| {
            let [map, reduce, reduce_bias, expand, expand_bias] = inputs.map(|input| input.primitive);
            B::fused_squeeze_excite(map, reduce, reduce_bias, expand, expand_bias)
        };
        match SqueezeExciteBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = inputs.each_ref().map(|input| prepared.checkpoint(input));
                prepared.finish(state, output(inputs))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output(inputs)),
        }
    }

    fn fused_squeeze_excite_gradient(
        _map: FloatTensor<Self>,
        _reduce: FloatTensor<Self>,
        _reduce_bias: FloatTensor<Self>,
        _expand: FloatTensor<Self>,
        _expand_bias: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
