//! The operation in terms of sums over positions, weighed maps, and a backend's own arithmetic on a few numbers of each sample.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, Slice};

use crate::kernels::per_channel::{PerChannel, Summed, Weighed};
use crate::kernels::storage::{as_row, as_vector, widened};

/// The two layers, in f32.
struct Layers<B: Backend> {
    /// `[R, C]`
    reduce: FloatTensor<B>,
    /// `[1, R]`
    reduce_bias: FloatTensor<B>,
    /// `[C, R]`
    expand: FloatTensor<B>,
    /// `[1, C]`
    expand_bias: FloatTensor<B>,
}

/// What is known of each sample once its means are.
struct Known<B: Backend> {
    /// `[B, C]`
    means: FloatTensor<B>,
    /// Before SiLU, `[B, R]`.
    reduced: FloatTensor<B>,
    /// σ of that.
    sigmoid: FloatTensor<B>,
    /// `[B, C]`
    gates: FloatTensor<B>,
}

/// See [`squeeze_excite`](super::squeeze_excite). The weights are those of the two layers, with their biases.
pub(super) fn forward<B: PerChannel>(map: FloatTensor<B>, weights: [FloatTensor<B>; 4]) -> FloatTensor<B> {
    let [batch, positions, channels] = map.shape().dims();
    let sums = B::channel_sums([map.clone(), map.clone()], Summed::Cells); // [B, 1, C]
    let sums = B::float_reshape(sums, Shape::new([batch, channels]));
    let Known { gates, .. } = Layers::<B>::of(weights).look(sums, positions);
    B::weighed(Weighed { map, factors: gates })
}

/// The gradients of map and weights.
pub(super) fn gradient<B: PerChannel>(
    map: FloatTensor<B>,
    weights: [FloatTensor<B>; 4],
    gradient: FloatTensor<B>,
) -> [FloatTensor<B>; 5] {
    let [batch, positions, channels] = map.shape().dims();
    let shapes = weights.each_ref().map(|weight| weight.shape());
    let sums = B::channel_sums([map, gradient.clone()], Summed::CellsAndProducts); // [B, 2, C]
    let [sums, products] = [0, 1].map(|which| {
        let part = [0..batch, which..which + 1, 0..channels].map(Slice::from);
        B::float_reshape(B::float_slice(sums.clone(), &part), Shape::new([batch, channels])) // [B, C]
    });
    let layers = Layers::<B>::of(weights);
    let Known { means, reduced, sigmoid, gates } = layers.look(sums, positions);

    let of_expanded = B::float_mul(products, B::float_mul(gates.clone(), from_one::<B>(gates.clone()))); // [B, C]
    let hidden = B::float_mul(reduced.clone(), sigmoid.clone()); // [B, R]
    let of_hidden = B::float_matmul(of_expanded.clone(), layers.expand); // [B, R]
    let rest = B::float_add_scalar(B::float_mul(reduced, from_one::<B>(sigmoid.clone())), 1.0.into());
    let of_reduced = B::float_mul(of_hidden, B::float_mul(sigmoid, rest)); // [B, R]
    let of_means = B::float_matmul(of_reduced.clone(), layers.reduce); // [B, C]

    let shift = B::float_mul_scalar(of_means, (1.0 / positions as f32).into());
    let of_map = B::weighed_and_shifted(Weighed { map: gradient, factors: gates }, shift);
    let over_samples = |rows: FloatTensor<B>| as_vector::<B>(B::float_sum_dim(rows, 0));
    let product = |one: FloatTensor<B>, other: FloatTensor<B>| B::float_matmul(B::float_transpose(one), other);
    let [of_reduce, of_expand] = [product(of_reduced.clone(), means), product(of_expanded.clone(), hidden)];
    let parts = [of_reduce, over_samples(of_reduced), of_expand, over_samples(of_expanded)];
    let mut shapes = shapes.into_iter();
    let [of_reduce, of_reduce_bias, of_expand, of_expand_bias] =
        parts.map(|part| B::float_reshape(part, shapes.next().expect("a shape for each weight")));
    [of_map, of_reduce, of_reduce_bias, of_expand, of_expand_bias]
}

impl<B: Backend> Layers<B> {
    fn of(weights: [FloatTensor<B>; 4]) -> Self {
        let [reduce, reduce_bias, expand, expand_bias] = weights.map(widened::<B>);
        let matrix = |weight: FloatTensor<B>| {
            let shape = weight.shape();
            B::float_reshape(weight, Shape::new([shape[0], shape[1]]))
        };
        Self {
            reduce: matrix(reduce),
            reduce_bias: as_row::<B>(reduce_bias),
            expand: matrix(expand),
            expand_bias: as_row::<B>(expand_bias),
        }
    }

    /// # Shapes
    /// - `sums`: `[B, C]`
    fn look(&self, sums: FloatTensor<B>, positions: usize) -> Known<B> {
        let means = B::float_mul_scalar(sums, (1.0 / positions as f32).into()); // [B, C]
        let layer = |rows: FloatTensor<B>, weight: &FloatTensor<B>, bias: &FloatTensor<B>| {
            B::float_add(B::float_matmul(rows, B::float_transpose(weight.clone())), bias.clone())
        };
        let reduced = layer(means.clone(), &self.reduce, &self.reduce_bias); // [B, R]
        let sigmoid = B::sigmoid(reduced.clone()); // [B, R]
        let hidden = B::float_mul(reduced.clone(), sigmoid.clone()); // [B, R]
        let gates = B::sigmoid(layer(hidden, &self.expand, &self.expand_bias)); // [B, C]
        Known { means, reduced, sigmoid, gates }
    }
}

fn from_one<B: Backend>(numbers: FloatTensor<B>) -> FloatTensor<B> {
    B::float_add_scalar(B::float_neg(numbers), 1.0.into())
}
