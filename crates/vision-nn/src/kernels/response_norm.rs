//! Global response normalisation of channels-last maps, keeping nothing of the map's size for the backward pass but its input.
//!
//! Written as operations on the tape it would keep the map twice or three times, and a channel that is zero everywhere would have no gradient but NaN: the
//! slope of a root at zero is infinite.

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

/// The operation on a backend; the bodies here are composed of Burn's own operations.
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

/// The operation in terms of Burn's own.
mod composed {
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Backend, TensorMetadata};
    use burn::tensor::Shape;

    use crate::kernels::storage::{as_vector, stored_as, widened};

    /// What is known of each sample once its lengths are.
    struct Responses<B: Backend> {
        /// `[B, 1, C]`
        lengths: FloatTensor<B>,
        /// One over the mean length and epsilon: `[B, 1, 1]`
        inverse_mean: FloatTensor<B>,
        /// Their product: `[B, 1, C]`
        responses: FloatTensor<B>,
    }

    /// `cells` in f32.
    fn responses<B: Backend>(cells: FloatTensor<B>, epsilon: f32) -> Responses<B> {
        let lengths = B::float_sqrt(B::float_sum_dim(B::float_mul(cells.clone(), cells), 1)); // [B, 1, C]
        let mean = B::float_mean_dim(lengths.clone(), 2); // [B, 1, 1]
        let inverse_mean = B::float_recip(B::float_add_scalar(mean, epsilon.into())); // [B, 1, 1]
        let responses = B::float_mul(lengths.clone(), inverse_mean.clone()); // [B, 1, C]
        Responses { lengths, inverse_mean, responses }
    }

    /// `1 + weight * response`: `[B, 1, C]`.
    fn scale<B: Backend>(responses: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
        B::float_add_scalar(B::float_mul(responses, weight), 1.0.into())
    }

    pub(super) fn forward<B: Backend>(
        cells: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: FloatTensor<B>,
        epsilon: f32,
    ) -> FloatTensor<B> {
        let dtype = cells.dtype();
        let cells = widened::<B>(cells);
        let known = responses::<B>(cells.clone(), epsilon);
        let scale = scale::<B>(known.responses, row::<B>(widened::<B>(weight))); // [B, 1, C]
        stored_as::<B>(B::float_add(B::float_mul(cells, scale), row::<B>(widened::<B>(bias))), dtype)
    }

    /// With lengths `g`, their mean with epsilon `m`, responses `n = g / m` and `s` the sum of gradient times cell over a channel's positions: the response's
    /// gradient is `weight * s`, and the length's `weight * s / m` less the mean over channels of `weight * s * n / m`; the length of a cell `x` grows by `x / g`.
    pub(super) fn gradient<B: Backend>(
        cells: FloatTensor<B>,
        weight: FloatTensor<B>,
        gradient: FloatTensor<B>,
        epsilon: f32,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        let (of_cells, of_weight) = (cells.dtype(), weight.dtype());
        let (cells, gradient) = (widened::<B>(cells), widened::<B>(gradient));
        let weight = row::<B>(widened::<B>(weight)); // [1, 1, C]
        let Responses { lengths, inverse_mean, responses } = responses::<B>(cells.clone(), epsilon);

        let products = B::float_sum_dim(B::float_mul(gradient.clone(), cells.clone()), 1); // [B, 1, C]
        let weight_gradient = B::float_mul(products.clone(), responses.clone()); // [B, 1, C]
        let bias_gradient = B::float_sum_dim(gradient.clone(), 1); // [B, 1, C]

        let of_response = B::float_mul(products, weight.clone()); // [B, 1, C]
        let shared = B::float_mean_dim(B::float_mul(of_response.clone(), responses.clone()), 2); // [B, 1, 1]
        let of_length = B::float_mul(B::float_sub(of_response, shared), inverse_mean); // [B, 1, C]
        // Where a length is zero so is every cell of it: any finite slope will do.
        let lengths = B::float_clamp_min(lengths, f32::MIN_POSITIVE.sqrt().into());
        let slope = B::float_div(of_length, lengths); // [B, 1, C]
        let cells_gradient =
            B::float_add(B::float_mul(gradient, scale::<B>(responses, weight)), B::float_mul(cells, slope));
        (
            stored_as::<B>(cells_gradient, of_cells),
            stored_as::<B>(over_samples::<B>(weight_gradient), of_weight),
            stored_as::<B>(over_samples::<B>(bias_gradient), of_weight),
        )
    }

    /// `[C]` to `[1, 1, C]`.
    fn row<B: Backend>(vector: FloatTensor<B>) -> FloatTensor<B> {
        let channels = vector.shape()[0];
        B::float_reshape(vector, Shape::new([1, 1, channels]))
    }

    /// `[B, 1, C]` to `[C]`.
    fn over_samples<B: Backend>(vectors: FloatTensor<B>) -> FloatTensor<B> {
        as_vector::<B>(B::float_sum_dim(vectors, 0))
    }
}

