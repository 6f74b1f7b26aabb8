//! Moves the pixels of a square along straight lines, as Pillow's `Image.transform` with an affine map does.

use super::geometry::Square;

/// How values between pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interpolation {
    Bilinear,
    /// With Pillow's sharper kernel, a = -1.
    Bicubic,
}

/// Where a pixel of the result comes from: `x' = a x + b y + c`, `y' = d x + e y + f`, in pixels from the outer edge of
/// the first one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine {
    /// a, b, c
    across: [f64; 3],
    /// d, e, f
    down: [f64; 3],
}

impl Affine {
    /// Rows slide sideways, the more the lower they are.
    pub(super) fn shear_x(factor: f64) -> Self {
        Self { across: [1.0, factor, 0.0], down: [0.0, 1.0, 0.0] }
    }

    /// Columns slide up or down, the more the further right they are.
    pub(super) fn shear_y(factor: f64) -> Self {
        Self { across: [1.0, 0.0, 0.0], down: [factor, 1.0, 0.0] }
    }

    /// The result shows what lies so many pixels further right and further down.
    pub(super) fn shift(right: f64, down: f64) -> Self {
        Self { across: [1.0, 0.0, right], down: [0.0, 1.0, down] }
    }

    /// Turns anticlockwise around the middle of a square of `size` pixels.
    pub(super) fn rotation(degrees: f64, size: usize) -> Self {
        let (sine, cosine) = (-degrees).to_radians().sin_cos();
        let middle = size as f64 / 2.0;
        Self {
            across: [cosine, sine, middle - (cosine + sine) * middle],
            down: [-sine, cosine, middle - (cosine - sine) * middle],
        }
    }
}

impl Square<'_> {
    /// Shows each pixel of the result where `map` finds it, and `fill` where that is outside.
    pub(super) fn transform(&mut self, map: &Affine, interpolation: Interpolation, fill: &[u8]) {
        match (self.count, interpolation) {
            (1, Interpolation::Bilinear) => self.transform_with::<1, 2>(map, bilinear_weights, fill),
            (1, Interpolation::Bicubic) => self.transform_with::<1, 4>(map, bicubic_weights, fill),
            (_, Interpolation::Bilinear) => self.transform_with::<3, 2>(map, bilinear_weights, fill),
            (_, Interpolation::Bicubic) => self.transform_with::<3, 4>(map, bicubic_weights, fill),
        }
    }

    fn transform_with<const COUNT: usize, const TAPS: usize>(
        &mut self,
        map: &Affine,
        weights: impl Fn(f32) -> [f32; TAPS],
        fill: &[u8],
    ) {
        let size = self.size;
        let fill: [u8; COUNT] = std::array::from_fn(|channel| fill[channel]);
        let (target, _) = self.pixels.as_chunks_mut::<COUNT>();
        let source = target.to_vec();
        let source = Source { size, pixels: &source };
        let limit = size as f64;
        for (row, line) in target.chunks_exact_mut(size.max(1)).enumerate() {
            let y = row as f64 + 0.5;
            for (column, pixel) in line.iter_mut().enumerate() {
                let x = column as f64 + 0.5;
                let place = [map.across, map.down].map(|[a, b, c]| a * x + b * y + c);
                // False for NaN, too.
                let is_inside = place.iter().all(|place| (0.0..limit).contains(place));
                *pixel = if is_inside { source.sample(place, &weights) } else { fill };
            }
        }
    }
}

/// What was there before.
struct Source<'a, const COUNT: usize> {
    size: usize,
    pixels: &'a [[u8; COUNT]],
}

impl<const COUNT: usize> Source<'_, COUNT> {
    /// Weighs the pixels around a place; beyond the edge its pixels repeat. Fractions are cut off, as Pillow does.
    fn sample<const TAPS: usize>(&self, place: [f64; 2], weights: &impl Fn(f32) -> [f32; TAPS]) -> [u8; COUNT] {
        let [(left, across), (top, down)] = place.map(|place| {
            let place = place - 0.5;
            let floor = place.floor();
            (floor as isize, weights((place - floor) as f32))
        });
        let tap = |first: isize, index: usize| {
            (first + index as isize - (TAPS as isize / 2 - 1)).clamp(0, self.size as isize - 1) as usize
        };
        let columns: [usize; TAPS] = std::array::from_fn(|index| tap(left, index));
        let mut sums = [0.0f32; COUNT];
        for (row, weight) in down.into_iter().enumerate() {
            let line = &self.pixels[tap(top, row) * self.size..][..self.size];
            for channel in 0..COUNT {
                let mixed: f32 = (0..TAPS).map(|index| across[index] * f32::from(line[columns[index]][channel])).sum();
                sums[channel] += weight * mixed;
            }
        }
        // Half a thousandth: weights that add up to one in f32 must not turn 128 into 127.
        sums.map(|sum| (sum + 5e-4) as u8)
    }
}

fn bilinear_weights(share: f32) -> [f32; 2] {
    [1.0 - share, share]
}

/// Keys' cubic convolution with a = -1.
fn bicubic_weights(share: f32) -> [f32; 4] {
    let (square, cube) = (share * share, share * share * share);
    [-share + 2.0 * square - cube, 1.0 - 2.0 * square + cube, share + square - cube, cube - square]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(size: usize, pixels: &[u8], map: &Affine, interpolation: Interpolation) -> Vec<u8> {
        let mut pixels = pixels.to_vec();
        let count = pixels.len() / (size * size);
        Square { size, count, pixels: &mut pixels }.transform(map, interpolation, &[9, 9, 9]);
        pixels
    }

    const NINE: [u8; 9] = [10, 20, 30, 40, 50, 60, 70, 80, 90];
    const BOTH: [Interpolation; 2] = [Interpolation::Bilinear, Interpolation::Bicubic];

    #[test]
    fn standing_still_changes_nothing() {
        for interpolation in BOTH {
            for map in [Affine::shift(0.0, 0.0), Affine::shear_x(0.0), Affine::rotation(0.0, 3)] {
                assert_eq!(moved(3, &NINE, &map, interpolation), NINE);
            }
        }
    }

    #[test]
    fn a_shift_by_whole_pixels_moves_them_and_fills_the_rest() {
        for interpolation in BOTH {
            assert_eq!(moved(3, &NINE, &Affine::shift(1.0, 0.0), interpolation), [20, 30, 9, 50, 60, 9, 80, 90, 9]);
            assert_eq!(moved(3, &NINE, &Affine::shift(0.0, -1.0), interpolation), [9, 9, 9, 10, 20, 30, 40, 50, 60]);
        }
    }

    #[test]
    fn a_quarter_of_a_rotation_is_anticlockwise() {
        for interpolation in BOTH {
            let turned = moved(3, &NINE, &Affine::rotation(90.0, 3), interpolation);
            assert_eq!(turned, [30, 60, 90, 20, 50, 80, 10, 40, 70]);
        }
    }

    #[test]
    fn a_map_without_sense_does_not_panic() {
        for factor in [f64::NAN, f64::INFINITY, 1e300] {
            for interpolation in BOTH {
                moved(3, &NINE, &Affine::shear_x(factor), interpolation);
                moved(1, &[5, 6, 7], &Affine::rotation(factor, 1), interpolation);
            }
        }
    }
}
