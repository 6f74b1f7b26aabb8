//! The normalised rows.

use burn::cubecl;
use burn::cubecl::prelude::*;

use super::rows::{centre, load};

/// A line of units makes one row, which it reads once.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn normalise<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    weight: &Tensor<Vector<f32, N>>,
    bias: &Tensor<Vector<f32, N>>,
    output: &mut Tensor<Vector<E, N>>,
    rows: u32,
    // Vectors from a row of the input to the next.
    input_step: u32,
    epsilon: f32,
    #[comptime] vectors: usize,
    #[comptime] steps: usize,
    #[comptime] shared_numbers: usize,
    #[comptime] has_planes: bool,
    #[define(E)] _storage: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(shared_numbers);
    let row = CUBE_POS as u32 * CUBE_DIM_Y + UNIT_POS_Y;
    // A line without a row of its own works on the last one, for all must come to the sums.
    let row_read = min(row, rows - 1) as usize;
    let mut part = Array::<Vector<f32, N>>::new(steps);
    load::<E, N>(input, row_read * input_step as usize, &mut part, vectors, steps);
    let scale = Vector::new(centre::<N>(&mut part, &mut shared, epsilon, vectors, steps, has_planes));
    if row < rows {
        #[unroll]
        for step in 0..steps {
            let vector = step * CUBE_DIM_X as usize + UNIT_POS_X as usize;
            if vector < vectors {
                let value = part[step] * scale * weight[vector] + bias[vector];
                output[row as usize * vectors + vector] = Vector::cast_from(value);
            }
        }
    }
}
