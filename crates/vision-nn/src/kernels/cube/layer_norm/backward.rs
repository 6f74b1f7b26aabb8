//! The gradients: that of the input, with sums for weight and bias over the rows of each cube, and then the sums of those sums.

use burn::cubecl;
use burn::cubecl::prelude::*;

use super::rows::{centre, load, row_sum, sum_of};

/// Each line of units takes every row that is `lines` further, up to `turns` of them, and reads it and its gradient once. `partial` is
/// `[cubes, 2, C]`: the sums of the gradients times the normalised rows, and of the gradients, over the rows of each cube.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn input_gradient<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    weight: &Tensor<Vector<f32, N>>,
    gradient: &Tensor<Vector<E, N>>,
    output: &mut Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    rows: u32,
    lines: u32,
    turns: u32,
    // Vectors from a row to the next.
    input_step: u32,
    gradient_step: u32,
    epsilon: f32,
    #[comptime] vectors: usize,
    #[comptime] steps: usize,
    #[comptime] shared_numbers: usize,
    #[comptime] has_planes: bool,
    #[define(E)] _storage: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(shared_numbers);
    let mut normalised = Array::<Vector<f32, N>>::new(steps);
    let mut slope = Array::<Vector<f32, N>>::new(steps);
    let mut of_weight = zeros::<N>(steps);
    let mut of_bias = zeros::<N>(steps);
    let line = CUBE_POS as u32 * CUBE_DIM_Y + UNIT_POS_Y;
    for turn in 0..turns {
        let row = line + turn * lines;
        // A line without a row of its own works on the last one, for all must come to the sums.
        let row_read = min(row, rows - 1) as usize;
        load::<E, N>(input, row_read * input_step as usize, &mut normalised, vectors, steps);
        load::<E, N>(gradient, row_read * gradient_step as usize, &mut slope, vectors, steps);
        let scale = centre::<N>(&mut normalised, &mut shared, epsilon, vectors, steps, has_planes);
        let is_own = row < rows;
        let mut sums = Vector::<f32, N>::zero();
        let mut products = Vector::<f32, N>::zero();
        #[unroll]
        for step in 0..steps {
            let vector = step * CUBE_DIM_X as usize + UNIT_POS_X as usize;
            if vector < vectors {
                let place = normalised[step] * Vector::new(scale);
                if is_own {
                    of_weight[step] += slope[step] * place;
                    of_bias[step] += slope[step];
                }
                let weighted = slope[step] * weight[vector];
                sums += weighted;
                products += weighted * place;
                normalised[step] = place;
                slope[step] = weighted;
            }
        }
        let channels = comptime!(vectors) as f32 * sums.vector_size() as f32;
        let mean = Vector::new(row_sum(sum_of::<N>(sums), &mut shared, has_planes) / channels);
        let share = Vector::new(row_sum(sum_of::<N>(products), &mut shared, has_planes) / channels);
        if is_own {
            #[unroll]
            for step in 0..steps {
                let vector = step * CUBE_DIM_X as usize + UNIT_POS_X as usize;
                if vector < vectors {
                    let value = (slope[step] - mean - normalised[step] * share) * Vector::new(scale);
                    output[row_read * vectors + vector] = Vector::cast_from(value);
                }
            }
        }
    }
    leave_totals::<N>(partial, &of_weight, &of_bias, vectors, steps);
}

#[cube]
fn zeros<N: Size>(#[comptime] steps: usize) -> Array<Vector<f32, N>> {
    let mut zeros = Array::<Vector<f32, N>>::new(steps);
    #[unroll]
    for step in 0..steps {
        zeros[step] = Vector::zero();
    }
    zeros
}

/// Adds up what the lines of a cube have, each line in turn, and writes it to the cube's place in `partial`.
#[cube]
fn leave_totals<N: Size>(
    partial: &mut Tensor<Vector<f32, N>>,
    of_weight: &Array<Vector<f32, N>>,
    of_bias: &Array<Vector<f32, N>>,
    #[comptime] vectors: usize,
    #[comptime] steps: usize,
) {
    let mut totals = Shared::<[Vector<f32, N>]>::new_slice(comptime!(2 * vectors));
    for turn in 0..CUBE_DIM_Y {
        if turn == UNIT_POS_Y {
            #[unroll]
            for step in 0..steps {
                let vector = step * CUBE_DIM_X as usize + UNIT_POS_X as usize;
                if vector < vectors {
                    let mut weight_sum = of_weight[step];
                    let mut bias_sum = of_bias[step];
                    if turn > 0 {
                        weight_sum += totals[vector];
                        bias_sum += totals[vectors + vector];
                    }
                    totals[vector] = weight_sum;
                    totals[vectors + vector] = bias_sum;
                }
            }
        }
        sync_cube();
    }
    let unit = (UNIT_POS_Y * CUBE_DIM_X + UNIT_POS_X) as usize;
    for place in range_stepped(unit, 2 * vectors, (CUBE_DIM_X * CUBE_DIM_Y) as usize) {
        partial[CUBE_POS * 2 * vectors + place] = totals[place];
    }
}

/// Sums `partial` over the cubes: a column of units for each vector of the two gradients, whose units share the cubes among them.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn parameter_gradients<N: Size>(
    partial: &Tensor<Vector<f32, N>>,
    of_weight: &mut Tensor<Vector<f32, N>>,
    of_bias: &mut Tensor<Vector<f32, N>>,
    cubes: u32,
    #[comptime] vectors: usize,
    #[comptime] shared_vectors: usize,
) {
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(shared_vectors);
    let place = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    let mut sum = Vector::<f32, N>::zero();
    if place < 2 * vectors {
        for cube in range_stepped(UNIT_POS_Y, cubes, CUBE_DIM_Y) {
            sum += partial[cube as usize * 2 * vectors + place];
        }
    }
    shared[(UNIT_POS_Y * CUBE_DIM_X + UNIT_POS_X) as usize] = sum;
    sync_cube();
    if UNIT_POS_Y == 0 && place < 2 * vectors {
        let mut total = Vector::<f32, N>::zero();
        for line in 0..CUBE_DIM_Y {
            total += shared[(line * CUBE_DIM_X + UNIT_POS_X) as usize];
        }
        if place < vectors {
            of_weight[place] = total;
        } else {
            of_bias[place - vectors] = total;
        }
    }
}
