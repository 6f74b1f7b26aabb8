//! Operands in the order in which tiles of sums read them, and blocks turned in vector registers.

use std::arch::x86_64::*;

use super::Matrix;
use super::sums::{COLUMNS, Left, ROWS, mask};
use crate::block::{LANES, Line};
use crate::gelu::gelu_task;

/// Lines of one depth of a panel.
pub(super) const PANEL_LINES: usize = COLUMNS / LANES;

/// Room for at least so many lines, whatever they hold.
pub(super) fn room(lines: usize, buffer: &mut Vec<Line>) -> *mut f32 {
    buffer.clear();
    buffer.reserve(lines);
    buffer.as_mut_ptr().cast()
}

/// Packs a matrix as panels of [`COLUMNS`] columns, each depth by depth, with zeros beyond the columns.
///
/// # Safety
/// The processor has AVX-512F; one of the strides is 1; there is room for [`PANEL_LINES`] a panel and depth, aligned to a register.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pack_columns(matrix: Matrix<'_>, packed: *mut f32) {
    // SAFETY: as the caller says.
    unsafe {
        if matrix.column_stride == 1 {
            return pack_lines(matrix, packed);
        }
        for first in (0..matrix.columns).step_by(COLUMNS) {
            let columns = first..matrix.columns.min(first + COLUMNS);
            pack_turned(matrix.part(&(0..matrix.rows), &columns), packed.add(first * matrix.rows));
        }
    }
}

/// One panel of a matrix that lies column by column.
#[target_feature(enable = "avx512f")]
unsafe fn pack_turned(matrix: Matrix<'_>, panel: *mut f32) {
    // SAFETY: as the caller says.
    unsafe {
        for half in 0..PANEL_LINES {
            let columns = matrix.columns.saturating_sub(half * LANES).min(LANES);
            for depth in (0..matrix.rows).step_by(LANES) {
                let source = matrix.values.as_ptr().wrapping_add(half * LANES * matrix.column_stride + depth);
                let depths = (matrix.rows - depth).min(LANES);
                let lines = match [columns, depths] {
                    [LANES, LANES] => whole_block(source, matrix.column_stride),
                    sides => part_of_block(source, matrix.column_stride, sides),
                };
                let place = panel.add(depth * COLUMNS + half * LANES);
                for (step, line) in lines.into_iter().enumerate() {
                    if step < depths {
                        _mm512_store_ps(place.add(step * COLUMNS), line);
                    }
                }
            }
        }
    }
}

/// Columns of a matrix turned to lines, each `column_stride` numbers from the one before.
///
/// # Safety
/// The processor has AVX-512F; the block lies inside a matrix.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn whole_block(source: *const f32, column_stride: usize) -> [__m512; LANES] {
    let mut lines = [_mm512_setzero_ps(); LANES];
    for (column, line) in lines.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        *line = unsafe { _mm512_loadu_ps(source.add(column * column_stride)) };
    }
    transposed(lines)
}

/// The same of a block of fewer columns or less depth: zeros stand for the rest.
///
/// # Safety
/// The same.
#[target_feature(enable = "avx512f")]
unsafe fn part_of_block(source: *const f32, column_stride: usize, [columns, depths]: [usize; 2]) -> [__m512; LANES] {
    let [within, _] = mask(depths);
    let mut lines = [_mm512_setzero_ps(); LANES];
    for (column, line) in lines.iter_mut().enumerate().take(columns) {
        // SAFETY: the mask keeps to the block, which is inside as the caller says.
        *line = unsafe { _mm512_maskz_loadu_ps(within, source.wrapping_add(column * column_stride)) };
    }
    transposed(lines)
}

/// All panels of a matrix that lies row by row.
#[target_feature(enable = "avx512f")]
unsafe fn pack_lines(matrix: Matrix<'_>, packed: *mut f32) {
    let Matrix { values, rows: depths, columns, row_stride, .. } = matrix;
    // Some depths at a time: the matrix is read in order, more or less, and so are panels written.
    for block in (0..depths).step_by(LANES) {
        for first in (0..columns).step_by(COLUMNS) {
            let [low, high] = mask(columns - first);
            for depth in block..depths.min(block + LANES) {
                let source = values.as_ptr().wrapping_add(depth * row_stride + first);
                // SAFETY: masks keep to the matrix; there is the room, as the caller says.
                unsafe {
                    let line = packed.add(first * depths + depth * COLUMNS);
                    _mm512_store_ps(line, _mm512_maskz_loadu_ps(low, source));
                    _mm512_store_ps(line.add(LANES), _mm512_maskz_loadu_ps(high, source.wrapping_add(LANES)));
                }
            }
        }
    }
}

