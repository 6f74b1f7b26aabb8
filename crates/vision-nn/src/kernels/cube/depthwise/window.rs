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
