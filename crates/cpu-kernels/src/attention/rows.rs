use crate::block::{Block, LANES, multiply_add};

/// A small matrix whose rows are whole blocks, zeros beyond the last column.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) blocks: Vec<Block>,
    /// Blocks of a row.
    pub(super) width: usize,
}

/// Rows of a product that are summed at once, and blocks of columns: with their operands they fill the vector registers.
const AT_ONCE: [usize; 2] = [4, 4];

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

    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> f32 {
        self.blocks.as_flattened()[row * self.width * LANES + column]
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

    /// `self = left * right`, over `depth`; with `TURNED`, `left` is taken with rows for columns.
    #[inline(always)]
    pub(super) fn multiply<const TURNED: bool>(&mut self, left: &Self, right: &Self, depth: usize) {
        debug_assert_eq!(self.width, right.width);
        let rows = self.blocks.len() / self.width;
        for first_row in (0..rows).step_by(AT_ONCE[0]) {
            let last = first_row + AT_ONCE[0] > rows;
            for column in (0..self.width).step_by(AT_ONCE[1]) {
                match (last, self.width - column) {
                    (false, 1) => self.part::<TURNED, 4, 1>(left, right, depth, first_row, column),
                    (false, 2) => self.part::<TURNED, 4, 2>(left, right, depth, first_row, column),
                    (false, 3) => self.part::<TURNED, 4, 3>(left, right, depth, first_row, column),
                    (false, _) => self.part::<TURNED, 4, 4>(left, right, depth, first_row, column),
                    (true, wide) => {
                        for (row, column) in (first_row..rows)
                            .flat_map(|row| (column..column + wide.min(AT_ONCE[1])).map(move |column| (row, column)))
                        {
                            self.part::<TURNED, 1, 1>(left, right, depth, row, column);
                        }
                    }
                }
            }
        }
    }

    /// R rows and B blocks of a product.
    #[inline(always)]
    fn part<const TURNED: bool, const R: usize, const B: usize>(
        &mut self,
        left: &Self,
        right: &Self,
        depth: usize,
        first_row: usize,
        column: usize,
    ) {
        let mut sums = [[[0.0; LANES]; B]; R];
        for at in 0..depth {
            let right: &[Block; B] = right.row(at)[column..].first_chunk().expect("blocks are inside");
            for (row, sums) in sums.iter_mut().enumerate() {
                let row = first_row + row;
                let factor = if TURNED { left.at(at, row) } else { left.at(row, at) };
                for (sum, right) in sums.iter_mut().zip(right) {
                    multiply_add(sum, &[factor; LANES], right);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            self.row_mut(first_row + row)[column..][..B].copy_from_slice(sums);
        }
    }
}
