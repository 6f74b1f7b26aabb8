//! The gradient of the map.

use burn::cubecl;
use burn::cubecl::prelude::*;
use burn::cubecl::std::FastDivmod;

use super::window::{read, share_taps, sums_from, taps_of_row};

/// A unit makes the gradients of `columns` neighbouring cells of a row, for one vector of channels: it gathers from the outputs whose windows have
/// these cells, so that nothing is added atomically.
///
/// Places are counted from the first cell that a window covers, in the map or outside of it. The first place of a unit is a multiple of the stride:
/// which taps meet which of its places is then known when the kernel is compiled.
///
/// # Shapes
/// - `gradient`: `[B, H', W', C]`
/// - `weight`: `[C, 1, k, k]`
/// - `of_map`: `[B, H, W, C]`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn spread<E: Float, N: Size>(
    gradient: &Tensor<Vector<E, N>>,
    weight: &Tensor<f32>,
    of_map: &mut Tensor<Vector<E, N>>,
    blocks: FastDivmod<u32>,
    runs: FastDivmod<u32>,
    rows: FastDivmod<u32>,
    vectors: u32,
    all_runs: u32,
    before_rows: u32,
    before_columns: u32,
    #[comptime] kernel: usize,
    #[comptime] stride: usize,
    #[comptime] columns: usize,
    #[comptime] lanes: usize,
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
    let size = of_map.vector_size();
    let vector = vector as usize;
    let reach = comptime!((kernel - 1) / stride);
    // Windows that begin before the first of the unit's places have none of the map's cells before it.
    let first_window = (before_columns / stride as u32 + run * comptime!((columns / stride) as u32)) as i32;
    let place = row + before_rows;
    let last_line = place / stride as u32;
    let first_tap = place % stride as u32;

    let mut sums = sums_from::<N>(Vector::zero(), columns);
    for back in 0..comptime!(reach as u32 + 1) {
        let down = first_tap + back * stride as u32;
        let line = last_line as i32 - back as i32;
        if down < kernel as u32 && line >= 0 && line < gradient.shape(1) as i32 {
            let begin = image as usize * gradient.stride(0) + line as usize * gradient.stride(1) + vector * size;
            let taps = taps_of_row::<N>(&taps_shared, down as usize, kernel, lanes);
            #[unroll]
            for window in 0..comptime!(columns / stride + reach) {
                let column = first_window + window as i32 - reach as i32;
                let value = read::<E, N>(gradient, begin, column, gradient.shape(2) as i32);
                #[unroll]
                for across in 0..kernel {
                    // The place at which this window has this tap, if it is one of the unit's.
                    if comptime!(
                        window * stride + across >= reach * stride
                            && window * stride + across - reach * stride < columns
                    ) {
                        sums[comptime!(window * stride + across - reach * stride)] += value * taps[across];
                    }
                }
            }
        }
    }
    #[unroll]
    for column in 0..columns {
        let cell = first_window * stride as i32 + column as i32 - before_columns as i32;
        if cell >= 0 && cell < of_map.shape(2) as i32 {
            let line = image as usize * of_map.stride(0) + row as usize * of_map.stride(1);
            let begin = line + cell as usize * of_map.stride(2);
            of_map[begin / size + vector] = Vector::cast_from(sums[column]);
        }
    }
}
