//! Tiles of sums that stay in the vector registers of AVX-512 while depth goes by.

use std::arch::asm;
use std::arch::x86_64::*;

use crate::block::LANES;

/// Rows of the tallest tile: two registers each, which leaves four of 32 for operands.
pub(super) const ROWS: usize = 14;

/// Columns of a tile: two registers.
pub(super) const COLUMNS: usize = 2 * LANES;

/// Where a tile's left side lies: steps are in numbers, from one row to the next and from one depth to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) start: *const f32,
    pub(super) row_step: usize,
    pub(super) depth_step: usize,
}

/// [`COLUMNS`] numbers of each depth of the right side, so many numbers from one depth to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel {
    pub(super) start: *const f32,
    pub(super) depth_step: usize,
}

/// What sums are added to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before {
    Nothing,
    /// One number a column.
    Bias(*const f32),
    /// What an earlier block of depth has written.
    Sums,
}

/// Where sums go, and which columns of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) start: *mut f32,
    /// Numbers from one row to the next.
    pub(super) row_step: usize,
    pub(super) columns: [__mmask16; 2],
    pub(super) before: Before,
}

/// Memory that a later tile will need, brought into the second cache meanwhile: so many bytes further with each step of depth. A hint: it may point
/// anywhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    pub(super) start: *const u8,
    pub(super) step_bytes: usize,
}

impl Ahead {
    /// From some place in `values` on, so many numbers further each time.
    pub(super) fn of(values: &[f32], place: usize, step: usize) -> Self {
        Self { start: values.as_ptr().wrapping_add(place).cast(), step_bytes: step * size_of::<f32>() }
    }
}

/// Operands of a tile: both sides, how deep they are, and what to read ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands {
    pub(super) left: Left,
    pub(super) panel: Panel,
    pub(super) depth: usize,
    pub(super) ahead: Ahead,
}

/// The registers that hold the columns of the first `lanes`.
pub(super) fn mask(lanes: usize) -> [__mmask16; 2] {
    [0, LANES].map(|first| match lanes.saturating_sub(first) {
        LANES.. => __mmask16::MAX,
        lanes => (1 << lanes) - 1,
    })
}

/// Computes a tile of `rows`.
///
/// # Safety
/// The processor has AVX-512F; there are 1 to [`ROWS`] rows, and some depth; all rows of the left side and the panel may be read that deep; the
/// panel's depths are aligned to a register. The place may be written by nobody else, where [`Before::Sums`] it has been written, and a bias has the columns.
pub(super) unsafe fn compute(rows: usize, operands: Operands, place: Place) {
    let Panel { start, depth_step } = operands.panel;
    debug_assert!(
        operands.depth > 0 && start.cast::<__m512>().is_aligned() && depth_step.is_multiple_of(LANES),
        "a panel"
    );
    // SAFETY: as the caller says.
    unsafe { TILES[rows - 1](operands, place) };
}

