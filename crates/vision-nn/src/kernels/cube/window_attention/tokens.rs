//! Tokens of windows where they lie in the map, a head at a time.

use burn::cubecl;
use burn::cubecl::prelude::*;
use cpu_kernels::WindowAttention;

use crate::kernels::window_attention::plan;

/// What a kernel is compiled for: a map of any number of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) height: u32,
    pub(super) width: u32,
    pub(super) window_rows: u32,
    pub(super) window_columns: u32,
    pub(super) shift_rows: u32,
    pub(super) shift_columns: u32,
    pub(super) heads: u32,
    /// N.
    pub(super) tokens: u32,
    /// Vectors of four of a head.
    pub(super) vectors: usize,
    /// Tokens whose rows are in shared memory at once, and in how many turns all of them are.
    pub(super) tile: u32,
    pub(super) tiles: u32,
    /// Of a cube.
    pub(super) units: u32,
}

/// Channels of a vector.
pub(super) const VECTOR_SIZE: usize = 4;

impl Form {
    pub(super) fn of(windows: &WindowAttention) -> Self {
        /// Rows of two matrices of 64 channels then take 8 KiB of f32.
        const MOST_IN_TILE: usize = 16;
        /// What planes have on most devices.
        const UNITS: usize = 32;
        let tokens = plan::tokens(windows);
        let tiles = tokens.div_ceil(MOST_IN_TILE);
        let [height, width] = windows.grid.map(|side| side as u32);
        let [window_rows, window_columns] = windows.window.map(|side| side as u32);
        let [shift_rows, shift_columns] = windows.shift.map(|side| side as u32);
        Self {
            height,
            width,
            window_rows,
            window_columns,
            shift_rows,
            shift_columns,
            heads: windows.heads as u32,
            tokens: tokens as u32,
            vectors: windows.head_width / VECTOR_SIZE,
            tile: tokens.div_ceil(tiles) as u32,
            tiles: tiles as u32,
            units: tokens.next_multiple_of(UNITS) as u32,
        }
    }

    /// Whether some tokens of a window must not see each other.
    pub(super) fn is_shifted(&self) -> bool {
        self.shift_rows + self.shift_columns > 0
    }

    /// Windows of an image side by side.
    fn across(&self) -> u32 {
        self.width / self.window_columns
    }

    fn windows_of_an_image(&self) -> u32 {
        self.height / self.window_rows * self.across()
    }

    /// Vectors of all heads.
    pub(super) fn row(&self) -> usize {
        self.heads as usize * self.vectors
    }

    /// Vectors of the tokens that are in shared memory at once.
    pub(super) fn tile_vectors(&self) -> usize {
        self.tile as usize * self.vectors
    }
}

/// Row and column of a window's token in the rolled map.
#[cube]
fn rolled_place(window: u32, token: u32, #[comptime] form: Form) -> (u32, u32) {
    let inside = window % comptime!(form.windows_of_an_image());
    let row = inside / comptime!(form.across()) * comptime!(form.window_rows) + token / comptime!(form.window_columns);
    let column =
        inside % comptime!(form.across()) * comptime!(form.window_columns) + token % comptime!(form.window_columns);
    (row, column)
}

/// Which position of all images a window's token is.
#[cube]
pub(super) fn position(window: u32, token: u32, #[comptime] form: Form) -> usize {
    let image = window / comptime!(form.windows_of_an_image());
    let (row, column) = rolled_place(window, token, form);
    let row = (row + comptime!(form.shift_rows)) % comptime!(form.height);
    let column = (column + comptime!(form.shift_columns)) % comptime!(form.width);
    ((image * comptime!(form.height) + row) * comptime!(form.width) + column) as usize
}

/// Tokens of a window see each other if this is the same.
#[cube]
pub(super) fn region(window: u32, token: u32, #[comptime] form: Form) -> u32 {
    let (row, column) = rolled_place(window, token, form);
    let mut region = 0u32;
    if row >= comptime!(form.height - form.shift_rows) {
        region += 2;
    }
    if column >= comptime!(form.width - form.shift_columns) {
        region += 1;
    }
    region
}

/// A token's numbers, from the vector `start` of its position on, of which that has `row`.
#[cube]
pub(super) fn token_row<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    window: u32,
    token: u32,
    start: usize,
    #[comptime] row: usize,
    #[comptime] form: Form,
) -> Array<Vector<f32, N>> {
    let mut numbers = Array::<Vector<f32, N>>::new(comptime!(form.vectors));
    let begin = position(window, token, form) * row + start;
    #[unroll]
    for vector in 0..comptime!(form.vectors) {
        numbers[vector] = Vector::cast_from(map[begin + vector]);
    }
    numbers
}

/// Fills `tile` with the rows of the tokens from `first` on, which all units read together. The units must meet before and after.
#[cube]
pub(super) fn load_tile<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    tile: &mut Shared<[Vector<f32, N>]>,
    window: u32,
    first: u32,
    start: usize,
    #[comptime] row: usize,
    #[comptime] form: Form,
) {
    for place in range_stepped(UNIT_POS, comptime!(form.tile_vectors() as u32), CUBE_DIM) {
        let token = first + place / comptime!(form.vectors as u32);
        if token < comptime!(form.tokens) {
            let begin = position(window, token, form) * row + start;
            tile[place as usize] = Vector::cast_from(map[begin + (place % comptime!(form.vectors as u32)) as usize]);
        }
    }
}

/// The product of a row with the row of a tile that begins at `start`.
#[cube]
pub(super) fn dot<N: Size>(
    row: &Array<Vector<f32, N>>,
    tile: &mut Shared<[Vector<f32, N>]>,
    start: usize,
    #[comptime] vectors: usize,
) -> f32 {
    let mut products = Vector::<f32, N>::zero();
    #[unroll]
    for vector in 0..vectors {
        products += row[vector] * tile[start + vector];
    }
    let mut sum = 0.0f32;
    #[unroll]
    for lane in 0..products.vector_size() {
        sum += products.extract(lane);
    }
    sum
}

/// Adds `factor` times the row of a tile that begins at `start`.
#[cube]
pub(super) fn add_scaled<N: Size>(
    sums: &mut Array<Vector<f32, N>>,
    tile: &mut Shared<[Vector<f32, N>]>,
    start: usize,
    factor: f32,
    #[comptime] vectors: usize,
) {
    #[unroll]
    for vector in 0..vectors {
        sums[vector] += tile[start + vector] * Vector::new(factor);
    }
}

/// A row of zeros.
#[cube]
pub(super) fn zeros<N: Size>(#[comptime] vectors: usize) -> Array<Vector<f32, N>> {
    let mut row = Array::<Vector<f32, N>>::new(vectors);
    #[unroll]
    for vector in 0..vectors {
        row[vector] = Vector::zero();
    }
    row
}

/// Multiplies a row in place.
#[cube]
pub(super) fn scale<N: Size>(row: &mut Array<Vector<f32, N>>, factor: f32, #[comptime] vectors: usize) {
    #[unroll]
    for vector in 0..vectors {
        row[vector] *= Vector::new(factor);
    }
}

/// What is added to the score of a pair of tokens beside their bias. Finite, so that no row can become all infinite; e^-100 is zero in f32. timm's value.
#[cube]
pub(super) fn blocked(one: u32, other: u32, #[comptime] form: Form) -> f32 {
    let mut added = 0.0f32;
    if comptime!(form.is_shifted()) {
        let is_blocked = one != other;
        if is_blocked {
            added = f32::new(-100.0_f32);
        }
    }
    added
}
