//! Dense convolution over channels-last maps, as products over patches: bands of output rows at a time, so that patches stay in cache and are never there
//! for the whole map.

use std::ops::Range;

use rayon::prelude::*;

use crate::matrix::{Matrix, product};
use crate::output::in_groups_of_tasks;

/// Numbers of a band's patches, about.
const BAND: usize = 1 << 18;

/// Parts of the work that each sum a weight's gradient: by shapes alone, and so for any number of threads.
const PARTS: usize = 16;

/// A convolution with square kernels, one for each pair of channels, zeros around the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// Height and width of the map.
    pub size: [usize; 2],
    /// Channels of the map and of the output.
    pub channels: [usize; 2],
    /// Side of a kernel.
    pub kernel: usize,
    /// Between neighbouring windows.
    pub stride: usize,
    /// Zeros before the first row and the first column.
    pub before: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
}

/// Some output rows of one image.
#[derive(Debug, Clone)]
struct Band {
    image: usize,
    rows: Range<usize>,
}

impl Convolution {
    /// Convolves.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - `weight`: `[out, in, k, k]`
    /// - result: `[B, H', W', out]`
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn forward(&self, map: &[f32], weight: &[f32]) -> Vec<f32> {
        self.assert_lengths(Some(map), Some(weight), None);
        let weight = self.by_taps(weight);
        let weight = Matrix::of_rows(&weight, self.depth()).transposed();
        let row = self.output[1] * self.channels[1];
        let rows = self.rows_of_a_band();
        in_groups_of_tasks(
            self.batch * self.output[0] * row,
            self.output[0] * row,
            rows * row,
            |[image, index], output| {
                let first = index * rows;
                let patches = self.patches(map, &Band { image, rows: first..first + output.len() / row });
                output.copy_from_slice(&product(Matrix::of_rows(&patches, self.depth()), weight, None));
            },
        )
    }

    /// The gradient of the map.
    ///
    /// # Shapes
    /// - `gradient`: `[B, H', W', out]`
    /// - `weight`: `[out, in, k, k]`
    /// - result: `[B, H, W, in]`
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn map_gradient(&self, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        self.assert_lengths(None, Some(weight), Some(gradient));
        let weight = self.by_taps(weight);
        let weight = Matrix::of_rows(&weight, self.depth());
        let mut of_map = vec![0.0; self.batch * self.image_length()];
        of_map.par_chunks_mut(self.image_length().max(1)).enumerate().for_each(|(image, of_image)| {
            for rows in self.row_bands() {
                let band = Band { image, rows };
                let gradient = Matrix::of_rows(&gradient[self.output_range(&band)], self.channels[1]);
                self.add_patches(&product(gradient, weight, None), &band, of_image);
            }
        });
        of_map
    }

    /// The gradient of the weight.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - `gradient`: `[B, H', W', out]`
    /// - result: `[out, in, k, k]`
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn weight_gradient(&self, map: &[f32], gradient: &[f32]) -> Vec<f32> {
        self.assert_lengths(Some(map), None, Some(gradient));
        let of_band = |band: &Band| {
            let patches = self.patches(map, band);
            let gradient = Matrix::of_rows(&gradient[self.output_range(band)], self.channels[1]);
            product(gradient.transposed(), Matrix::of_rows(&patches, self.depth()), None)
        };
        let add = |mut sum: Vec<f32>, next: Vec<f32>| {
            sum.iter_mut().zip(next).for_each(|(sum, next)| *sum += next);
            sum
        };
        let bands = self.bands();
        let parts = bands.par_chunks(bands.len().div_ceil(PARTS).max(1));
        let sums: Vec<Option<Vec<f32>>> = parts.map(|bands| bands.iter().map(of_band).reduce(add)).collect();
        let zeros = || vec![0.0; self.channels[1] * self.depth()];
        self.by_channels(&sums.into_iter().flatten().reduce(add).unwrap_or_else(zeros))
    }

    /// Numbers of a patch.
    fn depth(&self) -> usize {
        self.kernel * self.kernel * self.channels[0]
    }

    fn image_length(&self) -> usize {
        self.size[0] * self.size[1] * self.channels[0]
    }

    /// Of each image, one after the other.
    fn bands(&self) -> Vec<Band> {
        (0..self.batch).flat_map(|image| self.row_bands().map(move |rows| Band { image, rows })).collect()
    }

