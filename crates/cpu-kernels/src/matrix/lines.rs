//! Small matrices whose rows are whole lines, multiplied and turned by one thread on the vector registers of AVX-512.

use std::arch::x86_64::*;

use super::Matrix;
use super::panel::{rows_of_tile, transposed};
use super::sums::{self, Ahead, Before, COLUMNS, Left, Operands, Panel, Place, ROWS, mask};
use crate::block::{LANES, Line};

/// Lines of a tile's row.
pub(crate) const TILE_LINES: usize = COLUMNS / LANES;

/// Whether the processor has such registers.
pub(crate) fn are_there() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// Writes `left * right`; both `right` and `output` have rows of `width` lines, as many as the left side has columns and rows, or more.
///
/// # Panics
/// When registers or lines are missing, a row is no whole tiles, or there is no depth.
pub(crate) fn multiply(left: Matrix<'_>, right: &[Line], width: usize, output: &mut [Line]) {
    let (rows, depth) = (left.rows, left.columns);
    assert!(are_there() && depth > 0 && width.is_multiple_of(TILE_LINES), "registers, depth and whole tiles");
    assert!(right.len() >= depth * width && output.len() >= rows * width, "lines for {rows} rows of depth {depth}");
    let [right, output] = [right.as_ptr().cast::<f32>().cast_mut(), output.as_mut_ptr().cast()];
    let row_step = width * LANES;
    for tile in 0..rows.div_ceil(ROWS) {
        let tile_rows = rows_of_tile(tile, rows);
        let start = left.values.as_ptr().wrapping_add(tile_rows.start * left.row_stride);
        let left = Left { start, row_step: left.row_stride, depth_step: left.column_stride };
        for column in (0..row_step).step_by(COLUMNS) {
            let panel = Panel { start: right.wrapping_add(column), depth_step: row_step };
            let ahead = Ahead { start: right.cast(), step_bytes: 0 };
            let start = output.wrapping_add(tile_rows.start * row_step + column);
            let place = Place { start, row_step, columns: mask(COLUMNS), before: Before::Nothing };
            // SAFETY: the registers are there; a matrix covers what its strides reach, and both slices hold the tile's columns of all depths and rows.
            unsafe { sums::compute(tile_rows.len(), Operands { left, panel, depth, ahead }, place) };
        }
    }
}

/// Writes rows of `width` lines as columns, sixteen of both at a time: `target` has a row of `target_width` lines for each column of whole lines, or for as many
/// as it has rows.
///
/// # Panics
/// When registers are missing, rows are not in sixteens, or the target is not wide enough.
pub(crate) fn turn(source: &[Line], width: usize, target: &mut [Line], target_width: usize) {
    let [rows, target_rows] = [source.len() / width, target.len() / target_width];
    assert!(are_there() && rows.is_multiple_of(LANES) && target_rows.is_multiple_of(LANES), "registers, and sixteens");
    assert!(rows <= target_width * LANES, "{rows} columns in rows of {target_width} lines");
    for row in (0..rows).step_by(LANES) {
        for column in 0..width.min(target_rows / LANES) {
            let (from, to) = (row * width + column, column * LANES * target_width + row / LANES);
            // SAFETY: the registers are there.
            unsafe { turn_block(&source[from..], width, &mut target[to..], target_width) };
        }
    }
}

/// Sixteen lines, so far apart, to sixteen others.
///
/// # Safety
/// The processor has AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn turn_block(source: &[Line], step: usize, target: &mut [Line], target_step: usize) {
    let mut rows = [_mm512_setzero_ps(); LANES];
    for (row, line) in rows.iter_mut().zip(source.iter().step_by(step)) {
        // SAFETY: a line is a register's numbers.
        *row = unsafe { _mm512_load_ps(line.0.as_ptr()) };
    }
    for (line, column) in target.iter_mut().step_by(target_step).zip(transposed(rows)) {
        // SAFETY: as above.
        unsafe { _mm512_store_ps(line.0.as_mut_ptr(), column) };
    }
}
