//! Sums over positions, and maps times a number for each sample and channel. Samples are the third axis of a launch.

use burn::cubecl;
use burn::cubecl::prelude::*;

use crate::kernels::cube::columns::{read, sum_of_lines};
use crate::kernels::per_channel::Summed;

/// The first pass of a sum, over the positions of a chunk. `partial` is `[B, chunks, K, C]`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn partial_sums<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    other: &Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    positions: u32,
    rows_each: u32,
    chunks: u32,
    #[comptime] vectors: usize,
    #[comptime] units: usize,
    #[comptime] summed: Summed,
    #[define(E)] _storage: ElemType,
) {
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(units);
    let mut sums = Array::<Vector<f32, N>>::new(comptime!(summed.count()));
    #[unroll]
    for which in 0..comptime!(summed.count()) {
        sums[which] = Vector::zero();
    }
    let place = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    // A unit without a vector of its own works on the last one, for all must come to the sums.
    let vector = min(place, comptime!(vectors - 1));
    let first = CUBE_POS_Y * rows_each;
    let sample = CUBE_POS_Z as usize * positions as usize;
    for row in range_stepped(first + UNIT_POS_Y, min(first + rows_each, positions), CUBE_DIM_Y) {
        let value = read::<E, N>(map, sample + row as usize, vector, vectors);
        if comptime!(summed == Summed::Cells || summed == Summed::CellsAndProducts) {
            sums[0] += value;
        } else {
            sums[0] += value * value;
        }
        if comptime!(summed.count() > 1) {
            let beside = read::<E, N>(other, sample + row as usize, vector, vectors);
            sums[1] += value * beside;
            if comptime!(summed.count() > 2) {
                sums[2] += beside;
            }
        }
    }
    let start = (CUBE_POS_Z * chunks + CUBE_POS_Y) as usize * comptime!(summed.count() * vectors) + vector;
    #[unroll]
    for which in 0..comptime!(summed.count()) {
        let sum = sum_of_lines::<N>(sums[which], &mut shared);
        if UNIT_POS_Y == 0 && place < vectors {
            partial[start + comptime!(which * vectors)] = sum;
        }
    }
}

/// The second pass: a unit for each vector of all sums, `[B, K, C]`, which has few chunks to add up. `numbers` are those of a sample.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn all_sums<N: Size>(
    partial: &Tensor<Vector<f32, N>>,
    sums: &mut Tensor<Vector<f32, N>>,
    chunks: u32,
    #[comptime] numbers: usize,
) {
    let place = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if place < numbers {
        let mut sum = Vector::<f32, N>::zero();
        for chunk in 0..chunks {
            sum += partial[(CUBE_POS_Y * chunks + chunk) as usize * numbers + place];
        }
        sums[CUBE_POS_Y as usize * numbers + place] = sum;
    }
}

/// `map * factors`, and `shift` or `other * other_factors` more where there is one.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn blend<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    factors: &Tensor<Vector<f32, N>>,
    other: &Tensor<Vector<E, N>>,
    more: &Tensor<Vector<f32, N>>,
    output: &mut Tensor<Vector<E, N>>,
    positions: u32,
    rows_each: u32,
    #[comptime] vectors: usize,
    #[comptime] has_shift: bool,
    #[comptime] has_other: bool,
    #[define(E)] _storage: ElemType,
) {
    let vector = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if vector < vectors {
        let of_sample = CUBE_POS_Z as usize * vectors + vector;
        let factor = factors[of_sample];
        let number = more[of_sample];
        let first = CUBE_POS_Y * rows_each;
        let sample = CUBE_POS_Z as usize * positions as usize;
        for row in range_stepped(first + UNIT_POS_Y, min(first + rows_each, positions), CUBE_DIM_Y) {
            let mut value = read::<E, N>(map, sample + row as usize, vector, vectors) * factor;
            if comptime!(has_shift) {
                value += number;
            }
            if comptime!(has_other) {
                value += read::<E, N>(other, sample + row as usize, vector, vectors) * number;
            }
            output[(sample + row as usize) * vectors + vector] = Vector::cast_from(value);
        }
    }
}