/// Which rows a tile has, of `tiles` as equal as can be.
pub(super) fn rows_of_tile(tile: usize, rows: usize) -> std::ops::Range<usize> {
    let tiles = rows.div_ceil(ROWS);
    tile * rows / tiles..(tile + 1) * rows / tiles
}

/// Packs a matrix that lies column by column as tiles: each depth by depth, a line of its rows.
///
/// # Safety
/// The processor has AVX-512F; the row stride is 1; there is room for a line a tile and depth, aligned to a register.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pack_rows(matrix: Matrix<'_>, packed: *mut f32) {
    let Matrix { values, rows, columns: depths, column_stride, .. } = matrix;
    // Some depths at a time: the matrix is read in order, more or less, and where a tile begins is asked for less often.
    for block in (0..depths).step_by(LANES) {
        for tile in 0..rows.div_ceil(ROWS) {
            let rows = rows_of_tile(tile, rows);
            let [within, _] = mask(rows.len());
            for depth in block..depths.min(block + LANES) {
                let source = values.as_ptr().wrapping_add(depth * column_stride + rows.start);
                // SAFETY: the mask keeps to the matrix; there is the room, as the caller says.
                unsafe {
                    let line = _mm512_maskz_loadu_ps(within, source);
                    _mm512_store_ps(packed.add((tile * depths + depth) * LANES), line);
                }
            }
        }
    }
}

/// A tile's rows, which lie row by row, or their GELU: one behind the other in the buffer, a line apart, so that no two begin at the same place of a page.
pub(super) fn rows_together(rows: Matrix<'_>, buffer: &mut Vec<Line>, of_gelu: bool) -> Left {
    let row_step = rows.columns.next_multiple_of(LANES) + LANES;
    let lines = rows.rows * row_step / LANES;
    if buffer.len() < lines {
        buffer.resize(lines, Line::ZEROS);
    }
    let packed = Line::numbers_mut(&mut buffer[..lines]);
    for (row, packed) in packed.chunks_exact_mut(row_step).enumerate() {
        let (row, packed) = (&rows.values[row * rows.row_stride..][..rows.columns], &mut packed[..rows.columns]);
        if of_gelu { gelu_task(row, packed) } else { packed.copy_from_slice(row) }
    }
    Left { start: packed.as_ptr(), row_step, depth_step: 1 }
}

/// Rows for columns.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transposed(mut rows: [__m512; LANES]) -> [__m512; LANES] {
    // Two rows, then four, are interleaved within each quarter of a register.
    for row in (0..LANES).step_by(2) {
        let (even, odd) = (rows[row], rows[row + 1]);
        rows[row] = _mm512_unpacklo_ps(even, odd);
        rows[row + 1] = _mm512_unpackhi_ps(even, odd);
    }
    // No closures here: they might not be inlined, for want of this function's features.
    let mut pairs = [_mm512_setzero_pd(); LANES];
    for (pair, row) in pairs.iter_mut().zip(rows) {
        *pair = _mm512_castps_pd(row);
    }
    for row in (0..LANES).step_by(4) {
        for half in 0..2 {
            let (upper, lower) = (pairs[row + half], pairs[row + half + 2]);
            rows[row + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(upper, lower));
            rows[row + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(upper, lower));
        }
    }
    // Then the quarters change places: those of rows four apart, and of rows eight apart.
    let mut columns = rows;
    for column in 0..4 {
        let [a, b, c, d] = [rows[column], rows[4 + column], rows[8 + column], rows[12 + column]];
        let [even, odd] = [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b)];
        let [even_below, odd_below] = [_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xDD>(c, d)];
        columns[column] = _mm512_shuffle_f32x4::<0x88>(even, even_below);
        columns[column + 4] = _mm512_shuffle_f32x4::<0x88>(odd, odd_below);
        columns[column + 8] = _mm512_shuffle_f32x4::<0xDD>(even, even_below);
        columns[column + 12] = _mm512_shuffle_f32x4::<0xDD>(odd, odd_below);
    }
    columns
}
