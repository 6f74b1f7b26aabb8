//! Depthwise convolution over channels-last maps: stride 1, odd kernel, zero padding that keeps the size.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use crate::block::{Block, LANES, add, load, multiply_add};

/// B, H, W, C of the map and k of the kernel, which is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepthwiseShape {
    /// Images.
    pub batch: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Side of the kernel.
    pub kernel: usize,
}

impl DepthwiseShape {
    /// The convolution.
    ///
    /// # Shapes
    /// - `map` and result: `[B, H, W, C]`
    /// - `weight`: `[C, k, k]`
    /// - `bias`: `[C]`
    ///
    /// # Panics
    /// When a slice is shorter than its shape.
    pub fn forward(&self, map: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        convolve(map, &self.taps_by_channel(weight, false), Some(bias), self)
    }

    /// The gradient of the map. For stride 1 and an odd kernel it is the convolution with the kernel turned by 180 degrees.
    ///
    /// # Shapes
    /// - `gradient` and result: `[B, H, W, C]`
    /// - `weight`: `[C, k, k]`
    ///
    /// # Panics
    /// When a slice is shorter than its shape.
    pub fn map_gradient(&self, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        convolve(gradient, &self.taps_by_channel(weight, true), None, self)
    }

    /// The gradient of the weight.
    ///
    /// # Shapes
    /// - `map`, `gradient`: `[B, H, W, C]`
    /// - result: `[C, k, k]`
    ///
    /// # Panics
    /// When a slice is shorter than its shape.
    pub fn weight_gradient(&self, map: &[f32], gradient: &[f32]) -> Vec<f32> {
        correlate(map, gradient, self)
    }

    /// Taps of a window around `center` that fall inside `0..size`, and the position of the first.
    fn window(&self, center: usize, size: usize) -> (Range<usize>, usize) {
        let half = self.kernel / 2;
        let first = half.saturating_sub(center);
        let last = (size + half - center).min(self.kernel);
        (first..last, center + first - half)
    }

