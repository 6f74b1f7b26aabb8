//! What the kernels of a depthwise convolution have in common.

use burn::cubecl;
use burn::cubecl::prelude::*;

/// The vector at a column of the row that starts at `begin`, in f32; zeros beyond the ends of the row.
#[cube]
pub(super) fn read<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    begin: usize,
    column: i32,
    width: i32,
) -> Vector<f32, N> {
    let mut value = Vector::<f32, N>::zero();
    if column >= 0 && column < width {
        value = Vector::cast_from(map[(begin + column as usize * map.stride(2)) / map.vector_size()]);
    }
    value
}

/// Lays the taps of the cube's channels side by side in memory that its units share, `[k, k, lanes]`: as they are stored, those of neighbouring
/// channels lie a whole kernel apart. Every unit of the cube must come here.
///
/// # Shapes
/// - `weight`: `[C, 1, k, k]`
#[cube]
pub(super) fn share_taps<N: Size>(
    weight: &Tensor<f32>,
    shared: &mut Shared<[Vector<f32, N>]>,
    first_vector: u32,
    vectors: u32,
    #[comptime] kernel: usize,
    #[comptime] lanes: usize,
) {
    let taps = comptime!(kernel * kernel);
    for place in range_stepped(UNIT_POS as usize, comptime!(kernel * kernel * lanes), CUBE_DIM as usize) {
        let vector = first_vector as usize + place % lanes;
        let mut value = Vector::<f32, N>::zero();
        if vector < vectors as usize {
            #[unroll]
            for channel in 0..value.vector_size() {
                value.insert(channel, weight[(vector * value.vector_size() + channel) * taps + place / lanes]);
            }
        }
        shared[place] = value;
    }
    sync_cube();
}

/// The taps of a row of the kernel, of the unit's channels.
#[cube]
pub(super) fn taps_of_row<N: Size>(
    shared: &Shared<[Vector<f32, N>]>,
    down: usize,
    #[comptime] kernel: usize,
    #[comptime] lanes: usize,
) -> Array<Vector<f32, N>> {
    let mut taps = Array::<Vector<f32, N>>::new(kernel);
    #[unroll]
    for across in 0..kernel {
        taps[across] = shared[(down * kernel + across) * lanes + UNIT_POS_X as usize];
    }
    taps
}

/// Sums that begin with the same number.
#[cube]
pub(super) fn sums_from<N: Size>(start: Vector<f32, N>, #[comptime] count: usize) -> Array<Vector<f32, N>> {
    let mut sums = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for place in 0..count {
        sums[place] = start;
    }
    sums
}
