//! Batch normalisation in f32 as one operation with its own backward pass: nothing of the map's size is kept but its input as it is stored,
//! with an activation behind it or not.
//!
//! On the CPU it runs the loops of `cpu-kernels`, on CUDA and WebGPU the kernels of `cube`; what [`composed`] is made of where those do not, or where a
//! measurement [chose](super::choice) so.

mod composed;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
mod recorded;
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
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use cpu_kernels::Activation;

use super::choice::{self, Operation};
use super::columns::Columns;
use super::host::{Values, tensor, tensor_like, values};
use super::recorded::{Scratch, notes_ours};
use crate::is_captured;
use crate::tape::{on_captured, primitive};

/// The names of the operations in recorded graphs.
pub(crate) const MOMENTS: &str = "batch norm moments";
pub(crate) const BATCH_NORM: &str = "batch norm";
pub(crate) const BATCH_NORM_GRADIENTS: &str = "batch norm gradients";

/// More cubes than these would give sums that cost more to add up than they gain in parallel work.
const MOST_CUBES: usize = 1024;

/// Whether a card's kernels take rows of that shape, `[N, C]`.
pub(crate) fn cards_take(rows: &Shape) -> bool {
    rows.num_elements() > 0
}

/// Whether a card runs its kernels on rows of that shape and type, and notes them: Burn's operations are neither asked for nor chosen.
fn is_ours(rows: &Shape, storage: DType) -> bool {
    notes_ours() && cards_take(rows) && is_chosen(rows, storage)
}

/// Whether ours is the way to take, where both can be: for moments, normalisation and gradients alike.
fn is_chosen(rows: &Shape, storage: DType) -> bool {
    choice::is_ours(Operation::BatchNorm, storage, &rows[1..], rows[0])
}

/// In how many parts the rows of so many channels are summed at most, for moments and gradients.
pub(crate) fn most_chunks(columns: &Columns) -> usize {
    (MOST_CUBES / columns.tiles).max(1)
}

/// What a card's kernels take beside their outputs: two sums for each channel and chunk of the rows.
fn sums_scratch(rows: &Shape) -> Scratch {
    let [count, channels] = [rows[0], rows[1]];
    let columns = Columns::of(channels);
    let cut = columns.cut(most_chunks(&columns));
    Scratch { rows: count as u64, bytes_each: (2 * channels * size_of::<f32>()) as u64, cut }
}

/// Mean and biased variance of each channel.
///
/// # Shapes
/// - `rows`: `[N, C]`
/// - output: `[C]` each, f32, without gradient
pub(crate) fn moments(rows: Tensor<2>) -> [Tensor<1>; 2] {
    let device = rows.device();
    if is_captured(&device) {
        return on_captured!(device, B => {
            let (mean, variance) = B::fused_moments(primitive::<B, 2>(rows));
            [Tensor::from_primitive::<B>(mean), Tensor::from_primitive::<B>(variance)]
        });
    }
    let (mean, variance) = Dispatch::fused_moments(rows.into_dispatch());
    [Tensor::from_dispatch(mean), Tensor::from_dispatch(variance)]
}

/// Normalises by `moments`, scales, shifts, and applies the activation of `form`.
///
/// # Shapes
/// - `rows` and output: `[N, C]`, of one type
/// - `weight`, `bias` and the moments, mean and variance: `[C]`, f32
pub(crate) fn normalize(
    rows: Tensor<2>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    moments: [Tensor<1>; 2],
    form: NormForm,
) -> Tensor<2> {
    let device = rows.device();
    if is_captured(&device) {
        return on_captured!(device, B => {
            let [mean, variance] = moments.map(primitive::<B, 1>);
            let (weight, bias) = (primitive::<B, 1>(weight), primitive::<B, 1>(bias));
            Tensor::from_primitive::<B>(B::fused_batch_norm(primitive::<B, 2>(rows), weight, bias, mean, variance, form))
        });
    }
    let (rows, weight, bias) = (rows.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    let [mean, variance] = moments.map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::fused_batch_norm(rows, weight, bias, mean, variance, form))
}

/// What a normalisation is beside its tensors.
#[allow(
    unreachable_pub,
    reason = "it stands in the signature of a trait that the macro implements for a type of another crate"
)]
#[derive(Debug, Clone, Copy)]
pub struct NormForm {
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
    /// Whether the moments are those of the rows, so that the gradient goes through them too.
    pub(crate) of_batch: bool,
}

