//! Products of f32 matrices.
//!
//! Where the processor has matrix registers (AMX, Intel's from Sapphire Rapids on) numbers are split into three of bf16, and their products are summed in
//! those registers: as exact as f32 and faster than its own units. Elsewhere, where it has vector registers of 512 bits and measurements say that it
//! pays, tiles of sums are kept in those. Elsewhere again the `gemm` crate computes.

#[cfg(target_arch = "x86_64")]
pub(crate) mod lines;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod pack;
#[cfg(target_arch = "x86_64")]
mod panel;
mod product;
#[cfg(target_arch = "x86_64")]
mod sums;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vectors;

pub use product::{product, product_of_gelu};

use std::ops::Range;

/// A matrix in a slice: element `[row, column]` stands at `row * row_stride + column * column_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix that lies row by row in `values`.
    ///
    /// # Panics
    /// When `values` is not whole rows of `columns`.
    pub fn of_rows(values: &'a [f32], columns: usize) -> Self {
        let rows = values.len() / columns.max(1);
        assert_eq!(rows * columns, values.len(), "rows of {columns} numbers");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// `count` rows from row `first` on.
    fn rows_from(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "{first} and {count} more of {} rows", self.rows);
        Self { values: &self.values[first * self.row_stride..], rows: count, ..self }
    }

    /// The part in some rows and columns.
    pub(crate) fn part(self, rows: &Range<usize>, columns: &Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a part of {} by {}", self.rows, self.columns);
        let values = &self.values[rows.start * self.row_stride + columns.start * self.column_stride..];
        Self { values, rows: rows.len(), columns: columns.len(), ..self }
    }

    /// How deep it is as the left side of a product.
    pub(crate) fn depth(self) -> usize {
        self.columns
    }

    /// Numbers from one column to the next.
    pub(crate) fn depth_step(self) -> usize {
        self.column_stride
    }

    /// The numbers of R rows from row `first` on, to the end of all.
    pub(crate) fn rows_of<const R: usize>(self, first: usize) -> [&'a [f32]; R] {
        std::array::from_fn(|row| &self.values[(first + row) * self.row_stride..])
    }

    /// The same numbers with rows for columns.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}
