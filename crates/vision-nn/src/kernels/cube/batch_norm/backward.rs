//! The gradients: sums of each chunk of rows, the sums of these, and the gradient of the rows by them.

use burn::cubecl;
use burn::cubecl::prelude::*;
use cpu_kernels::Activation;

use super::forward::inverse_deviation;
use crate::kernels::cube::activation::slope;
use crate::kernels::cube::columns::{read, sum_of_lines};

/// The first pass, over the rows of a chunk. `partial` is `[chunks, 2, C]`: with dz the gradient before the activation, the sums of `dz (x - mean)` over the
/// deviation, and of dz.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn partial_sums<E: Float, N: Size>(
    rows: &Tensor<Vector<E, N>>,
    weight: &Tensor<Vector<f32, N>>,
    bias: &Tensor<Vector<f32, N>>,
    mean: &Tensor<Vector<f32, N>>,
    variance: &Tensor<Vector<f32, N>>,
    gradient: &Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    count: u32,
    rows_each: u32,
    epsilon: f32,
    #[comptime] vectors: usize,
    #[comptime] units: usize,
    #[comptime] activation: Activation,
    #[define(E)] _storage: ElemType,
) {
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(units);
    let place = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    // A unit without a vector of its own works on the last one, for all must come to the sums.
    let vector = min(place, comptime!(vectors - 1));
    let centre = mean[vector];
    let inverse = inverse_deviation::<N>(variance[vector], epsilon);
    let factor = weight[vector];
    let shift = bias[vector];
    let first = CUBE_POS_Y * rows_each;
    let mut products = Vector::<f32, N>::zero();
    let mut sums = Vector::<f32, N>::zero();
    for row in range_stepped(first + UNIT_POS_Y, min(first + rows_each, count), CUBE_DIM_Y) {
        let normal = (read::<E, N>(rows, row as usize, vector, vectors) - centre) * inverse;
        let upstream = read::<E, N>(gradient, row as usize, vector, vectors);
        let value = upstream * slope::<N>(normal * factor + shift, activation);
        products += value * normal;
        sums += value;
    }
    let products = sum_of_lines::<N>(products, &mut shared);
    let sums = sum_of_lines::<N>(sums, &mut shared);
    if UNIT_POS_Y == 0 && place < vectors {
        let start = CUBE_POS_Y as usize * 2 * vectors + vector;
        partial[start] = products;
        partial[start + vectors] = sums;
    }
}

/// The second pass, over the chunks: a column of units for each vector of the two gradients, whose units share the chunks among them.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn all_sums<N: Size>(
    partial: &Tensor<Vector<f32, N>>,
    of_weight: &mut Tensor<Vector<f32, N>>,
    of_bias: &mut Tensor<Vector<f32, N>>,
    chunks: u32,
    #[comptime] vectors: usize,
    #[comptime] units: usize,
) {
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(units);
    let place = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    let mut sum = Vector::<f32, N>::zero();
    if place < 2 * vectors {
        for chunk in range_stepped(UNIT_POS_Y, chunks, CUBE_DIM_Y) {
            sum += partial[chunk as usize * 2 * vectors + place];
        }
    }
    let sum = sum_of_lines::<N>(sum, &mut shared);
    if UNIT_POS_Y == 0 && place < 2 * vectors {
        if place < vectors {
            of_weight[place] = sum;
        } else {
            of_bias[place - vectors] = sum;
        }
    }
}

/// The third pass. `share` is one over the number of rows where mean and variance are theirs, and zero where these are constants.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn rows_gradient<E: Float, N: Size>(
    rows: &Tensor<Vector<E, N>>,
    weight: &Tensor<Vector<f32, N>>,
    bias: &Tensor<Vector<f32, N>>,
    mean: &Tensor<Vector<f32, N>>,
    variance: &Tensor<Vector<f32, N>>,
    gradient: &Tensor<Vector<E, N>>,
    of_weight: &Tensor<Vector<f32, N>>,
    of_bias: &Tensor<Vector<f32, N>>,
    output: &mut Tensor<Vector<E, N>>,
    count: u32,
    rows_each: u32,
    epsilon: f32,
    share: f32,
    #[comptime] vectors: usize,
    #[comptime] activation: Activation,
    #[define(E)] _storage: ElemType,
) {
    let vector = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if vector < vectors {
        let centre = mean[vector];
        let inverse = inverse_deviation::<N>(variance[vector], epsilon);
        let factor = weight[vector];
        let shift = bias[vector];
        let level = of_bias[vector] * Vector::new(share);
        let tilt = of_weight[vector] * Vector::new(share);
        let first = CUBE_POS_Y * rows_each;
        for row in range_stepped(first + UNIT_POS_Y, min(first + rows_each, count), CUBE_DIM_Y) {
            let normal = (read::<E, N>(rows, row as usize, vector, vectors) - centre) * inverse;
            let upstream = read::<E, N>(gradient, row as usize, vector, vectors);
            let value = upstream * slope::<N>(normal * factor + shift, activation);
            let of_row = (value - level - normal * tilt) * inverse * factor;
            output[row as usize * vectors + vector] = Vector::cast_from(of_row);
        }
    }
}
