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

/// The taps of a row of the kernel. `weight` is `[k, k, 1, C]`.
#[cube]
pub(super) fn taps_of_row<N: Size>(
    weight: &Tensor<Vector<f32, N>>,
    down: usize,
    vector: usize,
    #[comptime] kernel: usize,
) -> Array<Vector<f32, N>> {
    let mut taps = Array::<Vector<f32, N>>::new(kernel);
    #[unroll]
    for across in 0..kernel {
        taps[across] = weight[(down * kernel + across) * weight.stride(1) / weight.vector_size() + vector];
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
