//! The operations in terms of a backend's own.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

use super::{Summed, Weighed};
use crate::kernels::storage::{stored_as, widened};

pub(super) fn channel_sums<B: Backend>([map, other]: [FloatTensor<B>; 2], summed: Summed) -> FloatTensor<B> {
    let map = widened::<B>(map); // [B, P, C]
    let sum = |terms: FloatTensor<B>| B::float_sum_dim(terms, 1); // [B, 1, C]
    let products = |one: &FloatTensor<B>, two: &FloatTensor<B>| sum(B::float_mul(one.clone(), two.clone()));
    match summed {
        Summed::Cells => sum(map),
        Summed::Squares => products(&map, &map),
        Summed::CellsAndProducts => {
            let other = widened::<B>(other);
            B::float_cat(vec![sum(map.clone()), products(&map, &other)], 1)
        }
        Summed::SquaresProductsAndOther => {
            let other = widened::<B>(other);
            B::float_cat(vec![products(&map, &map), products(&map, &other), sum(other)], 1)
        }
    }
}

pub(super) fn weighed<B: Backend>(map: Weighed<B>) -> FloatTensor<B> {
    let dtype = map.map.dtype();
    stored_as::<B>(product::<B>(map), dtype)
}

pub(super) fn weighed_and_shifted<B: Backend>(map: Weighed<B>, shift: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = map.map.dtype();
    stored_as::<B>(B::float_add(product::<B>(map), over_positions::<B>(shift)), dtype)
}

pub(super) fn blended<B: Backend>(first: Weighed<B>, second: Weighed<B>) -> FloatTensor<B> {
    let dtype = first.map.dtype();
    stored_as::<B>(B::float_add(product::<B>(first), product::<B>(second)), dtype)
}

/// In f32.
fn product<B: Backend>(map: Weighed<B>) -> FloatTensor<B> {
    B::float_mul(widened::<B>(map.map), over_positions::<B>(map.factors))
}

/// `[B, C]` to `[B, 1, C]`.
fn over_positions<B: Backend>(numbers: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, channels] = numbers.shape().dims();
    B::float_reshape(numbers, Shape::new([batch, 1, channels]))
}
