//! Kernels over rows of channels that work on each channel by itself, shared out as [`Columns`](crate::kernels::columns::Columns) says: along the first axis
//! of a launch go the tiles, along the second the chunks of rows, along the third whatever is worked on by itself.

use burn::cubecl;
use burn::cubecl::prelude::*;

use crate::kernels::columns::{Chunks, Columns};

/// How many of the first `length` rows of a chunk a line of units has, if it takes every row that is `lines` further.
#[cube]
pub(crate) fn rows_of_line(length: u32, line: u32, lines: u32) -> u32 {
    (length + lines - 1 - line) / lines
}

/// The vector of a row, in f32.
#[cube]
pub(crate) fn read<E: Float, N: Size>(
    rows: &Tensor<Vector<E, N>>,
    row: usize,
    vector: usize,
    #[comptime] vectors: usize,
) -> Vector<f32, N> {
    Vector::cast_from(rows[row * vectors + vector])
}

/// The sum over the lines of a cube, in the first of them; zeros in the others. Every unit of the cube must come here.
#[cube]
pub(crate) fn sum_of_lines<N: Size>(value: Vector<f32, N>, shared: &mut Shared<[Vector<f32, N>]>) -> Vector<f32, N> {
    shared[UNIT_POS as usize] = value;
    sync_cube();
    let mut sum = Vector::<f32, N>::zero();
    if UNIT_POS_Y == 0 {
        for line in 0..CUBE_DIM_Y {
            sum += shared[(line * CUBE_DIM_X + UNIT_POS_X) as usize];
        }
    }
    sync_cube();
    sum
}

impl Columns {
    /// The units of a cube.
    pub(crate) fn cube(&self) -> CubeDim {
        CubeDim::new_2d(self.across as u32, self.lines as u32)
    }

    /// Their number.
    pub(crate) fn units(&self) -> usize {
        self.across * self.lines
    }

    /// The chunks of kernels that leave nothing to add up, of which there are `others` side by side. Each unit reads what belongs to its channels once, so that
    /// there are no more cubes than keep a large card busy.
    pub(crate) fn chunks_to_write(&self, rows: usize, others: usize) -> Chunks {
        const CUBES: usize = 2048;
        self.chunks(rows, (CUBES / (self.tiles * others)).max(1))
    }

    /// A cube for each tile, chunk, and one of `others`.
    pub(crate) fn cubes(&self, chunks: &Chunks, others: usize) -> CubeCount {
        CubeCount::Static(self.tiles as u32, chunks.count as u32, others as u32)
    }
}