/// The operations on a backend. Rows, output and their gradients have one type, all vectors are f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), Wgpu: cfg(feature = "wgpu"), Autodiff)]
pub trait FusedBatchNorm: Backend {
    /// See [`moments`].
    fn fused_moments(rows: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`normalize`].
    fn fused_batch_norm(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        form: NormForm,
    ) -> FloatTensor<Self>;

    /// The gradients of rows, weight and bias.
    fn fused_batch_norm_gradient(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        form: NormForm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl FusedBatchNorm for Flex {
    fn fused_moments(rows: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !is_chosen(rows.layout().shape(), rows.dtype()) {
            return composed::moments::<Self>(rows);
        }
        let channels = rows.layout().shape()[1];
        let found = cpu_kernels::moments(&values(&rows), channels);
        let shape = Shape::new([channels]);
        (tensor(found.mean, &shape), tensor(found.variance, &shape))
    }

    fn fused_batch_norm(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        form: NormForm,
    ) -> FloatTensor<Self> {
        if !is_chosen(rows.layout().shape(), rows.dtype()) {
            return composed::forward::<Self>(rows, [weight, bias, mean, variance], form);
        }
        let vectors = Vectors::new([weight, bias, mean, variance]);
        let output = vectors.norm(form).forward(&values(&rows));
        tensor_like(output, &rows)
    }

    fn fused_batch_norm_gradient(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        form: NormForm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !is_chosen(rows.layout().shape(), rows.dtype()) {
            return composed::gradient::<Self>(rows, [weight, bias, mean, variance], gradient, form);
        }
        let of_vector = weight.layout().shape().clone();
        let vectors = Vectors::new([weight, bias, mean, variance]);
        let found = vectors.norm(form).gradient(&values(&rows), &values(&gradient), form.of_batch);
        (tensor_like(found.input, &rows), tensor(found.weight, &of_vector), tensor(found.bias, &of_vector))
    }
}

/// Weight, bias, mean and variance, in order.
struct Vectors([Values; 4]);

impl Vectors {
    fn new(tensors: [FlexTensor; 4]) -> Self {
        Self(tensors.each_ref().map(values))
    }

    fn norm(&self, form: NormForm) -> cpu_kernels::BatchNorm<'_> {
        let [weight, bias, mean, variance] = self.0.each_ref().map(|values| &**values);
        cpu_kernels::BatchNorm { mean, variance, weight, bias, epsilon: form.epsilon, activation: form.activation }
    }
}

#[derive(Debug)]
struct BatchNormBackward;

impl<B: Backend + FusedBatchNorm> Backward<B, 3> for BatchNormBackward {
    /// Rows, weight and bias; mean and variance; form.
    type State = ([NodeId; 3], [FloatTensor<B>; 2], NormForm);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (nodes, [mean, variance], form) = ops.state;
        let [rows, weight, bias] = nodes.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let (of_rows, of_weight, of_bias) =
            B::fused_batch_norm_gradient(rows, weight, bias, mean, variance, gradient, form);
        for (node, gradient) in ops.parents.into_iter().zip([of_rows, of_weight, of_bias]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + FusedBatchNorm, C: CheckpointStrategy> FusedBatchNorm for Autodiff<B, C> {
    /// On the tape without a past: the gradient of the moments is part of the norm's own.
    fn fused_moments(rows: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (mean, variance) = B::fused_moments(rows.primitive);
        (<Self as AutodiffBackend>::from_inner(mean), <Self as AutodiffBackend>::from_inner(variance))
    }

    fn fused_batch_norm(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        form: NormForm,
    ) -> FloatTensor<Self> {
        let nodes = [rows.node.clone(), weight.node.clone(), bias.node.clone()];
        let (mean, variance) = (mean.primitive, variance.primitive);
        match BatchNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let nodes = [&rows, &weight, &bias].map(|tensor| prepared.checkpoint(tensor));
                let state = (nodes, [mean.clone(), variance.clone()], form);
                let (weight, bias) = (weight.primitive, bias.primitive);
                prepared.finish(state, B::fused_batch_norm(rows.primitive, weight, bias, mean, variance, form))
            }
            OpsKind::UnTracked(prepared) => {
                let (weight, bias) = (weight.primitive, bias.primitive);
                prepared.finish(B::fused_batch_norm(rows.primitive, weight, bias, mean, variance, form))
            }
        }
    }

    fn fused_batch_norm_gradient(
        _rows: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _bias: FloatTensor<Self>,
        _mean: FloatTensor<Self>,
        _variance: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _form: NormForm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
