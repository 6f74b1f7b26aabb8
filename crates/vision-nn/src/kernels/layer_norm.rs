//! Layer normalisation over the last axis in f32, keeping nothing for the backward pass but its input as it is stored.

mod composed;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
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
use burn::backend::{Autodiff, Backend, Capture, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

use super::choice::{self, Operation};
use super::host::{tensor, tensor_like, values};
use super::recorded::{Cut, Scratch, notes_ours, record};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// The name of the operation in recorded graphs.
pub(crate) const LAYER_NORM: &str = "layer_norm";

/// The name of its gradients in recorded graphs.
pub(crate) const LAYER_NORM_GRADIENTS: &str = "layer_norm gradients";

/// Rows are held in registers: 64 numbers a unit and array, of which the backward pass has four.
const MOST_CHANNELS: usize = 2048;

/// Lines of units in a cube of a card's kernels, of which each has a row at a time.
pub(crate) const LINES: usize = 4;

/// The memory that the units of a cube share on every CUDA card, whatever its age.
const SHARED_BYTES_OF_CUDA: usize = 48 << 10;

/// Whether the kernels of a card whose cubes share so much memory take rows of that length.
pub(crate) fn cards_take(shape: &Shape, shared_bytes: usize) -> bool {
    let fits = |channels: usize| channels <= MOST_CHANNELS && backward_shared_bytes(channels) <= shared_bytes;
    shape.num_elements() > 0 && shape.last().is_some_and(|channels| fits(*channels))
}

/// What a cube shares in the backward pass: the sums of weight and bias, and a number for each of at most 64 units of a line.
fn backward_shared_bytes(channels: usize) -> usize {
    (2 * channels + 64 * LINES) * size_of::<f32>()
}

/// Whether a recorded operation is noted as the kernels of a card.
fn is_noted(shape: &Shape, storage: DType) -> bool {
    notes_ours() && cards_take(shape, SHARED_BYTES_OF_CUDA) && is_chosen(shape, storage)
}

/// Whether ours is the way to take, where both can be.
fn is_chosen(shape: &Shape, storage: DType) -> bool {
    let numbers: &[usize] = shape;
    numbers.split_first().is_none_or(|(first, rest)| choice::is_ours(Operation::LayerNorm, storage, rest, *first))
}

/// More cubes than these would give sums that cost more to add up than they gain in parallel work.
const MOST_CUBES: usize = 1024;

/// How the cubes of the backward pass share the rows: a line takes eight before its sums are written, and more where there would be too many cubes.
const GRADIENT_CUBES: Cut = Cut::UpTo { rows_each: (LINES * 8) as u64, most: MOST_CUBES as u64 };

/// Cubes that share so many rows in the backward pass.
pub(crate) fn gradient_cubes(rows: usize) -> usize {
    GRADIENT_CUBES.stretches(rows as u64) as usize
}

/// What a card's kernels take beside the gradients of an input `[.., C]`: the sums of each cube for weight and bias.
fn gradient_scratch(shape: &Shape) -> Scratch {
    let channels = shape.last().map_or(1, |channels| (*channels).max(1));
    let of_cube = 2 * channels * size_of::<f32>();
    Scratch { rows: (shape.num_elements() / channels) as u64, bytes_each: of_cube as u64, cut: GRADIENT_CUBES }
}

/// Normalises over the last axis.
///
/// # Shapes
/// - `input` and output: `[.., C]`, of one type
/// - `weight`, `bias`: `[C]`, f32
pub fn layer_norm<const D: usize>(input: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let (device, epsilon) = (input.device(), epsilon as f32);
    if is_captured(&device) {
        return on_captured!(device, B => {
            let (weight, bias) = (primitive::<B, 1>(weight), primitive::<B, 1>(bias));
            Tensor::from_primitive::<B>(B::fused_layer_norm(primitive::<B, D>(input), weight, bias, epsilon))
        });
    }
    let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_layer_norm(input, weight, bias, epsilon))
}

/// The operation on a backend. Input, output and their gradients have one type, the parameters and theirs are f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait FusedLayerNorm: Backend {
    /// See [`layer_norm`].
    fn fused_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// The gradients of input, weight and bias.
    fn fused_layer_norm_gradient(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Where a card runs its kernels, they are what is recorded, unless Burn's operations are asked for or chosen.
impl FusedLayerNorm for Capture {
    fn fused_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        if !is_noted(&input.shape(), input.dtype()) {
            return composed::forward::<Self>(input, weight, bias, epsilon);
        }
        let form = (input.shape(), input.dtype());
        let [output] = record(LAYER_NORM, [input, weight, bias], [form], &[]);
        output
    }

    fn fused_layer_norm_gradient(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !is_noted(&input.shape(), input.dtype()) {
            return composed::gradient::<Self>(input, weight, gradient, epsilon);
        }
        let (form, parameter) = ((input.shape(), input.dtype()), (weight.shape(), DType::F32));
        let (forms, scratch) = ([form, parameter.clone(), parameter], [gradient_scratch(&input.shape())]);
        record(LAYER_NORM_GRADIENTS, [input, weight, gradient], forms, &scratch).into()
    }
}

impl FusedLayerNorm for Flex {
    fn fused_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        if !is_chosen(input.layout().shape(), input.dtype()) {
            return composed::forward::<Self>(input, weight, bias, epsilon);
        }
        let output = cpu_kernels::layer_norm(&values(&input), &values(&weight), &values(&bias), epsilon);
        tensor_like(output, &input)
    }

    fn fused_layer_norm_gradient(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !is_chosen(input.layout().shape(), input.dtype()) {
            return composed::gradient::<Self>(input, weight, gradient, epsilon);
        }
        let found = cpu_kernels::layer_norm_gradient(&values(&input), &values(&weight), &values(&gradient), epsilon);
        let of_parameter = weight.layout().shape();
        let of_bias = tensor(found.bias, of_parameter);
        (tensor_like(found.input, &input), tensor(found.weight, of_parameter), of_bias)
    }
}

#[derive(Debug)]
struct LayerNormBackward;

impl<B: Backend + FusedLayerNorm> Backward<B, 3> for LayerNormBackward {
    /// Input, weight, epsilon.
    type State = (NodeId, NodeId, f32);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (input, weight, epsilon) = ops.state;
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(input);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        let (of_input, of_weight, of_bias) = B::fused_layer_norm_gradient(input, weight, gradient, epsilon);
        for (node, gradient) in ops.parents.into_iter().zip([of_input, of_weight, of_bias]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + FusedLayerNorm, C: CheckpointStrategy> FusedLayerNorm for Autodiff<B, C> {
    fn fused_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let nodes = [input.node.clone(), weight.node.clone(), bias.node.clone()];
        match LayerNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = (prepared.checkpoint(&input), prepared.checkpoint(&weight), epsilon);
                let output = B::fused_layer_norm(input.primitive, weight.primitive, bias.primitive, epsilon);
                prepared.finish(state, output)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::fused_layer_norm(input.primitive, weight.primitive, bias.primitive, epsilon))
            }
        }
    }

    fn fused_layer_norm_gradient(
        _input: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
