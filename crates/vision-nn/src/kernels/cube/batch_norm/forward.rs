//! The normalised rows.

use burn::cubecl;
use burn::cubecl::prelude::*;
use cpu_kernels::Activation;

use crate::kernels::cube::activation::activated;
use crate::kernels::cube::columns::read;

/// A unit has one vector of channels of some of a chunk's rows, and what belongs to its channels in registers.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn normalise<E: Float, N: Size>(
    rows: &Tensor<Vector<E, N>>,
    weight: &Tensor<Vector<f32, N>>,
    bias: &Tensor<Vector<f32, N>>,
    mean: &Tensor<Vector<f32, N>>,
    variance: &Tensor<Vector<f32, N>>,
    output: &mut Tensor<Vector<E, N>>,
    count: u32,
    rows_each: u32,
    epsilon: f32,
    #[comptime] vectors: usize,
    #[comptime] activation: Activation,
    #[define(E)] _storage: ElemType,
) {
    let vector = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if vector < vectors {
        let centre = mean[vector];
        let scale = weight[vector] * inverse_deviation::<N>(variance[vector], epsilon);
        let shift = bias[vector];
        let first = CUBE_POS_Y * rows_each;
        for row in range_stepped(first + UNIT_POS_Y, min(first + rows_each, count), CUBE_DIM_Y) {
            let z = (read::<E, N>(rows, row as usize, vector, vectors) - centre) * scale + shift;
            output[row as usize * vectors + vector] = Vector::cast_from(activated::<N>(z, activation));
        }
    }
}

/// One over the root of the variance and `epsilon`.
#[cube]
pub(super) fn inverse_deviation<N: Size>(variance: Vector<f32, N>, epsilon: f32) -> Vector<f32, N> {
    Vector::<f32, N>::new(1.0f32) / (variance + Vector::new(epsilon)).sqrt()
}