    fn blocks(&self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// The kernel as one block of channels a tap, `[blocks, k * k]`, zeros beyond the last channel. `turned` turns it by 180 degrees.
    fn taps_by_channel(&self, weight: &[f32], turned: bool) -> Vec<Block> {
        let taps = self.kernel * self.kernel;
        let mut blocks = vec![[0.0; LANES]; self.blocks() * taps];
        for (channel, kernel) in weight.chunks_exact(taps).enumerate() {
            for (tap, &value) in kernel.iter().enumerate() {
                let tap = if turned { taps - 1 - tap } else { tap };
                blocks[channel / LANES * taps + tap][channel % LANES] = value;
            }
        }
        blocks
    }
}

/// `[B, H, W, C]` to the same; one task a row of the map.
fn convolve(map: &[f32], taps: &[Block], bias: Option<&[f32]>, shape: &DepthwiseShape) -> Vec<f32> {
    let &DepthwiseShape { batch, height, width, channels, .. } = shape;
    let mut output = vec![0.0f32; batch * height * width * channels];
    let image = height * width * channels;
    output.par_chunks_mut(width * channels).enumerate().for_each(|(row, output)| {
        let map = &map[row / height * image..][..image];
        convolve_row(map, row % height, taps, bias, shape, output);
    });
    output
}

#[multiversion(targets = "simd")]
fn convolve_row(
    map: &[f32],
    y: usize,
    taps: &[Block],
    bias: Option<&[f32]>,
    shape: &DepthwiseShape,
    output: &mut [f32],
) {
    let &DepthwiseShape { height, width, channels, kernel, .. } = shape;
    let (rows, first_row) = shape.window(y, height);
    for block in 0..shape.blocks() {
        let taps = &taps[block * kernel * kernel..][..kernel * kernel];
        let first_channel = block * LANES;
        let lanes = LANES.min(channels - first_channel);
        let start = bias.map_or([0.0; LANES], |bias| load(&bias[first_channel..], lanes));
        for x in 0..width {
            let (columns, first_column) = shape.window(x, width);
            let mut sum = start;
            for (tap_row, row) in rows.clone().zip(first_row..) {
                for (tap_column, column) in columns.clone().zip(first_column..) {
                    let value = load(&map[(row * width + column) * channels + first_channel..], lanes);
                    multiply_add(&mut sum, &value, &taps[tap_row * kernel + tap_column]);
                }
            }
            output[x * channels + first_channel..][..lanes].copy_from_slice(&sum[..lanes]);
        }
    }
}

/// The weight's gradient, `[C, 1, k, k]`; one task a block of channels and a row of taps.
fn correlate(map: &[f32], gradient: &[f32], shape: &DepthwiseShape) -> Vec<f32> {
    let &DepthwiseShape { channels, kernel, .. } = shape;
    let rows: Vec<Vec<Block>> = (0..shape.blocks() * kernel)
        .into_par_iter()
        .map(|task| {
            let mut sums = vec![[0.0; LANES]; kernel];
            correlate_row(map, gradient, task / kernel, task % kernel, shape, &mut sums);
            sums
        })
        .collect();
    let mut output = vec![0.0f32; channels * kernel * kernel];
    for (channel, taps) in output.chunks_exact_mut(kernel * kernel).enumerate() {
        for (tap, value) in taps.iter_mut().enumerate() {
            *value = rows[channel / LANES * kernel + tap / kernel][tap % kernel][channel % LANES];
        }
    }
    output
}

/// Sums gradient times map over all positions, for one row of taps. Each map row is summed by itself first, so that long sums stay accurate.
#[multiversion(targets = "simd")]
fn correlate_row(
    map: &[f32],
    gradient: &[f32],
    block: usize,
    tap_row: usize,
    shape: &DepthwiseShape,
    sums: &mut [Block],
) {
    let &DepthwiseShape { batch, height, width, channels, kernel } = shape;
    let first_channel = block * LANES;
    let lanes = LANES.min(channels - first_channel);
    let half = kernel / 2;
    for image in 0..batch {
        for y in half.saturating_sub(tap_row)..(height + half).saturating_sub(tap_row).min(height) {
            let at = |row: usize, x: usize| ((image * height + row) * width + x) * channels + first_channel;
            let map_row = y + tap_row - half;
            for (tap_column, sum) in sums.iter_mut().enumerate() {
                let columns = half.saturating_sub(tap_column)..(width + half).saturating_sub(tap_column).min(width);
                let mut row_sum = [0.0; LANES];
                for x in columns {
                    let value = load(&map[at(map_row, x + tap_column - half)..], lanes);
                    multiply_add(&mut row_sum, &value, &load(&gradient[at(y, x)..], lanes));
                }
                add(sum, &row_sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    /// Every pair of output and input position with its tap, as the definition has it.
    fn for_each_product(shape: &DepthwiseShape, mut visit: impl FnMut(usize, usize, usize)) {
        let &DepthwiseShape { batch, height, width, channels, kernel } = shape;
        let half = kernel / 2;
        let at = |b: usize, y: usize, x: usize, c: usize| ((b * height + y) * width + x) * channels + c;
        for (b, y, x, c) in positions(batch, height, width, channels) {
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let (row, column) = ((y + ky).wrapping_sub(half), (x + kx).wrapping_sub(half));
                    if row < height && column < width {
                        visit(at(b, y, x, c), at(b, row, column, c), (c * kernel + ky) * kernel + kx);
                    }
                }
            }
        }
    }

    fn positions(b: usize, y: usize, x: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        (0..b * y * x * c).map(move |i| (i / (c * x * y), i / (c * x) % y, i / c % x, i % c))
    }

    fn assert_near(found: &[f32], expected: &[f64]) {
        let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        for (found, expected) in found.iter().zip(expected) {
            // f32 sums of at most some thousand products of numbers below 1.
            assert!((f64::from(*found) - expected).abs() <= 1e-5 * largest, "{found} is not {expected}");
        }
        assert_eq!(found.len(), expected.len());
    }

    const SHAPES: [DepthwiseShape; 6] = [
        DepthwiseShape { batch: 2, height: 9, width: 7, channels: 40, kernel: 7 },
        DepthwiseShape { batch: 1, height: 1, width: 1, channels: 3, kernel: 7 },
        DepthwiseShape { batch: 3, height: 2, width: 5, channels: 16, kernel: 5 },
        DepthwiseShape { batch: 1, height: 12, width: 3, channels: 17, kernel: 3 },
        DepthwiseShape { batch: 5, height: 4, width: 4, channels: 1, kernel: 7 },
        DepthwiseShape { batch: 1, height: 3, width: 2, channels: 33, kernel: 1 },
    ];

    #[test]
    fn forward_and_gradients_follow_the_definition() {
        for shape in SHAPES {
            let count = shape.batch * shape.height * shape.width * shape.channels;
            let taps = shape.channels * shape.kernel * shape.kernel;
            let (map, weight, bias) = (numbers(count, 1), numbers(taps, 2), numbers(shape.channels, 3));
            let gradient = numbers(count, 4);
            let mut output: Vec<f64> = (0..count).map(|i| f64::from(bias[i % shape.channels])).collect();
            let (mut of_map, mut of_weight) = (vec![0.0; count], vec![0.0; taps]);
            for_each_product(&shape, |out, input, tap| {
                output[out] += f64::from(map[input]) * f64::from(weight[tap]);
                of_map[input] += f64::from(gradient[out]) * f64::from(weight[tap]);
                of_weight[tap] += f64::from(gradient[out]) * f64::from(map[input]);
            });
            assert_near(&shape.forward(&map, &weight, &bias), &output);
            assert_near(&shape.map_gradient(&gradient, &weight), &of_map);
            assert_near(&shape.weight_gradient(&map, &gradient), &of_weight);
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        let shape = SHAPES[0];
        let count = shape.batch * shape.height * shape.width * shape.channels;
        let (map, gradient) = (numbers(count, 1), numbers(count, 2));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| shape.weight_gradient(&map, &gradient))
        };
        assert_eq!(run(1), run(3));
    }
}
