//! Mean and variance of each channel over all rows: two passes, because a sum over all positions of a batch by one unit would leave the card idle.
//!
//! Numbers are taken less those of the first row, so that where a mean is far from zero only the deviations are rounded, and sums of squared
//! deviations are put together as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.

use burn::cubecl;
use burn::cubecl::prelude::*;

use crate::kernels::cube::columns::{read, rows_of_line};

/// Rows that a unit takes at once.
const ROWS_AT_ONCE: u32 = 4;

/// The first pass, over the rows of a chunk. `partial` is `[chunks, 2, C]`: means, and sums of squared deviations from those.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn partial_moments<E: Float, N: Size>(
    rows: &Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    count: u32,
    rows_each: u32,
    #[comptime] vectors: usize,
    #[comptime] units: usize,
    #[define(E)] _storage: ElemType,
) {
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(comptime!(2 * units));
    let place = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    // A unit without a vector of its own works on the last one, for all must come to the sums.
    let vector = min(place, comptime!(vectors - 1));
    let first = CUBE_POS_Y * rows_each;
    let length = min(rows_each, count - first);
    let own = rows_of_line(length, UNIT_POS_Y, CUBE_DIM_Y);
    let shift = read::<E, N>(rows, 0usize, vector, vectors);
    let mut state = new_state::<N>();
    let groups = own / comptime!(ROWS_AT_ONCE);
    for group in 0..groups {
        let mut values = Array::<Vector<f32, N>>::new(comptime!(ROWS_AT_ONCE as usize));
        let mut sum = Vector::<f32, N>::zero();
        #[unroll]
        for turn in 0..comptime!(ROWS_AT_ONCE) {
            let row = first + UNIT_POS_Y + (group * comptime!(ROWS_AT_ONCE) + turn) * CUBE_DIM_Y;
            let value = read::<E, N>(rows, row as usize, vector, vectors) - shift;
            values[turn as usize] = value;
            sum += value;
        }
        let mean = sum * Vector::new(comptime!(1.0 / ROWS_AT_ONCE as f32));
        let mut squares = Vector::<f32, N>::zero();
        #[unroll]
        for turn in 0..comptime!(ROWS_AT_ONCE) {
            let apart = values[turn as usize] - mean;
            squares += apart * apart;
        }
        merge::<N>(
            &mut state,
            f32::cast_from(group * comptime!(ROWS_AT_ONCE)),
            mean,
            squares,
            comptime!(ROWS_AT_ONCE as f32),
        );
    }
    for turn in groups * comptime!(ROWS_AT_ONCE)..own {
        let row = first + UNIT_POS_Y + turn * CUBE_DIM_Y;
        let value = read::<E, N>(rows, row as usize, vector, vectors) - shift;
        merge::<N>(&mut state, f32::cast_from(turn), value, Vector::<f32, N>::zero(), 1.0f32);
    }
    shared[UNIT_POS as usize] = state[0];
    shared[units + UNIT_POS as usize] = state[1];
    sync_cube();
    if UNIT_POS_Y == 0 && place < vectors {
        let mut seen = own;
        for line in 1..CUBE_DIM_Y {
            let other = (line * CUBE_DIM_X + UNIT_POS_X) as usize;
            let more = rows_of_line(length, line, CUBE_DIM_Y);
            merge::<N>(&mut state, f32::cast_from(seen), shared[other], shared[units + other], f32::cast_from(more));
            seen += more;
        }
        let start = CUBE_POS_Y as usize * 2 * vectors + vector;
        partial[start] = state[0];
        partial[start + vectors] = state[1];
    }
}

/// The second pass, over the chunks: a column of units for each vector of channels, whose units share the chunks among them. `rows` are those of the first
/// pass.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn all_moments<E: Float, N: Size>(
    rows: &Tensor<Vector<E, N>>,
    partial: &Tensor<Vector<f32, N>>,
    mean: &mut Tensor<Vector<f32, N>>,
    variance: &mut Tensor<Vector<f32, N>>,
    count: u32,
    rows_each: u32,
    chunks: u32,
    #[comptime] vectors: usize,
    #[comptime] units: usize,
    #[define(E)] _storage: ElemType,
) {
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(comptime!(2 * units));
    let mut counts = Shared::<[f32]>::new_slice(units);
    let place = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    let vector = min(place, comptime!(vectors - 1));
    let mut state = new_state::<N>();
    let mut seen = 0.0f32;
    for chunk in range_stepped(UNIT_POS_Y, chunks, CUBE_DIM_Y) {
        let start = chunk as usize * 2 * vectors + vector;
        let more = f32::cast_from(min(rows_each, count - chunk * rows_each));
        merge::<N>(&mut state, seen, partial[start], partial[start + vectors], more);
        seen += more;
    }
    shared[UNIT_POS as usize] = state[0];
    shared[units + UNIT_POS as usize] = state[1];
    counts[UNIT_POS as usize] = seen;
    sync_cube();
    if UNIT_POS_Y == 0 && place < vectors {
        for line in 1..CUBE_DIM_Y {
            let other = (line * CUBE_DIM_X + UNIT_POS_X) as usize;
            merge::<N>(&mut state, seen, shared[other], shared[units + other], counts[other]);
            seen += counts[other];
        }
        mean[vector] = state[0] + read::<E, N>(rows, 0usize, vector, vectors);
        variance[vector] = state[1] / Vector::new(seen);
    }
}

/// The mean of no numbers, and the sum of their squared deviations.
#[cube]
fn new_state<N: Size>() -> Array<Vector<f32, N>> {
    let mut state = Array::<Vector<f32, N>>::new(2usize);
    state[0] = Vector::zero();
    state[1] = Vector::zero();
    state
}

/// Takes in `more` numbers with their mean and the sum of their squared deviations; there must be some then.
#[cube]
fn merge<N: Size>(
    state: &mut Array<Vector<f32, N>>,
    seen: f32,
    mean: Vector<f32, N>,
    squares: Vector<f32, N>,
    more: f32,
) {
    let total = seen + more;
    let apart = mean - state[0];
    state[0] += apart * Vector::new(more / total);
    state[1] += squares + apart * apart * Vector::new(seen * more / total);
}
