//! The gradients of weight and bias: two passes, because a sum over all positions of a batch by one unit would leave the card idle.

use burn::cubecl;
use burn::cubecl::prelude::*;
use burn::cubecl::std::FastDivmod;

use super::window::{read, sums_from};

/// The first pass. A unit has one vector of channels, one row of the kernel and a chunk of the rows of all outputs, and makes the sums of this chunk for
/// the taps of its row: few enough for registers, which those of a whole kernel are not. The units of a chunk follow each other, and find each
/// other's reads in the cache.
///
/// # Shapes
/// - `map`: `[B, H, W, C]`
/// - `gradient`: `[B, H', W', C]`
/// - `partial`: `[chunks, k k + 1, C]`: the taps, and the gradient of the bias
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn correlate_chunks<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    gradient: &Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    vectors: FastDivmod<u32>,
    output_rows: FastDivmod<u32>,
    units: u32,
    rows_each: u32,
    longer: u32,
    before_rows: u32,
    before_columns: i32,
    #[comptime] kernel: usize,
    #[comptime] stride: usize,
    #[comptime] columns: usize,
    #[define(E)] _storage: ElemType,
) {
    if ABSOLUTE_POS >= units as usize {
        terminate!();
    }
    let (rest, vector) = vectors.div_mod(ABSOLUTE_POS as u32);
    let chunk = rest / kernel as u32;
    let down = rest % kernel as u32;
    let size = partial.vector_size();
    let vector = vector as usize;
    let height = map.shape(1) as i32;
    let runs = (gradient.shape(2) as u32 + comptime!(columns as u32 - 1)) / columns as u32;

    // One more for the bias.
    let mut sums = sums_from::<N>(Vector::zero(), comptime!(kernel + 1));
    // The first chunks have one row more than the others.
    let mut start = chunk * rows_each + longer;
    let mut end = start + rows_each;
    if chunk < longer {
        start = chunk * (rows_each + 1);
        end = start + rows_each + 1;
    }
    for at in start..end {
        let (image, row) = output_rows.div_mod(at);
        let line = (row * stride as u32 + down) as i32 - before_rows as i32;
        if line >= 0 && line < height {
            let begin = image as usize * map.stride(0) + line as usize * map.stride(1) + vector * size;
            let output = image as usize * gradient.stride(0) + row as usize * gradient.stride(1) + vector * size;
            for run in 0..runs {
                let first = (run * columns as u32) as i32;
                add_run::<E, N>(
                    map,
                    gradient,
                    begin,
                    output,
                    first,
                    before_columns,
                    &mut sums,
                    kernel,
                    stride,
                    columns,
                );
            }
        }
    }
    let begin = chunk as usize * partial.stride(0) / size + vector;
    let step = partial.stride(1) / size;
    #[unroll]
    for across in 0..kernel {
        partial[begin + (down as usize * kernel + across) * step] = sums[across];
    }
    // The row of the kernel that meets the first row of the map at the first output meets a row of the map at every output.
    if down == before_rows {
        partial[begin + comptime!(kernel * kernel) * step] = sums[kernel];
    }
}

/// Adds what `columns` neighbouring outputs have for the taps of a row of the kernel, and for the bias. `begin` and `output` are where the rows of map and
/// gradient start.
#[cube]
fn add_run<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    gradient: &Tensor<Vector<E, N>>,
    begin: usize,
    output: usize,
    first: i32,
    before_columns: i32,
    sums: &mut Array<Vector<f32, N>>,
    #[comptime] kernel: usize,
    #[comptime] stride: usize,
    #[comptime] columns: usize,
) {
    let width = map.shape(2) as i32;
    let output_width = gradient.shape(2) as i32;
    let mut upstream = Array::<Vector<f32, N>>::new(columns);
    #[unroll]
    for column in 0..columns {
        upstream[column] = read::<E, N>(gradient, output, first + column as i32, output_width);
        sums[kernel] += upstream[column];
    }
    #[unroll]
    for cell in 0..comptime!((columns - 1) * stride + kernel) {
        let value = read::<E, N>(map, begin, first * stride as i32 + cell as i32 - before_columns, width);
        #[unroll]
        for across in 0..kernel {
            // The output whose window has this cell at this place, if it is one of the run's.
            if comptime!(cell >= across && (cell - across) % stride == 0 && (cell - across) / stride < columns) {
                sums[across] += value * upstream[comptime!((cell - across) / stride)];
            }
        }
    }
}

/// The second pass. A cube has some neighbouring numbers of a chunk, and a unit one of them in every `strips`th chunk; what these find is summed in the
/// cube's own memory.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn sum_chunks(
    partial: &Tensor<f32>,
    of_weight: &mut Tensor<f32>,
    of_bias: &mut Tensor<f32>,
    channels: FastDivmod<u32>,
    sums: u32,
    #[comptime] taps: u32,
    #[comptime] strips: u32,
) {
    let place = CUBE_POS * CUBE_DIM_X as usize + UNIT_POS_X as usize;
    let is_there = place < sums as usize;
    let mut sum = 0.0f32;
    if is_there {
        for chunk in range_stepped(UNIT_POS_Y, partial.shape(0) as u32, strips) {
            sum += partial[chunk as usize * partial.stride(0) + place];
        }
    }
    if comptime!(strips > 1) {
        let mut of_strips = Shared::new_slice(comptime!(UNITS_OF_A_CUBE as usize));
        of_strips[UNIT_POS as usize] = sum;
        sync_cube();
        if UNIT_POS_Y == 0 {
            for strip in 1..strips {
                sum += of_strips[(strip * CUBE_DIM_X + UNIT_POS_X) as usize];
            }
        }
    }
    if UNIT_POS_Y == 0 && is_there {
        let (tap, channel) = channels.div_mod(place as u32);
        if tap < taps {
            of_weight[(channel * taps + tap) as usize] = sum;
        } else {
            of_bias[channel as usize] = sum;
        }
    }
}

/// The units of a cube of the second pass: as many as every WebGPU has.
pub(super) const UNITS_OF_A_CUBE: u32 = 256;

/// Into how many strips the second pass divides so many chunks: a unit then sums some eight of them, but a cube still reads 32 neighbouring bytes at once,
/// the least that a card reads.
pub(super) fn strips_of(chunks: usize) -> u32 {
    (chunks / 8).next_power_of_two().clamp(1, 32) as u32
}
