use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::StridedDepthwise;
use super::plane::{Image, Plane};
use crate::block::{Block, LANES, Line, add, multiply_add};

/// Rows of gradient a task, about: few enough for the channels of one place, which lie together, to be still in cache when their turn comes.
const BAND: usize = 14;

/// The weight's gradient, `[C, k, k]`; one task a band of rows. Bands are added in their order.
pub(super) fn correlate(map: &[f32], gradient: &[f32], of: &StridedDepthwise) -> Vec<f32> {
    let (blocks, taps, channels) = (of.blocks(), of.taps(), of.shape.channels);
    let bands = of.output[0].div_ceil(BAND);
    let partial: Vec<Vec<Block>> = (0..of.shape.batch * bands)
        .into_par_iter()
        .map(|task| {
            let (index, first) = (task / bands, task % bands * BAND);
            let map = image(map, index, [of.shape.height, of.shape.width], of);
            let gradient = image(gradient, index, of.output, of);
            let mut sums = vec![[0.0; LANES]; blocks * taps];
            correlate_band(map, gradient, first..(first + BAND).min(of.output[0]), of, &mut sums);
            sums
        })
        .collect();
    let mut output = vec![0.0f32; channels * taps];
    for band in &partial {
        for (channel, output) in output.chunks_exact_mut(taps).enumerate() {
            for (output, sums) in output.iter_mut().zip(&band[channel / LANES * taps..]) {
                *output += sums[channel % LANES];
            }
        }
    }
    output
}

/// Sums gradient times map over some rows of gradient.
#[multiversion(targets = "simd")]
fn correlate_band(map: Image<'_>, gradient: Image<'_>, rows: Range<usize>, of: &StridedDepthwise, sums: &mut [Block]) {
    let (kernel, columns) = (of.shape.kernel, of.output[1]);
    if rows.is_empty() || columns == 0 {
        return;
    }
    let [top, left] = [rows.start * of.stride, 0].map(|first| first as isize);
    let [top, left] = [top - of.before[0] as isize, left - of.before[1] as isize];
    let reach = |windows: usize| ((windows - 1) * of.stride + kernel) as isize;
    let (mut map_plane, mut gradient_plane) = (Plane::default(), Plane::default());
    for (block, sums) in sums.chunks_exact_mut(of.taps()).enumerate() {
        let first_channel = block * LANES;
        map_plane.fill(map, first_channel, top..top + reach(rows.len()), left..left + reach(columns));
        gradient_plane.fill(gradient, first_channel, rows.start as isize..rows.end as isize, 0..columns as isize);
        for row in 0..rows.len() {
            let gradient = &gradient_plane.lines[row * columns..][..columns];
            let map = &map_plane.lines[row * of.stride * map_plane.width..];
            match (kernel, of.stride) {
                (3, 1) => correlate_three::<1>(map, map_plane.width, gradient, sums),
                (3, 2) => correlate_three::<2>(map, map_plane.width, gradient, sums),
                (5, 1) => correlate_row::<5, 1>(map, map_plane.width, gradient, sums),
                (5, 2) => correlate_row::<5, 2>(map, map_plane.width, gradient, sums),
                (7, 1) => correlate_row::<7, 1>(map, map_plane.width, gradient, sums),
                _ => correlate_singly(map, map_plane.width, gradient, of, sums),
            }
        }
    }
}

/// One row of gradient with the K rows of map below it, a row of taps at a time, in registers. A row's sum is added up by itself first, so that long sums
/// stay accurate.
#[inline(always)]
fn correlate_row<const K: usize, const STEP: usize>(map: &[Line], width: usize, gradient: &[Line], sums: &mut [Block]) {
    for (row, sums) in sums.chunks_exact_mut(K).enumerate() {
        let mut row_sums = [[0.0; LANES]; K];
        for (x, gradient) in gradient.iter().enumerate() {
            multiply_window(&mut row_sums, &gradient.0, &map[row * width + x * STEP..]);
        }
        for column in 0..K {
            add(&mut sums[column], &row_sums[column]);
        }
    }
}

/// The same for kernels of 3, all three rows of taps at once: one row's additions would wait for each other.
#[inline(always)]
fn correlate_three<const STEP: usize>(map: &[Line], width: usize, gradient: &[Line], sums: &mut [Block]) {
    let [mut upper, mut middle, mut lower] = [[[0.0; LANES]; 3]; 3];
    for (x, gradient) in gradient.iter().enumerate() {
        multiply_window(&mut upper, &gradient.0, &map[x * STEP..]);
        multiply_window(&mut middle, &gradient.0, &map[width + x * STEP..]);
        multiply_window(&mut lower, &gradient.0, &map[2 * width + x * STEP..]);
    }
    for column in 0..3 {
        add(&mut sums[column], &upper[column]);
        add(&mut sums[3 + column], &middle[column]);
        add(&mut sums[6 + column], &lower[column]);
    }
}

/// Adds the products of one gradient with the K places of map that begin a row of its window.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "iterators here keep sums from registers")]
fn multiply_window<const K: usize>(sums: &mut [Block; K], gradient: &Block, map: &[Line]) {
    let map: &[Line; K] = map.first_chunk().expect("windows are inside");
    for column in 0..K {
        multiply_add(&mut sums[column], gradient, &map[column].0);
    }
}

/// The same for any kernel and stride.
#[inline(always)]
fn correlate_singly(map: &[Line], width: usize, gradient: &[Line], of: &StridedDepthwise, sums: &mut [Block]) {
    let kernel = of.shape.kernel;
    for (tap, sum) in sums.iter_mut().enumerate() {
        let mut row_sum = [0.0; LANES];
        let map = &map[tap / kernel * width + tap % kernel..];
        for (x, gradient) in gradient.iter().enumerate() {
            multiply_add(&mut row_sum, &gradient.0, &map[x * of.stride].0);
        }
        add(sum, &row_sum);
    }
}

fn image<'a>(values: &'a [f32], index: usize, [height, width]: [usize; 2], of: &StridedDepthwise) -> Image<'a> {
    let channels = of.shape.channels;
    let count = height * width * channels;
    Image { values: &values[index * count..][..count], height, width, channels }
}