/// A backend on which the operation is composed of Burn's own.
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

composed_on!(Flex);
composed_on!(Capture);
#[cfg(feature = "cuda")]
composed_on!(Cuda);
#[cfg(feature = "wgpu")]
composed_on!(Wgpu);

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

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Distribution};

    use super::*;

    /// timm's [`GlobalResponseNorm`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/layers/grn.py), step by step.
    fn step_by_step(cells: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<3> {
        let lengths = (cells.clone() * cells.clone()).sum_dim(1).sqrt();
        let responses = lengths.clone() / (lengths.mean_dim(2) + epsilon);
        cells.clone() + (cells * responses) * weight.unsqueeze() + bias.unsqueeze()
    }

    type Operation = fn(Tensor<3>, Tensor<1>, Tensor<1>, f64) -> Tensor<3>;

    /// Output, and the gradients of cells, weight and bias.
    fn run(cells: &Tensor<3>, vectors: &[Tensor<1>; 2], operation: Operation) -> Vec<Vec<f32>> {
        let device = Device::flex().autodiff();
        let cells = Tensor::<3>::from_data(cells.to_data(), &device).require_grad();
        let [weight, bias] =
            vectors.each_ref().map(|vector| Tensor::<1>::from_data(vector.to_data(), &device).require_grad());
        let output = operation(cells.clone(), weight.clone(), bias.clone(), 1e-6);
        // Squared, so that each number of the output has a gradient of its own.
        let tape = (output.clone() * output.clone()).sum().backward();
        let found = [
            output.into_data(),
            cells.grad(&tape).unwrap().into_data(),
            weight.grad(&tape).unwrap().into_data(),
            bias.grad(&tape).unwrap().into_data(),
        ];
        found.map(|data| data.iter::<f32>().collect()).to_vec()
    }

    fn draw() -> (Tensor<3>, [Tensor<1>; 2]) {
        let device = Device::flex();
        let cells = Tensor::random([3, 10, 6], Distribution::Normal(0.0, 1.0), &device);
        (cells, [0, 1].map(|_| Tensor::random([6], Distribution::Normal(0.0, 1.0), &device)))
    }

    #[test]
    fn in_one_operation_it_is_what_it_is_step_by_step() {
        let (cells, vectors) = draw();
        let (found, expected) = (run(&cells, &vectors, response_norm), run(&cells, &vectors, step_by_step));
        for (found, expected) in found.iter().zip(&expected) {
            let largest = expected.iter().map(|value| value.abs()).fold(0.0, f32::max);
            for (found, expected) in found.iter().zip(expected) {
                // Sums of up to thirty products in f32.
                assert!((found - expected).abs() < 1e-5 * largest, "{found} {expected}");
            }
        }
    }

    #[test]
    fn a_channel_of_zeros_has_a_gradient() {
        let (cells, vectors) = draw();
        let cells = cells.slice_fill([0..3, 0..10, 2..3], 0.0);
        let found = run(&cells, &vectors, response_norm);
        assert!(found.iter().flatten().all(|value| value.is_finite()));
        assert!(run(&cells, &vectors, step_by_step)[1].iter().any(|value| value.is_nan()), "the guard is not needed");
    }

    #[test]
    fn half_precision_maps_come_back_in_their_own_type() {
        let (cells, [weight, bias]) = draw();
        let expected = response_norm(cells.clone(), weight.clone(), bias.clone(), 1e-6);
        let found = response_norm(cells.cast(DType::BF16), weight, bias, 1e-6);
        assert_eq!(found.dtype(), DType::BF16);
        let difference = (found.cast(DType::F32) - expected).abs().max().into_scalar::<f32>();
        // bf16 has 8 bits: cells of up to four, scaled by up to three, three roundings.
        assert!(difference < 0.1, "{difference}");
    }
}
