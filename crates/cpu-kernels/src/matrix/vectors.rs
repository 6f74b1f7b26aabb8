//! Products on the vector registers of AVX-512.
//!
//! The columns of the right side are packed, as many as the second cache holds, and all tiles of rows are computed from them. Where the left side
//! lies row by row it is read as it lies: packing it, and a weight over and over, is what a general library spends its time on where rows are few.

use std::arch::x86_64::__cpuid;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::LazyLock;

use rayon::prelude::*;

use super::Matrix;
use super::panel::{PANEL_LINES, pack_columns, pack_rows, room, rows_of_tile, rows_together};
use super::product::{SHARED, Start, TASKS, in_parts_of_depth, parts_of_depth};
use super::sums::{self, Ahead, Before, COLUMNS, Left, Operands, Panel, Place, ROWS};
use crate::block::{LANES, Line};

/// Up to so many rows a panel of columns is used up at once, and the next one is read from memory meanwhile.
const FEW_ROWS: usize = 128;

/// Depth of such a panel: it stays in the first cache.
const DEPTH_OF_FEW: usize = 384;

/// Depth that is summed over at once where the left side is read as it lies.
const DEPTH: usize = 1536;

/// Depth for which the left side is packed, where it lies column by column.
const PACKED_DEPTH: usize = 192;

/// Numbers of the right side that are packed at once: over a third of a second cache of 2 MiB, which the left side and the output share.
const PACKED: usize = 192 << 10;

/// Rows that are computed together: in one band as long as they are at most [`MOST_ROWS`], else in bands of about [`BAND_ROWS`].
const MOST_ROWS: usize = 784;
const BAND_ROWS: usize = 392;

/// Numbers after which rows come to the same lines of the first cache, on all processors that have these registers.
const PAGE: usize = 4096 / size_of::<f32>();

/// Multiplications from which on a layer's gradients are computed here: of its input, and of its weight where its depth is not cut into parts.
const LEAST_OF_INPUT: usize = 1 << 29;
const LEAST_OF_WEIGHT: usize = 900_000_000;

/// The same on a Zen 4; and of a weight whose depth is not cut into parts.
const LEAST_ON_ZEN_4: usize = 1 << 26;
const LEAST_OF_WEIGHT_ON_ZEN_4: usize = 1 << 27;

