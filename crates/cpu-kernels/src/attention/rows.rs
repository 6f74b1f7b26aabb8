use crate::block::{Block, LANES, multiply_add};

/// A small matrix whose rows are whole blocks, zeros beyond the last column.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) blocks: Vec<Block>,
    /// Blocks of a row.
    pub(super) width: usize,
}

/// Rows of a product that are summed at once, in registers: it divides the tokens of windows of 7 by 7.
const AT_ONCE: usize = 7;

impl Rows {
    pub(super) fn new(rows: usize, width: usize) -> Self {
        Self { blocks: vec![[0.0; LANES]; rows * width], width }
    }

    #[inline(always)]
    pub(super) fn row_mut(&mut self, row: usize) -> &mut [Block] {
        &mut self.blocks[row * self.width..][..self.width]
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[Block] {
        &self.blocks[row * self.width..][..self.width]
    }

    /// Takes the rows of `source` for columns, of which it has `columns`.
    #[inline(always)]
    pub(super) fn transpose_from(&mut self, source: &Self, columns: usize) {
        let width = self.width * LANES;
        let rows = source.blocks.len() / source.width;
        let (target, values) = (self.blocks.as_flattened_mut(), source.blocks.as_flattened());
        for row in 0..rows {
            for column in 0..columns {
                target[column * width + row] = values[row * source.width * LANES + column];
            }
        }
    }

    /// `self = left * right`, over `depth`.
    #[inline(always)]
    pub(super) fn multiply(&mut self, left: &Self, right: &Self, depth: usize) {
        self.in_parts::<false>(left, right, depth);
    }

    /// `self = leftᵀ * right`, over `depth`.
    #[inline(always)]
    pub(super) fn multiply_turned(&mut self, left: &Self, right: &Self, depth: usize) {
        self.in_parts::<true>(left, right, depth);
    }

    #[inline(always)]
    fn in_parts<const TURNED: bool>(&mut self, left: &Self, right: &Self, depth: usize) {
        debug_assert_eq!(self.width, right.width);
        let rows = self.blocks.len() / self.width;
        let whole = rows / AT_ONCE * AT_ONCE;
        for column in 0..self.width {
            for first in (0..whole).step_by(AT_ONCE) {
                self.part::<TURNED, AT_ONCE>(left, right, depth, first, column);
            }
            for row in whole..rows {
                self.part::<TURNED, 1>(left, right, depth, row, column);
            }
        }
    }

    /// One block of R rows of a product. The sums stay in registers only as long as the compiler unrolls the loop over them: blocks side by side would
    /// be too many.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "iterators here keep sums from registers")]
    fn part<const TURNED: bool, const R: usize>(
        &mut self,
        left: &Self,
        right: &Self,
        depth: usize,
        first: usize,
        column: usize,
    ) {
        let mut sums = [[0.0; LANES]; R];
        let values = left.blocks.as_flattened();
        let stride = left.width * LANES;
        let (between_rows, step) = if TURNED { (1, stride) } else { (stride, 1) };
        let factors: [&[f32]; R] = std::array::from_fn(|row| &values[(first + row) * between_rows..]);
        for at in 0..depth {
            let right = &right.blocks[at * right.width + column];
            for row in 0..R {
                multiply_add(&mut sums[row], &[factors[row][at * step]; LANES], right);
            }
        }
        for row in 0..R {
            self.blocks[(first + row) * self.width + column] = sums[row];
        }
    }
}