    /// Of one image.
    fn row_bands(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (height, rows) = (self.output[0], self.rows_of_a_band());
        (0..height).step_by(rows).map(move |first| first..(first + rows).min(height))
    }

    /// Output rows of a band: about equally many in each, at least one.
    fn rows_of_a_band(&self) -> usize {
        let most = (BAND / (self.output[1] * self.depth()).max(1)).max(1);
        self.output[0].div_ceil(self.output[0].div_ceil(most).max(1)).max(1)
    }

    /// Where a band lies in the output.
    fn output_range(&self, band: &Band) -> Range<usize> {
        let row = self.output[1] * self.channels[1];
        let first = band.image * self.output[0] * row;
        first + band.rows.start * row..first + band.rows.end * row
    }

    /// The windows of a band, `[rows, k, k, in]`.
    fn patches(&self, map: &[f32], band: &Band) -> Vec<f32> {
        let image = &map[band.image * self.image_length()..][..self.image_length()];
        let line = self.kernel * self.channels[0];
        let mut patches = vec![0.0; band.rows.len() * self.output[1] * self.depth()];
        self.for_each_line(band, |at, first, columns| {
            let skipped = at * line + columns.start * self.channels[0];
            let length = columns.len() * self.channels[0];
            patches[skipped..skipped + length].copy_from_slice(&image[first..first + length]);
        });
        patches
    }

    /// The other way about: adds each number of a band's patches to that of the image that it was taken from.
    fn add_patches(&self, patches: &[f32], band: &Band, image: &mut [f32]) {
        let line = self.kernel * self.channels[0];
        self.for_each_line(band, |at, first, columns| {
            let skipped = at * line + columns.start * self.channels[0];
            let length = columns.len() * self.channels[0];
            let patch = &patches[skipped..skipped + length];
            image[first..first + length].iter_mut().zip(patch).for_each(|(sum, number)| *sum += number);
        });
    }

    /// Each line of each window that has columns inside of the map: its place among all lines, where its first number inside stands in the image, and which
    /// of its columns are inside.
    fn for_each_line(&self, band: &Band, mut visit: impl FnMut(usize, usize, Range<usize>)) {
        let [height, width] = self.size;
        for (row, y) in band.rows.clone().enumerate() {
            for x in 0..self.output[1] {
                let left = x * self.stride;
                let columns = self.inside(left, self.before[1], width);
                for ky in self.inside(y * self.stride, self.before[0], height) {
                    let at = (row * self.output[1] + x) * self.kernel + ky;
                    let from = (y * self.stride + ky - self.before[0]) * width + left + columns.start - self.before[1];
                    if !columns.is_empty() {
                        visit(at, from * self.channels[0], columns.clone());
                    }
                }
            }
        }
    }

    /// Of a window that begins at `start`, counted from the zeros on, what lies within `length` cells behind them.
    fn inside(&self, start: usize, zeros: usize, length: usize) -> Range<usize> {
        let first = zeros.saturating_sub(start).min(self.kernel);
        first..(length + zeros).saturating_sub(start).clamp(first, self.kernel)
    }

    /// `[out, in, k, k]` to `[out, k, k, in]`.
    fn by_taps(&self, weight: &[f32]) -> Vec<f32> {
        let taps = self.kernel * self.kernel;
        transposed_each(weight, [self.channels[0], taps])
    }

    /// `[out, k, k, in]` to `[out, in, k, k]`.
    fn by_channels(&self, weight: &[f32]) -> Vec<f32> {
        let taps = self.kernel * self.kernel;
        transposed_each(weight, [taps, self.channels[0]])
    }

    fn assert_lengths(&self, map: Option<&[f32]>, weight: Option<&[f32]>, gradient: Option<&[f32]>) {
        let output = self.batch * self.output[0] * self.output[1] * self.channels[1];
        let expected = [self.batch * self.image_length(), self.channels[1] * self.depth(), output];
        for (slice, expected) in [map, weight, gradient].into_iter().zip(expected) {
            assert!(slice.is_none_or(|slice| slice.len() == expected), "{expected} numbers");
        }
    }
}

