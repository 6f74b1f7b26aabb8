//! From f32 to tiles of bf16.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::Matrix;
use super::panel::transposed;
use super::tiles::{DEPTH, LEVELS, SQUARE, STEP_ROWS, TILE, TileRow};

/// A tile's worth of f32.
type Block = [[f32; TILE]; TILE];

/// Which way a product takes its operand. Of the depth, place j and j + 16 share a lane, on both sides alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A tile's rows are rows of the product, its lanes are depth.
    Left,
    /// A tile's rows are depth, its lanes are columns of the product.
    Right,
}

/// A matrix whose rows are those of the product (or its columns, on the right), and whose columns are the depth that is summed over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) matrix: Matrix<'a>,
    pub(super) side: Side,
}

impl Operand<'_> {
    /// Packs the lines from `line` on that one square takes, from depth `depth` on as far as `packed` reaches, which is written whole. Zeros stand
    /// beyond the matrix.
    ///
    /// # Safety
    /// The processor has AVX-512F, and one of the matrix's strides is 1.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn pack(&self, line: usize, depth: usize, packed: &mut [MaybeUninit<TileRow>]) {
        let mut pair = [[[0.0f32; TILE]; TILE]; 2];
        for (step, rows) in packed.chunks_exact_mut(STEP_ROWS).enumerate() {
            for tile in 0..2 {
                let line = line + tile * TILE;
                for (half, block) in pair.iter_mut().enumerate() {
                    // SAFETY: as the caller says.
                    unsafe { self.read(line, depth + step * DEPTH + half * TILE, block) };
                }
                split(&pair, &mut rows[tile * TILE..]);
            }
        }
    }

    /// A block with this side's lanes in its rows.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn read(&self, line: usize, depth: usize, block: &mut Block) {
        let Matrix { values, rows, columns, row_stride, column_stride } = self.matrix;
        let lines = rows.saturating_sub(line).min(TILE);
        let depths = columns.saturating_sub(depth).min(TILE);
        let (along_depth, outer, inner, stride) = match column_stride {
            1 => (true, lines, depths, row_stride),
            _ => (false, depths, lines, column_stride),
        };
        let start = line * row_stride + depth * column_stride;
        if outer < TILE || inner < TILE {
            *block = [[0.0; TILE]; TILE];
        }
        for (at, row) in block.iter_mut().enumerate().take(if inner == 0 { 0 } else { outer }) {
            let source = &values[start + at * stride..];
            match source.first_chunk::<TILE>() {
                Some(source) if inner == TILE => *row = *source,
                _ => row[..inner].copy_from_slice(&source[..inner]),
            }
        }
        if along_depth != (self.side == Side::Left) {
            // SAFETY: AVX-512F is there, as the caller says.
            unsafe { transpose(block) };
        }
    }
}

/// Splits each number into [`LEVELS`] of bf16 whose sum it is: the nearest, the nearest to the rest, and what is left, which fits. The levels' tiles
/// stand two tiles apart.
#[target_feature(enable = "avx512f")]
#[inline]
fn split(pair: &[Block; 2], rows: &mut [MaybeUninit<TileRow>]) {
    for row in 0..TILE {
        let [low, high] = [pair[0][row], pair[1][row]];
        let mut levels = [[0u32; TILE]; LEVELS];
        for lane in 0..TILE {
            let (low, high) = (split_number(low[lane]), split_number(high[lane]));
            for (level, words) in levels.iter_mut().enumerate() {
                words[lane] = low[level] >> 16 | high[level];
            }
        }
        for (level, words) in levels.into_iter().enumerate() {
            rows[level * SQUARE + row].write(TileRow(words));
        }
    }
}

/// The levels of a number, each in the upper half of its word.
#[inline(always)]
fn split_number(number: f32) -> [u32; LEVELS] {
    /// bf16 is the upper half of f32.
    const UPPER: u32 = 0xFFFF_0000;
    /// Half a unit in the last place of bf16.
    const HALF: u32 = 0x8000;
    let nearest = |number: f32| number.to_bits().wrapping_add(HALF) & UPPER;
    let first = nearest(number);
    let rest = number - f32::from_bits(first);
    let second = nearest(rest);
    let third = rest - f32::from_bits(second);
    [first, second, third.to_bits() & UPPER]
}

/// Rows for columns.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn transpose(block: &mut Block) {
    // SAFETY: loads and stores are of whole rows.
    unsafe {
        let columns = transposed(std::array::from_fn(|row| _mm512_loadu_ps(block[row].as_ptr())));
        for (row, values) in block.iter_mut().zip(columns) {
            _mm512_storeu_ps(row.as_mut_ptr(), values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_of_bf16_are_the_number() {
        for number in crate::test_numbers::numbers(10_000, 3).into_iter().chain([0.0, 1.0, -1e30, 3e-20, 16_777_215.0])
        {
            let levels = split_number(number).map(f32::from_bits);
            assert_eq!(levels.iter().map(|level| f64::from(*level)).sum::<f64>(), f64::from(number));
        }
    }

    #[test]
    fn rows_become_columns() {
        if !is_x86_feature_detected!("avx512f") {
            return;
        }
        let mut block: Block = std::array::from_fn(|row| std::array::from_fn(|column| (row * TILE + column) as f32));
        // SAFETY: asked for above.
        unsafe { transpose(&mut block) };
        for (row, values) in block.iter().enumerate() {
            assert_eq!(*values, std::array::from_fn(|column| (column * TILE + row) as f32));
        }
    }
}
