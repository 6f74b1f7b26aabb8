//! Rows of channels: a line of units has a row in its registers, and sums over it.

use burn::cubecl;
use burn::cubecl::prelude::*;

/// The part of the row that starts at vector `start` which this unit has; zeros beyond its end.
#[cube]
pub(super) fn load<E: Float, N: Size>(
    rows: &Tensor<Vector<E, N>>,
    start: usize,
    part: &mut Array<Vector<f32, N>>,
    #[comptime] vectors: usize,
    #[comptime] steps: usize,
) {
    #[unroll]
    for step in 0..steps {
        let vector = step * CUBE_DIM_X as usize + UNIT_POS_X as usize;
        let mut value = Vector::<f32, N>::zero();
        if vector < vectors {
            value = Vector::cast_from(rows[start + vector]);
        }
        part[step] = value;
    }
}

/// The sum of the numbers of a vector.
#[cube]
pub(super) fn sum_of<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for lane in 0..vector.vector_size() {
        sum += vector.extract(lane);
    }
    sum
}

/// The sum over the units of a row, the same in each. Every unit of the cube must come here.
#[cube]
pub(super) fn row_sum(value: f32, shared: &mut Shared<[f32]>, #[comptime] has_planes: bool) -> f32 {
    let mut sum = 0.0f32;
    if comptime!(has_planes) {
        sum = plane_sum(value);
    } else {
        let first = (UNIT_POS_Y * CUBE_DIM_X) as usize;
        shared[first + UNIT_POS_X as usize] = value;
        sync_cube();
        for unit in 0..CUBE_DIM_X as usize {
            sum += shared[first + unit];
        }
        sync_cube();
    }
    sum
}

/// Takes the mean from a row, whose places beyond its end stay zero, and gives one over the root of its variance plus `epsilon`.
#[cube]
pub(super) fn centre<N: Size>(
    part: &mut Array<Vector<f32, N>>,
    shared: &mut Shared<[f32]>,
    epsilon: f32,
    #[comptime] vectors: usize,
    #[comptime] steps: usize,
    #[comptime] has_planes: bool,
) -> f32 {
    let mut sums = Vector::<f32, N>::zero();
    #[unroll]
    for step in 0..steps {
        sums += part[step];
    }
    let channels = comptime!(vectors) as f32 * sums.vector_size() as f32;
    let mean = Vector::new(row_sum(sum_of::<N>(sums), shared, has_planes) / channels);
    let mut squares = Vector::<f32, N>::zero();
    #[unroll]
    for step in 0..steps {
        let vector = step * CUBE_DIM_X as usize + UNIT_POS_X as usize;
        if vector < vectors {
            let centred = part[step] - mean;
            part[step] = centred;
            squares += centred * centred;
        }
    }
    let variance = row_sum(sum_of::<N>(squares), shared, has_planes) / channels;
    1.0f32 / (variance + epsilon).sqrt()
}