/// Each of the matrices that stand one after the other with rows for columns.
fn transposed_each(matrices: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let each = matrices.chunks_exact((rows * columns).max(1));
    each.flat_map(|matrix| (0..rows * columns).map(move |at| matrix[at % rows * columns + at / rows])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    /// Output, gradient of the map and of the weight, by their definition, in f64.
    fn reference(of: &Convolution, map: &[f32], weight: &[f32], gradient: &[f32]) -> [Vec<f64>; 3] {
        let ([height, width], [inner, out]) = (of.size, of.channels);
        let [rows, columns] = of.output;
        let mut found = [vec![0.0; of.batch * rows * columns * out], vec![0.0; map.len()], vec![0.0; weight.len()]];
        for at in 0..of.batch * rows * columns * out * inner * of.kernel * of.kernel {
            let (kx, rest) = (at % of.kernel, at / of.kernel);
            let (ky, rest) = (rest % of.kernel, rest / of.kernel);
            let (i, rest) = (rest % inner, rest / inner);
            let (o, rest) = (rest % out, rest / out);
            let (x, rest) = (rest % columns, rest / columns);
            let (y, image) = (rest % rows, rest / rows);
            let place = [(y, ky, of.before[0]), (x, kx, of.before[1])];
            let [Some(from_y), Some(from_x)] = place.map(|(at, k, zeros)| (at * of.stride + k).checked_sub(zeros))
            else {
                continue;
            };
            if from_y >= height || from_x >= width {
                continue;
            }
            let in_map = ((image * height + from_y) * width + from_x) * inner + i;
            let in_weight = ((o * inner + i) * of.kernel + ky) * of.kernel + kx;
            let in_output = ((image * rows + y) * columns + x) * out + o;
            found[0][in_output] += f64::from(map[in_map]) * f64::from(weight[in_weight]);
            found[1][in_map] += f64::from(gradient[in_output]) * f64::from(weight[in_weight]);
            found[2][in_weight] += f64::from(map[in_map]) * f64::from(gradient[in_output]);
        }
        found
    }

    fn assert_near(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(1.0f64, |largest, number| largest.max(number.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-5 * largest, "{found} for {expected}");
        }
    }

    #[test]
    fn output_and_gradients_are_those_of_the_definition() {
        // batch, height and width, channels in and out, kernel, stride, zeros before and behind
        for (batch, size, channels, kernel, stride, before, behind) in [
            (2, [9, 7], [3, 8], 3, 2, [1, 1], [1, 1]),
            (1, [8, 8], [3, 5], 3, 2, [0, 0], [1, 1]),
            (3, [5, 6], [4, 33], 3, 1, [1, 1], [1, 1]),
            (2, [1, 1], [7, 1], 3, 2, [1, 1], [1, 1]),
            (1, [11, 3], [1, 2], 5, 3, [2, 2], [2, 2]),
            (1, [4, 4], [2, 3], 1, 2, [0, 0], [0, 0]),
        ] {
            let output = [0, 1].map(|axis| (size[axis] + before[axis] + behind[axis] - kernel) / stride + 1);
            let of = Convolution { batch, size, channels, kernel, stride, before, output };
            let map = numbers(batch * size[0] * size[1] * channels[0], 1);
            let weight = numbers(channels[0] * channels[1] * kernel * kernel, 2);
            let gradient = numbers(batch * output[0] * output[1] * channels[1], 3);
            let expected = reference(&of, &map, &weight, &gradient);
            assert_near(&of.forward(&map, &weight), &expected[0]);
            assert_near(&of.map_gradient(&gradient, &weight), &expected[1]);
            assert_near(&of.weight_gradient(&map, &gradient), &expected[2]);
        }
    }

    #[test]
    fn bands_of_a_large_map_fit_together() {
        let of = Convolution {
            batch: 2,
            size: [61, 90],
            channels: [24, 16],
            kernel: 3,
            stride: 1,
            before: [1, 1],
            output: [61, 90],
        };
        assert!(of.row_bands().count() > 2);
        let map = numbers(2 * 61 * 90 * 24, 4);
        let weight = numbers(24 * 16 * 9, 5);
        let gradient = numbers(2 * 61 * 90 * 16, 6);
        let expected = reference(&of, &map, &weight, &gradient);
        assert_near(&of.forward(&map, &weight), &expected[0]);
        assert_near(&of.map_gradient(&gradient, &weight), &expected[1]);
        assert_near(&of.weight_gradient(&map, &gradient), &expected[2]);
    }
}