thread_local! {
    /// What this thread packs the two sides into.
    static PACKS: RefCell<[Vec<Line>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// `left * right + bias`. None where there are no such registers, or where they do not pay.
pub(super) fn product(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) -> Option<Vec<f32>> {
    (pays(left, right) && can(left, right)).then(|| compute(left, right, bias))
}

/// `gelu(left) * right + bias`, to the bit what [`product`] makes of GELU's numbers. None also where it is slower than a pass of their own.
pub(super) fn product_of_gelu(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) -> Option<Vec<f32>> {
    let pays = pays(left, right) && can(left, right) && reads_rows_once(left, right);
    pays.then(|| in_blocks(left, right, bias, true))
}

/// Whether all columns are multiplied when a row is read, so that its GELU is computed once: 1.03 to 1.5 times as fast as a pass before. Twice it would be
/// 0.83 to 1.05 times as fast.
fn reads_rows_once(left: Matrix<'_>, right: Matrix<'_>) -> bool {
    let is_in_parts = parts_of_depth(left.rows, right.columns, left.columns).is_some();
    left.column_stride == 1 && !is_in_parts && Cut::shared(left, right).columns >= right.columns
}

/// What AMD calls Zen 4, where it has these registers: it takes a register in two halves.
const ZEN_4: u32 = 0x19;

/// What AMD calls Zen 5, and what comes after it: known to compute all of a register at once at the full clock, so that these registers are twice as fast as
/// those of 256 bits that the `gemm` crate uses. What Intel's gain depends on the shape.
const ZEN_5: u32 = 0x1A;

/// The family of a processor of AMD's; 0 of any other.
fn amd_family() -> u32 {
    static FAMILY: LazyLock<u32> = LazyLock::new(|| {
        let vendor = __cpuid(0);
        let version = __cpuid(1).eax;
        // The second part is only there where the first is full.
        let [family, more] = [version >> 8 & 0xF, version >> 20 & 0xFF];
        let family = if family == 0xF { family + more } else { family };
        let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
        if name.as_flattened() == b"AuthenticAMD" { family } else { 0 }
    });
    *FAMILY
}

/// Whether it is faster than the `gemm` crate. From Zen 5 on it is but for a single row and for few columns: 1 to 2.3 times in 25 layers of the three
/// families, forward and both gradients. On a Zen 4 it is 0.86 to 2.6 times as fast, 1.09 in the mean, in the 85 of 120 such products for which it is taken:
/// those of a tenth of empty columns at most, or of one tile, that are not small. Elsewhere by measurements on an Emerald Rapids:
/// - Rows by a weight that lies column by column, a layer's output: 1.0 to 3 times as fast, but for a single row, and where over a fifth of the tiles'
///   columns would be empty.
/// - Rows by a weight that lies row by row, the gradient of a layer's input: 0.98 to 1.17 times as fast with whole tiles of columns, 1.05 in the
///   mean, where products are large; 0.5 to 1.1 elsewhere.
/// - Columns by rows, the gradient of a weight: 1.04 to 1.3 times as fast where they are large, or their depth is cut into parts. Elsewhere packing
///   both sides takes longer than what the crate does.
fn pays(left: Matrix<'_>, right: Matrix<'_>) -> bool {
    let (rows, columns, depth) = (left.rows, right.columns, left.columns);
    let multiplications = rows.saturating_mul(columns).saturating_mul(depth);
    if multiplications == 0 {
        return false;
    }
    if amd_family() >= ZEN_5 {
        return rows > 1 && columns > LANES / 2;
    }
    let tiled = columns.next_multiple_of(COLUMNS);
    if amd_family() == ZEN_4 {
        let fills = 10 * columns >= 9 * tiled || (tiled == COLUMNS && columns > LANES);
        return match (left.column_stride == 1, right.row_stride == 1) {
            (true, true) => rows > 1 && fills,
            (false, _) if parts_of_depth(rows, columns, depth).is_none() => {
                columns == tiled && multiplications >= LEAST_OF_WEIGHT_ON_ZEN_4
            }
            _ => fills && multiplications >= LEAST_ON_ZEN_4,
        };
    }
    match (left.column_stride == 1, right.row_stride == 1) {
        (true, true) => rows > 1 && (5 * columns >= 4 * tiled || (tiled == COLUMNS && columns > LANES)),
        (true, false) => columns == tiled && multiplications >= LEAST_OF_INPUT,
        (false, _) => {
            let is_in_parts = parts_of_depth(rows, columns, depth).is_some();
            columns == tiled && (is_in_parts || multiplications >= LEAST_OF_WEIGHT)
        }
    }
}

/// Whether the processor and the operands are such as [`compute`] needs.
pub(super) fn can(left: Matrix<'_>, right: Matrix<'_>) -> bool {
    let has_unit_stride = |matrix: Matrix<'_>| matrix.row_stride == 1 || matrix.column_stride == 1;
    is_x86_feature_detected!("avx512f") && has_unit_stride(left) && has_unit_stride(right)
}

/// The product, however small, if there is any.
///
/// # Panics
/// Where it [`can`] not be, or a side is empty.
pub(super) fn compute(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    let (rows, columns, depth) = (left.rows, right.columns, left.columns);
    assert!(can(left, right) && rows * columns * depth > 0, "registers, and something to multiply");
    match parts_of_depth(rows, columns, depth) {
        Some(part) => in_parts_of_depth(left, right, bias, part, multiply),
        None => in_blocks(left, right, bias, false),
    }
}

/// The product of the left side or, where it lies row by row, of its GELU: in blocks that threads share.
fn in_blocks(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>, of_gelu: bool) -> Vec<f32> {
    let (rows, columns) = (left.rows, right.columns);
    let cut = Cut::shared(left, right);
    let mut output = Vec::with_capacity(rows * columns);
    let block = Block { left, right, bias, output: Start(output.as_mut_ptr()), row_step: columns, cut, of_gelu };
    (0..cut.blocks()).into_par_iter().for_each(|index| {
        // SAFETY: the callers have asked whether it can be; the blocks do not overlap, and the output has room for all.
        unsafe { block.compute(index) };
    });
    // SAFETY: the blocks cover it, and each was written whole.
    unsafe { output.set_len(rows * columns) };
    output
}

/// Writes `left * right`, row by row, each row so far from the one before.
///
/// # Safety
/// It [`can`] be; no side is empty; the output has room for all rows, and nobody else uses them.
unsafe fn multiply(left: Matrix<'_>, right: Matrix<'_>, output: *mut MaybeUninit<f32>, row_step: usize) {
    let cut = Cut::new(left, right, 1);
    let block = Block { left, right, bias: None, output: Start(output.cast()), row_step, cut, of_gelu: false };
    for index in 0..cut.blocks() {
        // SAFETY: as the caller says.
        unsafe { block.compute(index) };
    }
}

/// How a product is cut. It depends on shapes alone, so that sums are the same whatever the number of threads.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Rows and columns of the output.
    sides: [usize; 2],
    /// Rows and columns of a block.
    block: [usize; 2],
    /// Columns packed at once, whole panels.
    columns: usize,
    /// Depth packed at once.
    depth: usize,
    /// Whether a panel is packed for few rows, and the next one is to be read meanwhile.
    few: bool,
}

impl Cut {
    /// For all threads, where there is enough to do.
    fn shared(left: Matrix<'_>, right: Matrix<'_>) -> Self {
        let multiplications = left.rows.saturating_mul(right.columns).saturating_mul(left.columns);
        Self::new(left, right, if multiplications >= SHARED { TASKS } else { 1 })
    }

    /// In at least `tasks` blocks if there are columns for it.
    fn new(left: Matrix<'_>, right: Matrix<'_>, tasks: usize) -> Self {
        let (rows, columns) = (left.rows, right.columns);
        let lies = left.column_stride == 1;
        let few = lies && right.row_stride == 1 && rows <= FEW_ROWS;
        let most_depth = match (lies, few) {
            (false, _) => PACKED_DEPTH,
            (_, true) => DEPTH_OF_FEW,
            (_, false) => DEPTH,
        };
        let depth = evenly(left.columns, most_depth, 1);
        let least_down = if rows <= MOST_ROWS { 1 } else { rows.div_ceil(BAND_ROWS) };
        let down = |across: usize| tasks.div_ceil(across).max(least_down);
        let across = if lies {
            tasks.div_ceil(least_down)
        } else {
            // Bands across have the left side packed by each, bands down the right one.
            let larger = |across: usize| if columns < rows { across } else { down(across) };
            let packed = |across: &usize| (rows * across + columns * down(*across), larger(*across));
            (0..=tasks.ilog2()).map(|power| 1 << power).min_by_key(packed).unwrap_or(1)
        };
        let band = rows.div_ceil(if lies { least_down } else { down(across) }).next_multiple_of(ROWS);
        let task_columns = columns.div_ceil(across).next_multiple_of(COLUMNS);
        let packed = evenly(columns, (PACKED / depth / COLUMNS).max(1) * COLUMNS, COLUMNS).min(task_columns);
        let [width, packed] = if few { [task_columns, COLUMNS] } else { [packed; 2] };
        Self { sides: [rows, columns], block: [band, width], columns: packed, depth, few }
    }

    fn blocks(&self) -> usize {
        self.sides[0].div_ceil(self.block[0]) * self.sides[1].div_ceil(self.block[1])
    }

    /// Rows and columns of a block.
    fn ranges(&self, index: usize) -> [Range<usize>; 2] {
        let across = self.sides[1].div_ceil(self.block[1]);
        let [row, column] = [index / across * self.block[0], index % across * self.block[1]];
        [row..self.sides[0].min(row + self.block[0]), column..self.sides[1].min(column + self.block[1])]
    }
}

/// Whether all rows begin at the same place of a page, and so share a few lines of the first cache.
fn rows_collide(left: Matrix<'_>) -> bool {
    left.row_stride.is_multiple_of(PAGE)
}

/// The length of parts that are as equal as can be, of at most so many, in whole steps.
fn evenly(length: usize, most: usize, step: usize) -> usize {
    length.div_ceil(length.div_ceil(most)).next_multiple_of(step)
}

/// A product and where it goes.
struct Block<'a> {
    left: Matrix<'a>,
    right: Matrix<'a>,
    bias: Option<&'a [f32]>,
    output: Start,
    row_step: usize,
    cut: Cut,
    /// Whether GELU of the left side is multiplied, and not the left side itself.
    of_gelu: bool,
}

