use std::mem::MaybeUninit;

use crate::block::{Block, LANES, Line, multiply_add};
use crate::matrix::Matrix;
#[cfg(target_arch = "x86_64")]
use crate::matrix::lines;

/// Lines that are computed together where registers are wide: rows are whole pairs of them.
const LINES_TOGETHER: usize = 2;

/// Rows of a product that are summed at once, in registers: it divides the tokens of windows of 7 by 7.
const AT_ONCE: usize = 7;

/// A small matrix whose rows are whole lines, zeros beyond the last column and the last row.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    lines: Vec<Line>,
    sides: [usize; 2],
    /// Lines of a row.
    width: usize,
}

impl Rows {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        let width = width(columns);
        Self { lines: vec![Line::ZEROS; rows.next_multiple_of(LANES) * width], sides: [rows, columns], width }
    }

    #[inline(always)]
    pub(super) fn row_mut(&mut self, row: usize) -> &mut [Line] {
        &mut self.lines[row * self.width..][..self.width]
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[Line] {
        &self.lines[row * self.width..][..self.width]
    }

    /// All rows, one behind the other.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines[..self.sides[0] * self.width]
    }

    /// Takes the numbers of one row.
    #[inline(always)]
    pub(super) fn read(&mut self, row: usize, numbers: &[f32]) {
        let columns = self.sides[1];
        let (whole, rest) = numbers[..columns].as_chunks::<LANES>();
        let lines = self.row_mut(row);
        lines.iter_mut().zip(whole).for_each(|(line, numbers)| line.0 = *numbers);
        if !rest.is_empty() {
            lines[whole.len()].0[..rest.len()].copy_from_slice(rest);
        }
    }

    /// Writes one row's numbers, times `scale`.
    #[inline(always)]
    pub(super) fn write(&self, row: usize, scale: f32, numbers: &mut [MaybeUninit<f32>]) {
        let (whole, rest) = numbers[..self.sides[1]].as_chunks_mut::<LANES>();
        let lines = self.row(row);
        for (numbers, Line(values)) in whole.iter_mut().zip(lines) {
            for lane in 0..LANES {
                numbers[lane].write(values[lane] * scale);
            }
        }
        if !rest.is_empty() {
            for (number, value) in rest.iter_mut().zip(&lines[whole.len()].0) {
                number.write(value * scale);
            }
        }
    }

    /// Multiplies each number.
    #[inline(always)]
    pub(super) fn scale(&mut self, factor: f32) {
        Line::numbers_mut(&mut self.lines).iter_mut().for_each(|number| *number *= factor);
    }

    pub(super) fn matrix(&self) -> Matrix<'_> {
        let [rows, columns] = self.sides;
        Matrix::of_rows(Line::numbers(&self.lines), self.width * LANES).part(&(0..rows), &(0..columns))
    }

    /// Takes the rows of `source` for columns.
    #[inline(always)]
    pub(super) fn transpose_from(&mut self, source: &Self) {
        #[cfg(target_arch = "x86_64")]
        if lines::are_there() {
            return lines::turn(&source.lines, source.width, &mut self.lines, self.width);
        }
        let [rows, columns] = source.sides;
        let (width, values) = (self.width * LANES, Line::numbers(&source.lines));
        let target = Line::numbers_mut(&mut self.lines);
        for row in 0..rows {
            for column in 0..columns {
                target[column * width + row] = values[row * source.width * LANES + column];
            }
        }
    }

    /// `self = left * right`, over the depth of the left side.
    #[inline(always)]
    pub(super) fn multiply(&mut self, left: Matrix<'_>, right: &Self) {
        debug_assert_eq!(self.width, right.width);
        #[cfg(target_arch = "x86_64")]
        if lines::are_there() {
            return lines::multiply(left, &right.lines, right.width, &mut self.lines);
        }
        let rows = self.sides[0];
        let whole = rows / AT_ONCE * AT_ONCE;
        for column in 0..self.width {
            for first in (0..whole).step_by(AT_ONCE) {
                self.part::<AT_ONCE>(left, right, first, column);
            }
            for row in whole..rows {
                self.part::<1>(left, right, row, column);
            }
        }
    }

    /// One line of R rows of a product. The sums stay in registers only as long as the compiler unrolls the loop over them: lines side by side would
    /// be too many.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "iterators here keep sums from registers")]
    fn part<const R: usize>(&mut self, left: Matrix<'_>, right: &Self, first: usize, column: usize) {
        let mut sums: [Block; R] = [[0.0; LANES]; R];
        let (depth, factors) = (left.depth(), left.rows_of::<R>(first));
        for at in 0..depth {
            let right = &right.lines[at * right.width + column].0;
            for row in 0..R {
                multiply_add(&mut sums[row], &[factors[row][at * left.depth_step()]; LANES], right);
            }
        }
        for row in 0..R {
            self.lines[(first + row) * self.width + column] = Line(sums[row]);
        }
    }
}

/// Lines of a row.
pub(super) fn width(columns: usize) -> usize {
    columns.div_ceil(LINES_TOGETHER * LANES) * LINES_TOGETHER
}

#[cfg(target_arch = "x86_64")]
const _: () = assert!(LINES_TOGETHER == lines::TILE_LINES);
