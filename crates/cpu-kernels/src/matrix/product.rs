use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::Matrix;
#[cfg(target_arch = "x86_64")]
use super::vectors;

/// Products below this many multiplications are not shared between threads.
pub(super) const SHARED: usize = 192 * 192 * 192;

/// Numbers of the output that one task computes where there are many: in the second cache they find their bias.
const BAND: usize = 1 << 18;

/// Tasks of a product that is worth sharing, at least: by shapes alone, and so for any number of threads.
pub(super) const TASKS: usize = 8;

/// Rows a column from which on bands of rows pay, however small the output.
const ROWS_A_COLUMN: usize = 32;

/// Columns that the `gemm` crate computes together; a band of others would waste some.
const COLUMNS_AT_ONCE: usize = 64;

/// Depth that is summed over in one go where the output is small.
const PART_DEPTH: usize = 3072;

/// Parts of the depth, each of which holds an output of its own.
const MOST_PARTS: usize = 8;

/// The largest output that is held once a part, in numbers.
const LONGEST_PART: usize = 1 << 18;

/// Numbers of a task that only adds.
const ROWS_TASK: usize = 1 << 15;

/// `left * right`, row by row, and `bias` added to each row.
///
/// # Shapes
/// - `left`: `[M, K]`
/// - `right`: `[K, N]`
/// - `bias`: `[N]`
/// - result: `[M, N]`
///
/// # Panics
/// When shapes do not fit each other.
pub fn product(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    assert_fit(left, right, bias);
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if let Some(output) = on_tiles::product(left, right, bias) {
        return output;
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(output) = vectors::product(left, right, bias) {
        return output;
    }
    portable(left, right, bias)
}

/// [`product`] of GELU of the left side, to the bit, without a map of it: rows take their GELU on the way into the product. None where they would do
/// so more than once, or where the product is one that cannot.
///
/// # Shapes
/// Those of [`product`].
///
/// # Panics
/// When shapes do not fit each other.
pub fn product_of_gelu(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) -> Option<Vec<f32>> {
    assert_fit(left, right, bias);
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if super::tiles::are_there() {
        return None;
    }
    #[cfg(target_arch = "x86_64")]
    {
        vectors::product_of_gelu(left, right, bias)
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

fn assert_fit(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) {
    assert_eq!(left.columns, right.rows, "depths");
    assert!(bias.is_none_or(|bias| bias.len() == right.columns), "one number a column");
}

/// By the `gemm` crate, cut so that no thread waits for another's copy of the operands, and by shapes alone.
pub(super) fn portable(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    let (rows, columns, depth) = (left.rows, right.columns, left.columns);
    if depth == 0 || rows * columns == 0 {
        return bias.map_or_else(|| vec![0.0; rows * columns], |bias| bias.repeat(rows));
    }
    if let Some(part) = parts_of_depth(rows, columns, depth) {
        return in_parts_of_depth(left, right, bias, part, multiply_alone);
    }
    // Bands of either side have the other copied by each task: the smaller one is to be.
    if rows.saturating_mul(columns).saturating_mul(depth) >= SHARED && 2 * columns >= rows {
        return in_bands_of_columns(left, right, bias);
    }
    in_bands_of_rows(left, right, bias)
}

/// Each task copies all of the right side for itself, which pays where that is little beside its band. Where it is not, the crate shares one copy.
fn in_bands_of_rows(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    let (rows, columns, depth) = (left.rows, right.columns, left.columns);
    let is_large = rows.saturating_mul(columns).saturating_mul(depth) >= SHARED;
    let pays = is_large && (rows * columns >= TASKS * BAND || rows >= ROWS_A_COLUMN * columns);
    let band = if pays { BAND.div_ceil(columns).min(rows.div_ceil(TASKS)) } else { rows };
    let is_shared = is_large && !pays;
    let mut output = Vec::with_capacity(rows * columns);
    let bands = output.spare_capacity_mut()[..rows * columns].par_chunks_mut(band * columns).enumerate();
    bands.for_each(|(index, output)| {
        let left = left.rows_from(index * band, output.len() / columns);
        // SAFETY: the output is as large as the band.
        unsafe { multiply(left, right, output.as_mut_ptr(), columns, is_shared) };
        // SAFETY: the product wrote all of it.
        let output = unsafe { &mut *(std::ptr::from_mut(output) as *mut [f32]) };
        add_to_rows(output, bias);
    });
    // SAFETY: the bands cover it, and each was written whole.
    unsafe { output.set_len(rows * columns) };
    output
}

/// Each task reads its own part of the right side, and all of the left one.
fn in_bands_of_columns(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    let (rows, columns) = (left.rows, right.columns);
    let band = columns.div_ceil(TASKS).next_multiple_of(COLUMNS_AT_ONCE);
    let mut output = Vec::with_capacity(rows * columns);
    let start = Start(output.as_mut_ptr());
    (0..columns.div_ceil(band)).into_par_iter().for_each(|index| {
        let first = index * band;
        let width = band.min(columns - first);
        let right = right.transposed().rows_from(first, width).transposed();
        // SAFETY: tasks have columns of their own, which end where the rows do.
        unsafe { multiply_alone(left, right, start.at(first), columns) };
        for row in 0..rows {
            // SAFETY: the product wrote all of it.
            let row = unsafe { std::slice::from_raw_parts_mut(start.at(row * columns + first).cast::<f32>(), width) };
            let bias = bias.map(|bias| &bias[first..first + width]);
            add_to_rows(row, bias);
        }
    });
    // SAFETY: the bands cover it, and each was written whole.
    unsafe { output.set_len(rows * columns) };
    output
}

/// Where an output begins that tasks share.
#[derive(Clone, Copy)]
pub(super) struct Start(pub(super) *mut f32);

// SAFETY: tasks have parts of their own.
unsafe impl Send for Start {}
unsafe impl Sync for Start {}

impl Start {
    /// # Safety
    /// The output has more than so many numbers.
    unsafe fn at(self, place: usize) -> *mut MaybeUninit<f32> {
        // SAFETY: inside by contract.
        unsafe { self.0.add(place).cast() }
    }
}

/// The length of parts that the depth is to be cut into, where there is little else.
pub(super) fn parts_of_depth(rows: usize, columns: usize, depth: usize) -> Option<usize> {
    let parts = (depth / PART_DEPTH).min(MOST_PARTS);
    (parts > 1 && rows * columns <= LONGEST_PART).then(|| depth.div_ceil(parts))
}

/// A product of little but depth, such as the gradient of a weight: each part of the depth is a task, and their results are added in order. A part is
/// multiplied by `multiply`, which writes all rows of its product, so far apart as it is told.
pub(super) fn in_parts_of_depth(
    left: Matrix<'_>,
    right: Matrix<'_>,
    bias: Option<&[f32]>,
    part: usize,
    multiply: unsafe fn(Matrix<'_>, Matrix<'_>, *mut MaybeUninit<f32>, usize),
) -> Vec<f32> {
    let (rows, columns, depth) = (left.rows, right.columns, left.columns);
    let starts = (0..depth).step_by(part).collect::<Vec<_>>();
    let of_part = |start: usize| {
        let mut output = Vec::with_capacity(rows * columns);
        let length = (depth - start).min(part);
        let left = left.transposed().rows_from(start, length).transposed();
        // SAFETY: the output has room for all rows.
        unsafe { multiply(left, right.rows_from(start, length), output.spare_capacity_mut().as_mut_ptr(), columns) };
        // SAFETY: the product wrote all of it.
        unsafe { output.set_len(rows * columns) };
        output
    };
    let mut parts: Vec<Vec<f32>> = starts.into_par_iter().map(of_part).collect();
    let mut output = std::mem::take(&mut parts[0]);
    output.par_chunks_mut(ROWS_TASK).enumerate().for_each(|(task, output)| {
        for part in &parts[1..] {
            output.iter_mut().zip(&part[task * ROWS_TASK..]).for_each(|(sum, number)| *sum += number);
        }
    });
    output.par_chunks_mut((ROWS_TASK / columns).max(1) * columns).for_each(|rows| add_to_rows(rows, bias));
    output
}

fn add_to_rows(output: &mut [f32], bias: Option<&[f32]>) {
    let Some(bias) = bias else { return };
    for row in output.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(number, bias)| *number += bias);
    }
}

/// [`multiply`] by this thread.
///
/// # Safety
/// The same.
unsafe fn multiply_alone(left: Matrix<'_>, right: Matrix<'_>, output: *mut MaybeUninit<f32>, row_stride: usize) {
    // SAFETY: as the caller says.
    unsafe { multiply(left, right, output, row_stride, false) };
}

/// Writes `left * right`, row by row, each row so far from the one before, by all threads or by this one.
///
/// # Safety
/// The output has room for all rows, and nobody else uses them.
unsafe fn multiply(
    left: Matrix<'_>,
    right: Matrix<'_>,
    output: *mut MaybeUninit<f32>,
    row_stride: usize,
    is_shared: bool,
) {
    let (rows, columns, depth) = (left.rows, right.columns, left.columns);
    assert!(right.rows == depth && row_stride >= columns && depth > 0, "shapes");
    let parallelism = if is_shared { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    let [left_strides, right_strides] =
        [left, right].map(|matrix| (matrix.column_stride as isize, matrix.row_stride as isize));
    // SAFETY: a `Matrix` covers all that its shape and strides reach, the output its rows by contract; nothing is read from it.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            output.cast::<f32>(),
            1,
            row_stride as isize,
            false,
            left.values.as_ptr(),
            left_strides.0,
            left_strides.1,
            right.values.as_ptr(),
            right_strides.0,
            right_strides.1,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// On matrix registers.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod on_tiles {
    use super::super::pack::{Operand, Side};
    use super::super::tiles::{self, DEPTH, LEVELS, Registers, SQUARE, STEP_ROWS, Square, TileRow};
    use super::*;

    /// Numbers of f32 packed at a time, of both operands together: at six bytes each they are to stay in the last cache.
    const PACKED: usize = 1 << 20;

    /// Steps of depth that a square is summed over at once: its operands are then read from the first cache or the second.
    const STEPS_AT_ONCE: usize = 12;

    /// Squares down and across that one task computes.
    const TASK: [usize; 2] = [4, 4];

    /// Products of fewer multiplications would spend their time packing.
    const SMALLEST: usize = 32 * 32 * 32;

    /// None where there are no such registers, or where they do not pay.
    pub(super) fn product(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) -> Option<Vec<f32>> {
        let (rows, columns, depth) = (left.rows, right.columns, left.columns);
        let is_large = rows.saturating_mul(columns).saturating_mul(depth) >= SMALLEST;
        let has_unit_strides = [left, right].iter().all(|matrix| matrix.row_stride == 1 || matrix.column_stride == 1);
        if !is_large || !has_unit_strides || !tiles::are_there() {
            return None;
        }
        let operands =
            [Operand { matrix: left, side: Side::Left }, Operand { matrix: right.transposed(), side: Side::Right }];
        let mut output = Vec::with_capacity(rows * columns);
        Blocks::new(rows, columns, depth).compute(operands, bias, &mut output.spare_capacity_mut()[..rows * columns]);
        // SAFETY: the first block of depth writes every element.
        unsafe { output.set_len(rows * columns) };
        Some(output)
    }

    /// How a product is cut. It depends on shapes alone, so that sums are the same whatever the number of threads.
    struct Blocks {
        rows: usize,
        columns: usize,
        depth: usize,
        /// Rows packed at a time, whole squares.
        rows_at_once: usize,
        /// Depth packed at a time, whole steps.
        depth_at_once: usize,
    }

    impl Blocks {
        fn new(rows: usize, columns: usize, depth: usize) -> Self {
            let whole_depth = depth.next_multiple_of(DEPTH);
            let whole_rows = rows.next_multiple_of(SQUARE);
            let widest = columns.next_multiple_of(SQUARE);
            let most_depth = (PACKED / (widest + whole_rows.min(1024)) / DEPTH).max(1) * DEPTH;
            // Cut evenly, so that the last part is no crumb.
            let parts = whole_depth.div_ceil(most_depth);
            let depth_at_once = depth.div_ceil(parts).next_multiple_of(DEPTH);
            let most_rows = (PACKED / depth_at_once).saturating_sub(widest).max(1024) / SQUARE * SQUARE;
            let parts = whole_rows.div_ceil(most_rows);
            Self { rows, columns, depth, rows_at_once: rows.div_ceil(parts).next_multiple_of(SQUARE), depth_at_once }
        }

        fn compute(&self, [left, right]: [Operand<'_>; 2], bias: Option<&[f32]>, output: &mut [MaybeUninit<f32>]) {
            let output = Output { start: output.as_mut_ptr().cast(), columns: self.columns };
            let (mut packed_left, mut packed_right) = (Vec::new(), Vec::new());
            for depth in (0..self.depth).step_by(self.depth_at_once) {
                let steps = (self.depth - depth).min(self.depth_at_once).div_ceil(DEPTH);
                pack(right, 0..self.columns, depth, steps, &mut packed_right);
                for row in (0..self.rows).step_by(self.rows_at_once) {
                    let rows = row..(row + self.rows_at_once).min(self.rows);
                    pack(left, rows.clone(), depth, steps, &mut packed_left);
                    let squares = [rows.len(), self.columns].map(|length| length.div_ceil(SQUARE));
                    let tasks = [0, 1].map(|axis| squares[axis].div_ceil(TASK[axis]));
                    (0..tasks[0] * tasks[1]).into_par_iter().for_each(|task| {
                        let first = [task / tasks[1] * TASK[0], task % tasks[1] * TASK[1]];
                        let block = Task { first, squares, steps, rows: rows.clone(), starts: depth == 0 };
                        block.compute(&packed_left, &packed_right, bias, output);
                    });
                }
            }
        }
    }

    /// Packs the lines of `range` from `depth` on, one square's lines after the other.
    fn pack(
        operand: Operand<'_>,
        range: std::ops::Range<usize>,
        depth: usize,
        steps: usize,
        packed: &mut Vec<TileRow>,
    ) {
        let panel = steps * STEP_ROWS;
        let length = range.len().div_ceil(SQUARE) * panel;
        packed.clear();
        packed.reserve(length);
        packed.spare_capacity_mut()[..length].par_chunks_mut(panel).enumerate().for_each(|(index, packed)| {
            // SAFETY: the registers are there, and with them AVX-512; `product` has looked at the strides.
            unsafe { operand.pack(range.start + index * SQUARE, depth, packed) };
        });
        // SAFETY: all panels were packed, whole.
        unsafe { packed.set_len(length) };
    }

    /// Where the product goes. Tasks write to different squares of it.
    #[derive(Clone, Copy)]
    struct Output {
        start: *mut f32,
        columns: usize,
    }

    // SAFETY: each task has squares of its own, and no element is in two squares.
    unsafe impl Send for Output {}
    unsafe impl Sync for Output {}

    /// Some squares of the product, over one block of depth.
    struct Task {
        first: [usize; 2],
        squares: [usize; 2],
        steps: usize,
        rows: std::ops::Range<usize>,
        /// Whether this is the first block of depth.
        starts: bool,
    }

    impl Task {
        fn compute(&self, left: &[TileRow], right: &[TileRow], bias: Option<&[f32]>, output: Output) {
            // SAFETY: `product` has asked whether they are there.
            let registers = unsafe { Registers::set_up() };
            let mut sums = Square([[0.0; SQUARE]; SQUARE]);
            let panel = self.steps * STEP_ROWS;
            let [down, across] =
                [0, 1].map(|axis| self.first[axis]..(self.first[axis] + TASK[axis]).min(self.squares[axis]));
            for start in (0..self.steps).step_by(STEPS_AT_ONCE) {
                let steps = start * STEP_ROWS..(start + STEPS_AT_ONCE).min(self.steps) * STEP_ROWS;
                let starts = self.starts && start == 0;
                for column in across.clone() {
                    let right = &right[column * panel..][steps.clone()];
                    for row in down.clone() {
                        registers.multiply(&left[row * panel..][steps.clone()], right, &mut sums);
                        let [row, column] = [self.rows.start + row * SQUARE, column * SQUARE];
                        let bias = bias.filter(|_| starts).map(|bias| &bias[column..]);
                        let rows = self.rows.end - row;
                        // SAFETY: the square is this task's, and `rows` of it are inside.
                        unsafe { output.write(&sums, [row, column], rows, bias, starts) };
                    }
                }
            }
        }
    }

    impl Output {
        /// Writes a square's first `rows` rows, or adds them to what an earlier block of depth wrote.
        ///
        /// # Safety
        /// No other thread writes or reads there; the rows are inside the output; what is added to has been written; there is AVX-512F.
        #[target_feature(enable = "avx512f")]
        unsafe fn write(
            &self,
            sums: &Square,
            [row, column]: [usize; 2],
            rows: usize,
            bias: Option<&[f32]>,
            starts: bool,
        ) {
            let width = (self.columns - column).min(SQUARE);
            let mut start = [0.0; SQUARE];
            if let Some(bias) = bias {
                start[..width].copy_from_slice(&bias[..width]);
            }
            for (index, sums) in sums.0.iter().enumerate().take(rows) {
                // SAFETY: the caller's.
                let output = unsafe { self.start.add((row + index) * self.columns + column) };
                let before = match (starts, width) {
                    (true, _) => start,
                    // SAFETY: whole rows of a square are inside, and were written.
                    (false, SQUARE) => unsafe { output.cast::<[f32; SQUARE]>().read_unaligned() },
                    (false, _) => {
                        let mut before = [0.0; SQUARE];
                        // SAFETY: as far as the output goes.
                        unsafe { before.as_mut_ptr().copy_from_nonoverlapping(output, width) };
                        before
                    }
                };
                let values: [f32; SQUARE] = std::array::from_fn(|at| sums[at] + before[at]);
                match width {
                    // SAFETY: whole rows of a square are inside.
                    SQUARE => unsafe { output.cast::<[f32; SQUARE]>().write_unaligned(values) },
                    // SAFETY: as far as the output goes.
                    _ => unsafe { output.copy_from_nonoverlapping(values.as_ptr(), width) },
                }
            }
        }
    }

    const _: () = assert!(STEP_ROWS == LEVELS * SQUARE);
}