/// A tile of as many rows as are listed: its index, the two registers of its sums, and the address of its number on the left.
macro_rules! tile {
    ($name:ident [$(($row:literal $low:tt $high:tt $address:literal))*]) => {
        #[target_feature(enable = "avx512f")]
        unsafe fn $name(Operands { left, panel, depth, ahead }: Operands, place: Place) {
            let at = |row: usize, half: usize| place.start.wrapping_add(row * place.row_step + half * LANES);
            // The sums' lines are fetched while the products are made.
            $(
                _mm_prefetch::<_MM_HINT_ET0>(at($row, 0).cast());
                _mm_prefetch::<_MM_HINT_ET0>(at($row, 1).cast());
            )*
            let mut sums = [[_mm512_setzero_ps(); 2]; [$($row),*].len()];
            // Five pointers, three rows apart: with the step once and twice they address all rows.
            let third = |row: usize| left.start.wrapping_add(row * left.row_step);
            // SAFETY: the caller says that all of it may be read; what is read ahead cannot fault.
            unsafe {
                asm!(
                    "2:",
                    "vmovaps zmm28, [{panel}]",
                    "vmovaps zmm29, [{panel} + 64]",
                    $(
                        concat!("vbroadcastss zmm30, [", $address, "]"),
                        concat!("vfmadd231ps ", $low, ", zmm30, zmm28"),
                        concat!("vfmadd231ps ", $high, ", zmm30, zmm29"),
                    )*
                    "prefetcht1 [{ahead}]",
                    "add {row0}, {depth_step}",
                    "add {row3}, {depth_step}",
                    "add {row6}, {depth_step}",
                    "add {row9}, {depth_step}",
                    "add {row12}, {depth_step}",
                    "add {ahead}, {ahead_step}",
                    "add {panel}, {panel_step}",
                    "dec {depth}",
                    "jnz 2b",
                    "/* A tile of one row has no use for {step}. */",
                    panel = inout(reg) panel.start => _,
                    panel_step = in(reg) size_of::<f32>() * panel.depth_step,
                    depth = inout(reg) depth => _,
                    step = in(reg) size_of::<f32>() * left.row_step,
                    depth_step = in(reg) size_of::<f32>() * left.depth_step,
                    row0 = inout(reg) third(0) => _,
                    row3 = inout(reg) third(3) => _,
                    row6 = inout(reg) third(6) => _,
                    row9 = inout(reg) third(9) => _,
                    row12 = inout(reg) third(12) => _,
                    ahead = inout(reg) ahead.start => _,
                    ahead_step = in(reg) ahead.step_bytes,
                    $(inout($low) sums[$row][0], inout($high) sums[$row][1],)*
                    out("zmm28") _, out("zmm29") _, out("zmm30") _,
                    options(nostack, readonly),
                );
            }
            let [low, high] = place.columns;
            // SAFETY: masks keep to the columns, which may be read and written as the caller says.
            unsafe {
                match place.before {
                    Before::Nothing => {}
                    Before::Bias(bias) => {
                        let bias = [
                            _mm512_maskz_loadu_ps(low, bias),
                            _mm512_maskz_loadu_ps(high, bias.wrapping_add(LANES)),
                        ];
                        $(
                            sums[$row][0] = _mm512_add_ps(sums[$row][0], bias[0]);
                            sums[$row][1] = _mm512_add_ps(sums[$row][1], bias[1]);
                        )*
                    }
                    Before::Sums => {$(
                        sums[$row][0] = _mm512_add_ps(sums[$row][0], _mm512_maskz_loadu_ps(low, at($row, 0)));
                        sums[$row][1] = _mm512_add_ps(sums[$row][1], _mm512_maskz_loadu_ps(high, at($row, 1)));
                    )*}
                }
                $(
                    _mm512_mask_storeu_ps(at($row, 0), low, sums[$row][0]);
                    _mm512_mask_storeu_ps(at($row, 1), high, sums[$row][1]);
                )*
            }
        }
    };
}

/// Tiles of one row more each.
macro_rules! tiles {
    ([$($above:tt)*] $name:ident $row:tt $($below:tt)*) => {
        tile!($name [$($above)* $row]);
        tiles!([$($above)* $row] $($below)*);
    };
    ([$($above:tt)*]) => {};
}

tiles!([]
    one_row (0 "zmm0" "zmm1" "{row0}")
    two_rows (1 "zmm2" "zmm3" "{row0} + {step}")
    three_rows (2 "zmm4" "zmm5" "{row0} + 2 * {step}")
    four_rows (3 "zmm6" "zmm7" "{row3}")
    five_rows (4 "zmm8" "zmm9" "{row3} + {step}")
    six_rows (5 "zmm10" "zmm11" "{row3} + 2 * {step}")
    seven_rows (6 "zmm12" "zmm13" "{row6}")
    eight_rows (7 "zmm14" "zmm15" "{row6} + {step}")
    nine_rows (8 "zmm16" "zmm17" "{row6} + 2 * {step}")
    ten_rows (9 "zmm18" "zmm19" "{row9}")
    eleven_rows (10 "zmm20" "zmm21" "{row9} + {step}")
    twelve_rows (11 "zmm22" "zmm23" "{row9} + 2 * {step}")
    thirteen_rows (12 "zmm24" "zmm25" "{row12}")
    fourteen_rows (13 "zmm26" "zmm27" "{row12} + {step}")
);

/// By the number of rows, less one.
static TILES: [unsafe fn(Operands, Place); ROWS] = [
    one_row,
    two_rows,
    three_rows,
    four_rows,
    five_rows,
    six_rows,
    seven_rows,
    eight_rows,
    nine_rows,
    ten_rows,
    eleven_rows,
    twelve_rows,
    thirteen_rows,
    fourteen_rows,
];
