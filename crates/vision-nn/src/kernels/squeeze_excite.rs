//! Squeeze and excitation as one operation that keeps nothing for the backward pass but its map.
//!
//! On the CPU it runs the loops of `cpu-kernels`; on cards it is made of kernels that read the map once each, and of Burn's arithmetic on a few numbers of
//! each sample. All but the map is computed in f32.

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
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use cpu_kernels::SqueezeExcite;

use super::host::{Values, tensor, tensor_like, values};
use crate::tape::{on_captured, primitive};
use crate::{Pointwise, is_captured};

/// Weighs the channels of a map.
///
/// # Shapes
/// - `map` and output: `[B, P, C]`, of one type
/// - `reduce`: weight `[R, C, 1, 1]` and bias `[R]`; `expand`: `[C, R, 1, 1]` and `[C]`, f32
pub(crate) fn squeeze_excite(map: Tensor<3>, reduce: &Pointwise, expand: &Pointwise) -> Tensor<3> {
    let device = map.device();
    let [reduce_weight, expand_weight] = [reduce, expand].map(|layer| layer.weight.val());
    let [reduce_bias, expand_bias] = [reduce, expand].map(|layer| layer.bias.val());
    if is_captured(&device) {
        return on_captured!(device, B => {
            let [reduce_weight, expand_weight] = [reduce_weight, expand_weight].map(primitive::<B, 4>);
            let [reduce_bias, expand_bias] = [reduce_bias, expand_bias].map(primitive::<B, 1>);
            let map = primitive::<B, 3>(map);
            let output = B::fused_squeeze_excite(map, reduce_weight, reduce_bias, expand_weight, expand_bias);
            Tensor::from_primitive::<B>(output)
        });
    }
    let [reduce_weight, expand_weight] = [reduce_weight, expand_weight].map(Tensor::into_dispatch);
    let [reduce_bias, expand_bias] = [reduce_bias, expand_bias].map(Tensor::into_dispatch);
    let map = map.into_dispatch();
    Tensor::from_dispatch(Dispatch::fused_squeeze_excite(map, reduce_weight, reduce_bias, expand_weight, expand_bias))
}

/// The operation on a backend.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
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

/// A backend on which the operation is made of those of [`PerChannel`](super::per_channel::PerChannel).
macro_rules! composed_on {
    ($backend:ty) => {
        impl FusedSqueezeExcite for $backend {
            fn fused_squeeze_excite(
                map: FloatTensor<Self>,
                reduce: FloatTensor<Self>,
                reduce_bias: FloatTensor<Self>,
                expand: FloatTensor<Self>,
                expand_bias: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                composed::forward::<Self>(map, [reduce, reduce_bias, expand, expand_bias])
            }

            fn fused_squeeze_excite_gradient(
                map: FloatTensor<Self>,
                reduce: FloatTensor<Self>,
                reduce_bias: FloatTensor<Self>,
                expand: FloatTensor<Self>,
                expand_bias: FloatTensor<Self>,
                gradient: FloatTensor<Self>,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                composed::gradient::<Self>(map, [reduce, reduce_bias, expand, expand_bias], gradient).into()
            }
        }
    };
}

composed_on!(Capture);
#[cfg(feature = "cuda")]
composed_on!(Cuda);
#[cfg(feature = "wgpu")]
composed_on!(Wgpu);

impl FusedSqueezeExcite for Flex {
    fn fused_squeeze_excite(
        map: FloatTensor<Self>,
        reduce: FloatTensor<Self>,
        reduce_bias: FloatTensor<Self>,
        expand: FloatTensor<Self>,
        expand_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let weights = [&reduce, &reduce_bias, &expand, &expand_bias].map(values);
        tensor_like(layer(&weights).forward(&values(&map), positions(&map)), &map)
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
            tensor_like(found.map, &map),
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
