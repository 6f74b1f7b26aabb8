//! Batch normalisation on the CPU, in f32, as one operation with its own backward pass: nothing is kept but its input.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, DispatchDevice, Flex, backend_extension};
use burn::tensor::{Bytes, DType, Device, Shape, Tensor};

/// Whether tensors on this device, on the tape or off it, lie in this process's memory.
pub(crate) fn is_cpu(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Flex(_))
}

/// Mean and biased variance of each channel.
///
/// # Shapes
/// - `rows`: `[N, C]`
/// - output: `[2, C]`, without gradient
pub(crate) fn moments(rows: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_moments(rows.into_dispatch()))
}

/// Normalises by `moments`, scales, shifts, and applies SiLU if `form.silu`.
///
/// # Shapes
/// - `rows` and output: `[N, C]`
/// - `weight`, `bias`: `[C]`
/// - `moments`: `[2, C]`, mean and variance
pub(crate) fn normalize(
    rows: Tensor<2>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    moments: Tensor<2>,
    form: NormForm,
) -> Tensor<2> {
    let (rows, weight, bias) = (rows.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_batch_norm(rows, weight, bias, moments.into_dispatch(), form))
}

/// What a normalisation is beside its tensors.
#[allow(
    unreachable_pub,
    reason = "it stands in the signature of a trait that the macro implements for a type of another crate"
)]
#[derive(Debug, Clone, Copy)]
pub struct NormForm {
    pub(crate) epsilon: f32,
    pub(crate) silu: bool,
    /// Whether the moments are those of the rows, so that the gradient goes through them too.
    pub(crate) of_batch: bool,
}

/// The operations on the CPU, in f32.
#[allow(unreachable_pub, reason = "the macro implements the trait for a type of another crate")]
#[backend_extension(Flex, Autodiff)]
pub trait FusedBatchNorm: Backend {
    /// See [`moments`].
    fn fused_moments(rows: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`normalize`].
    fn fused_batch_norm(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        form: NormForm,
    ) -> FloatTensor<Self>;

    /// The gradients of rows, weight and bias.
    fn fused_batch_norm_gradient(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        form: NormForm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl FusedBatchNorm for Flex {
    fn fused_moments(rows: FloatTensor<Self>) -> FloatTensor<Self> {
        let channels = rows.layout().shape()[1];
        let found = cpu_kernels::moments(numbers(&rows.to_contiguous()), channels);
        tensor([found.mean, found.variance].concat(), &Shape::new([2, channels]))
    }

    fn fused_batch_norm(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        form: NormForm,
    ) -> FloatTensor<Self> {
        let vectors = Vectors::new([weight, bias, moments]);
        let output = vectors.norm(form).forward(numbers(&rows.to_contiguous()));
        tensor(output, rows.layout().shape())
    }

    fn fused_batch_norm_gradient(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        form: NormForm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (of_rows, of_vector) = (rows.layout().shape().clone(), weight.layout().shape().clone());
        let vectors = Vectors::new([weight, bias, moments]);
        let (rows, gradient) = (rows.to_contiguous(), gradient.to_contiguous());
        let found = vectors.norm(form).gradient(numbers(&rows), numbers(&gradient), form.of_batch);
        (tensor(found.input, &of_rows), tensor(found.weight, &of_vector), tensor(found.bias, &of_vector))
    }
}

/// Weight, bias and moments, in order.
struct Vectors([FlexTensor; 3]);

impl Vectors {
    fn new(tensors: [FlexTensor; 3]) -> Self {
        Self(tensors.map(|tensor| tensor.to_contiguous()))
    }

    fn norm(&self, form: NormForm) -> cpu_kernels::BatchNorm<'_> {
        let [weight, bias, moments] = self.0.each_ref().map(numbers);
        let (mean, variance) = moments.split_at(weight.len());
        cpu_kernels::BatchNorm { mean, variance, weight, bias, epsilon: form.epsilon, silu: form.silu }
    }
}

fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("contiguous by the caller, and f32 by the module's check")
}

fn tensor(numbers: Vec<f32>, shape: &Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(numbers), Layout::contiguous(shape.clone()), DType::F32)
}

#[derive(Debug)]
struct BatchNormBackward;

impl<B: Backend + FusedBatchNorm> Backward<B, 3> for BatchNormBackward {
    /// Rows, weight, bias, moments, form.
    type State = (NodeId, NodeId, NodeId, FloatTensor<B>, NormForm);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (rows, weight, bias, moments, form) = ops.state;
        let [rows, weight, bias] =
            [rows, weight, bias].map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let (of_rows, of_weight, of_bias) = B::fused_batch_norm_gradient(rows, weight, bias, moments, gradient, form);
        for (node, gradient) in ops.parents.into_iter().zip([of_rows, of_weight, of_bias]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + FusedBatchNorm, C: CheckpointStrategy> FusedBatchNorm for Autodiff<B, C> {
    /// On the tape without a past: the gradient of the moments is part of the norm's own.
    fn fused_moments(rows: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::fused_moments(rows.primitive))
    }

    fn fused_batch_norm(
        rows: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        form: NormForm,
    ) -> FloatTensor<Self> {
        let nodes = [rows.node.clone(), weight.node.clone(), bias.node.clone()];
        let moments = moments.primitive;
        match BatchNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = (prepared.checkpoint(&rows), prepared.checkpoint(&weight), prepared.checkpoint(&bias));
                let state = (kept.0, kept.1, kept.2, moments.clone(), form);
                let output = B::fused_batch_norm(rows.primitive, weight.primitive, bias.primitive, moments, form);
                prepared.finish(state, output)
            }
            OpsKind::UnTracked(prepared) => {
                let output = B::fused_batch_norm(rows.primitive, weight.primitive, bias.primitive, moments, form);
                prepared.finish(output)
            }
        }
    }

    fn fused_batch_norm_gradient(
        _rows: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _bias: FloatTensor<Self>,
        _moments: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _form: NormForm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("gradients are taken off the tape: only first derivatives are supported")
    }
}
