//! The operation in terms of sums over positions, weighed maps, and a backend's own arithmetic on a few numbers of each sample.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, Slice};

use crate::kernels::per_channel::{PerChannel, Summed, Weighed};
use crate::kernels::storage::{as_row, as_vector, stored_as, widened};

/// What is known of each sample once its lengths are.
struct Responses<B: Backend> {
    /// `[B, C]`
    lengths: FloatTensor<B>,
    /// One over the mean length and epsilon: `[B, 1]`
    inverse_mean: FloatTensor<B>,
    /// Their product: `[B, C]`
    responses: FloatTensor<B>,
}

/// # Shapes
/// - `squares`: `[B, C]`, sums of squares
fn responses<B: Backend>(squares: FloatTensor<B>, epsilon: f32) -> Responses<B> {
    let lengths = B::float_sqrt(squares); // [B, C]
    let mean = B::float_mean_dim(lengths.clone(), 1); // [B, 1]
    let inverse_mean = B::float_recip(B::float_add_scalar(mean, epsilon.into())); // [B, 1]
    let responses = B::float_mul(lengths.clone(), inverse_mean.clone()); // [B, C]
    Responses { lengths, inverse_mean, responses }
}

/// `1 + weight * response`: `[B, C]`.
fn scale<B: Backend>(responses: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    B::float_add_scalar(B::float_mul(responses, weight), 1.0.into())
}

/// See [`response_norm`](super::response_norm).
pub(super) fn forward<B: PerChannel>(
    cells: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    epsilon: f32,
) -> FloatTensor<B> {
    let [batch, _, channels] = cells.shape().dims();
    let row = |vector: FloatTensor<B>| as_row::<B>(widened::<B>(vector)); // [1, C]
    let squares = B::channel_sums([cells.clone(), cells.clone()], Summed::Squares); // [B, 1, C]
    let squares = B::float_reshape(squares, Shape::new([batch, channels]));
    let scale = scale::<B>(responses::<B>(squares, epsilon).responses, row(weight)); // [B, C]
    B::weighed_and_shifted(Weighed { map: cells, factors: scale }, row(bias))
}

/// With lengths `g`, their mean with epsilon `m`, responses `n = g / m` and `s` the sum of gradient times cell over a channel's positions: the response's
/// gradient is `weight * s`, and the length's `weight * s / m` less the mean over channels of `weight * s * n / m`; the length of a cell `x` grows by `x / g`.
pub(super) fn gradient<B: PerChannel>(
    cells: FloatTensor<B>,
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    epsilon: f32,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let ([batch, _, channels], of_weight) = (cells.shape().dims(), weight.dtype());
    let weight = as_row::<B>(widened::<B>(weight)); // [1, C]
    let sums = B::channel_sums([cells.clone(), gradient.clone()], Summed::SquaresProductsAndOther); // [B, 3, C]
    let [squares, products, bias_gradient] = [0, 1, 2].map(|which| {
        let part = [0..batch, which..which + 1, 0..channels].map(Slice::from);
        B::float_reshape(B::float_slice(sums.clone(), &part), Shape::new([batch, channels])) // [B, C]
    });
    let Responses { lengths, inverse_mean, responses } = responses::<B>(squares, epsilon);
    let weight_gradient = B::float_mul(products.clone(), responses.clone()); // [B, C]

    let of_response = B::float_mul(products, weight.clone()); // [B, C]
    let shared = B::float_mean_dim(B::float_mul(of_response.clone(), responses.clone()), 1); // [B, 1]
    let of_length = B::float_mul(B::float_sub(of_response, shared), inverse_mean); // [B, C]
    // Where a length is zero so is every cell of it: any finite slope will do.
    let lengths = B::float_clamp_min(lengths, f32::MIN_POSITIVE.sqrt().into());
    let slope = B::float_div(of_length, lengths); // [B, C]
    let scale = scale::<B>(responses, weight);
    let of_cells = B::blended(Weighed { map: gradient, factors: scale }, Weighed { map: cells, factors: slope }); // [B, P, C]
    let over_samples = |rows: FloatTensor<B>| stored_as::<B>(as_vector::<B>(B::float_sum_dim(rows, 0)), of_weight); // [C]
    (of_cells, over_samples(weight_gradient), over_samples(bias_gradient))
}
