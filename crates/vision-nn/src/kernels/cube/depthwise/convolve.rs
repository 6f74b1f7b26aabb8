//! The convolution itself.

use burn::cubecl;
use burn::cubecl::prelude::*;
use burn::cubecl::std::FastDivmod;

use super::window::{read, share_taps, sums_from, taps_of_row};

/// A unit makes `columns` neighbouring outputs of a row, for one vector of channels: a row of the map that it reads serves all of them, and the
/// sums stay in registers. The units of a cube along its first axis have neighbouring channels, so that their reads are one stretch of memory, and those
/// along its second have neighbouring stretches of rows.
///
/// # Shapes
/// - `map`: `[B, H, W, C]`
/// - `weight`: `[C, 1, k, k]`
/// - `bias`: `[C]`; read only if `has_bias`
/// - `output`: `[B, H', W', C]`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn convolve<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    weight: &Tensor<f32>,
    bias: &Tensor<Vector<f32, N>>,
    output: &mut Tensor<Vector<E, N>>,
    blocks: FastDivmod<u32>,
    runs: FastDivmod<u32>,
    rows: FastDivmod<u32>,
    vectors: u32,
    all_runs: u32,
    before_rows: i32,
    before_columns: i32,
    #[comptime] kernel: usize,
    #[comptime] stride: usize,
    #[comptime] columns: usize,
    #[comptime] lanes: usize,
    #[comptime] has_bias: bool,
    #[define(E)] _storage: ElemType,
) {
    let (group, block) = blocks.div_mod(CUBE_POS as u32);
    let mut taps_shared = Shared::<[Vector<f32, N>]>::new_slice(comptime!(kernel * kernel * lanes));
    share_taps::<N>(weight, &mut taps_shared, block * lanes as u32, vectors, kernel, lanes);
    let vector = block * lanes as u32 + UNIT_POS_X;
    let at = group * CUBE_DIM_Y + UNIT_POS_Y;
    if vector >= vectors || at >= all_runs {
        terminate!();
    }
    let (rest, run) = runs.div_mod(at);
    let (image, row) = rows.div_mod(rest);
    let size = output.vector_size();
    let vector = vector as usize;
    let height = map.shape(1) as i32;
    let width = map.shape(2) as i32;
    let first = (run as usize * columns) as i32;

    let mut start = Vector::<f32, N>::zero();
    if comptime!(has_bias) {
        start = bias[vector];
    }
    let mut sums = sums_from::<N>(start, columns);
    for down in 0..kernel {
        let line = (row as usize * stride + down) as i32 - before_rows;
        if line >= 0 && line < height {
            let begin = image as usize * map.stride(0) + line as usize * map.stride(1) + vector * size;
            let taps = taps_of_row::<N>(&taps_shared, down, kernel, lanes);
            #[unroll]
            for cell in 0..comptime!((columns - 1) * stride + kernel) {
                let column = first * stride as i32 + cell as i32 - before_columns;
                let value = read::<E, N>(map, begin, column, width);
                #[unroll]
                for across in 0..kernel {
                    // The output whose window has this cell at this place, if it is one of the unit's.
                    if comptime!(cell >= across && (cell - across) % stride == 0 && (cell - across) / stride < columns)
                    {
                        sums[comptime!((cell - across) / stride)] += value * taps[across];
                    }
                }
            }
        }
    }
    #[unroll]
    for column in 0..columns {
        let place = first as usize + column;
        if place < output.shape(2) {
            let begin = image as usize * output.stride(0) + row as usize * output.stride(1) + place * output.stride(2);
            output[begin / size + vector] = Vector::cast_from(sums[column]);
        }
    }
}