/// What is computed from one packing of the sides.
#[derive(Debug)]
struct Part {
    rows: Range<usize>,
    columns: Range<usize>,
    depths: Range<usize>,
}

impl Part {
    fn tiles(&self) -> usize {
        self.rows.len().div_ceil(ROWS)
    }

    fn panels(&self) -> usize {
        self.columns.len().div_ceil(COLUMNS)
    }
}

impl Block<'_> {
    /// Computes one of the cut's blocks.
    ///
    /// # Safety
    /// The product [`can`] be; nobody else uses this block of the output.
    unsafe fn compute(&self, index: usize) {
        let [rows, columns] = self.cut.ranges(index);
        PACKS.with_borrow_mut(|packs| {
            for first in columns.clone().step_by(self.cut.columns) {
                let columns = first..columns.end.min(first + self.cut.columns);
                for first in (0..self.left.columns).step_by(self.cut.depth) {
                    let depths = first..self.left.columns.min(first + self.cut.depth);
                    let part = Part { rows: rows.clone(), columns: columns.clone(), depths };
                    // SAFETY: as the caller says; depths come in order.
                    unsafe { self.add(&part, packs) };
                }
            }
        });
    }

    /// Adds the products of some depths, or writes them and the bias if they are the first.
    ///
    /// # Safety
    /// As of [`Self::compute`]; earlier depths were written.
    unsafe fn add(&self, part: &Part, [packed_left, packed_right]: &mut [Vec<Line>; 2]) {
        let Part { rows, columns, depths } = part;
        let right = room(part.panels() * PANEL_LINES * depths.len(), packed_right);
        // SAFETY: there is room for all panels.
        unsafe { pack_columns(self.right.part(depths, columns), right) };
        let left = self.left.part(rows, depths);
        let packed = (left.column_stride != 1).then(|| {
            let packed = room(part.tiles() * depths.len(), packed_left);
            // SAFETY: there is room for all tiles.
            unsafe { pack_rows(left, packed) };
            packed.cast_const()
        });
        for tile in 0..part.tiles() {
            let tile_rows = rows_of_tile(tile, rows.len());
            let left = match packed {
                Some(packed) => {
                    Left { start: packed.wrapping_add(tile * depths.len() * LANES), row_step: 1, depth_step: LANES }
                }
                None if self.of_gelu || rows_collide(left) => {
                    rows_together(left.rows_from(tile_rows.start, tile_rows.len()), packed_left, self.of_gelu)
                }
                None => {
                    let start = left.values.as_ptr().wrapping_add(tile_rows.start * left.row_stride);
                    Left { start, row_step: left.row_stride, depth_step: 1 }
                }
            };
            for panel in 0..part.panels() {
                let ahead = self.ahead(part, tile, panel);
                let start = right.wrapping_add(panel * COLUMNS * depths.len());
                let panel_lines = Panel { start, depth_step: COLUMNS };
                let operands = Operands { left, panel: panel_lines, depth: depths.len(), ahead };
                let place = self.place(part, rows.start + tile_rows.start, columns.start + panel * COLUMNS);
                // SAFETY: the operands were packed, or lie in their matrix; the place is this block's.
                unsafe { sums::compute(tile_rows.len(), operands, place) };
            }
        }
    }

    /// Where a tile of the output is, from some row and some column on.
    fn place(&self, part: &Part, row: usize, column: usize) -> Place {
        let before = match (part.depths.start, self.bias) {
            (0, None) => Before::Nothing,
            (0, Some(bias)) => Before::Bias(bias[column..part.columns.end].as_ptr()),
            _ => Before::Sums,
        };
        let start = self.output.0.wrapping_add(row * self.row_step + column);
        Place { start, row_step: self.row_step, columns: sums::mask(part.columns.end - column), before }
    }

    /// What a tile reads ahead. Where rows are few, its share of the next panel's columns; else of the next tile's rows, or of the next depths.
    fn ahead(&self, part: &Part, tile: usize, panel: usize) -> Ahead {
        let Self { left, right, cut, .. } = self;
        let Part { rows, columns, depths } = part;
        if cut.few {
            let start = columns.end * right.column_stride + COLUMNS * depths.start;
            let step = COLUMNS.div_ceil(part.tiles());
            return Ahead::of(right.values, start + tile * depths.len() * step, step);
        }
        if left.column_stride == 1 {
            let next = rows.start + rows_of_tile(tile, rows.len()).end;
            let step = ROWS.div_ceil(part.panels());
            return Ahead::of(left.values, next * left.row_stride + panel * depths.len() * step, step);
        }
        // The next depths of the larger side, where they lie together.
        let turn = (tile * part.panels() + panel) * depths.len();
        let (matrix, stride, width, step) = if rows.len() < columns.len() {
            (right, right.row_stride, columns.len(), COLUMNS.div_ceil(part.tiles()))
        } else {
            (left, left.column_stride, rows.len(), ROWS.div_ceil(part.panels()))
        };
        match stride == width {
            true => Ahead::of(matrix.values, depths.end * stride + turn * step, step),
            false => Ahead::of(matrix.values, 0, 0),
        }
    }
}
