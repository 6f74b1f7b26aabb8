//! Changes the values of pixels where they are, as Pillow's `ImageOps` and `ImageEnhance` do.

use super::geometry::Square;
use crate::raster::luma;

impl Square<'_> {
    /// Stretches each channel to 0 to 255.
    pub(super) fn auto_contrast(&mut self) {
        self.map_channels(|histogram| {
            let low = histogram.iter().position(|&count| count > 0).unwrap_or(0);
            let high = histogram.iter().rposition(|&count| count > 0).unwrap_or(0);
            if high <= low {
                return identity();
            }
            let scale = 255.0 / (high - low) as f64;
            std::array::from_fn(|value| (value as f64 * scale - low as f64 * scale) as u8)
        });
    }

    /// Makes all values of a channel about as frequent.
    pub(super) fn equalize(&mut self) {
        self.map_channels(|histogram| {
            let last = histogram.iter().rfind(|&&count| count > 0).copied().unwrap_or(0);
            let step = (histogram.iter().sum::<u32>() - last) / 255;
            if step == 0 {
                return identity();
            }
            let mut below = step / 2;
            histogram.map(|count| {
                let value = (below / step).min(255) as u8;
                below += count;
                value
            })
        });
    }

    /// The negative.
    pub(super) fn invert(&mut self) {
        self.map_values(|value| 255 - value);
    }

    /// The negative of values from `threshold` on.
    pub(super) fn solarize(&mut self, threshold: u32) {
        self.map_values(|value| if u32::from(value) < threshold { value } else { 255 - value });
    }

    /// Makes the darker half brighter.
    pub(super) fn solarize_add(&mut self, addition: u8) {
        self.map_values(|value| if value < 128 { value.saturating_add(addition) } else { value });
    }

    /// Keeps the highest bits of each value; 0 to 8.
    pub(super) fn posterize(&mut self, bits: u32) {
        let mask = 255u8.checked_shl(8u32.saturating_sub(bits)).unwrap_or(0);
        self.map_values(|value| value & mask);
    }

    /// Away from black for a factor above 1, towards it below.
    pub(super) fn enhance_brightness(&mut self, factor: f32) {
        self.map_values(|value| blend(0.0, f32::from(value), factor));
    }

    /// Away from the mean grey.
    pub(super) fn enhance_contrast(&mut self, factor: f32) {
        let greys: u64 = match self.count {
            1 => self.pixels.iter().map(|&grey| u64::from(grey)).sum(),
            _ => self.pixels.chunks_exact(3).map(|pixel| u64::from(luma(pixel[0], pixel[1], pixel[2]))).sum(),
        };
        let mean = (greys as f64 / (self.size * self.size).max(1) as f64 + 0.5).floor() as f32;
        self.map_values(|value| blend(mean, f32::from(value), factor));
    }

    /// Away from each pixel's own grey.
    pub(super) fn enhance_color(&mut self, factor: f32) {
        if self.count == 1 {
            return;
        }
        for pixel in self.pixels.chunks_exact_mut(3) {
            let grey = f32::from(luma(pixel[0], pixel[1], pixel[2]));
            for value in pixel {
                *value = blend(grey, f32::from(*value), factor);
            }
        }
    }

    /// Away from a blurred copy. The outermost pixels stay.
    pub(super) fn enhance_sharpness(&mut self, factor: f32) {
        let (count, row) = (self.count, self.size * self.count);
        if self.size < 3 {
            return;
        }
        let source = self.pixels.to_vec();
        for y in 1..self.size - 1 {
            for place in y * row + count..(y + 1) * row - count {
                let line = |start: usize| {
                    u32::from(source[start - count]) + u32::from(source[start]) + u32::from(source[start + count])
                };
                // Pillow's SMOOTH: the middle weighs 5 of 13.
                let sum = line(place - row) + line(place) + line(place + row) + 4 * u32::from(source[place]);
                let smooth = (sum as f32 / 13.0 + 0.5).floor();
                self.pixels[place] = blend(smooth, f32::from(source[place]), factor);
            }
        }
    }

    fn map_values(&mut self, change: impl Fn(u8) -> u8) {
        let table: [u8; 256] = std::array::from_fn(|value| change(value as u8));
        for value in self.pixels.iter_mut() {
            *value = table[usize::from(*value)];
        }
    }

    /// By a table for each channel, made from its histogram.
    fn map_channels(&mut self, table: impl Fn(&[u32; 256]) -> [u8; 256]) {
        for channel in 0..self.count {
            let mut histogram = [0u32; 256];
            for value in self.pixels[channel..].iter().step_by(self.count) {
                histogram[usize::from(*value)] += 1;
            }
            let table = table(&histogram);
            for value in self.pixels[channel..].iter_mut().step_by(self.count) {
                *value = table[usize::from(*value)];
            }
        }
    }
}

fn identity() -> [u8; 256] {
    std::array::from_fn(|value| value as u8)
}

/// `from` for a factor of 0, `to` for 1, beyond it above. Fractions are cut off, as Pillow does.
fn blend(from: f32, to: f32, factor: f32) -> u8 {
    (from + factor * (to - from)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(pixels: &[u8], change: impl Fn(&mut Square<'_>)) -> Vec<u8> {
        let mut pixels = pixels.to_vec();
        let size = pixels.len().isqrt();
        change(&mut Square { size, count: 1, pixels: &mut pixels });
        pixels
    }

    #[test]
    fn auto_contrast_reaches_black_and_white_and_leaves_a_plain_image() {
        assert_eq!(changed(&[50, 100, 150, 150], |square| square.auto_contrast()), [0, 127, 255, 255]);
        assert_eq!(changed(&[77; 9], |square| square.auto_contrast()), [77; 9]);
    }

    #[test]
    fn posterize_keeps_the_highest_bits() {
        assert_eq!(changed(&[255; 4], |square| square.posterize(0)), [0; 4]);
        assert_eq!(changed(&[255; 4], |square| square.posterize(3)), [0b1110_0000; 4]);
        assert_eq!(changed(&[77; 4], |square| square.posterize(8)), [77; 4]);
    }

    #[test]
    fn solarize_turns_the_brighter_part_around() {
        assert_eq!(changed(&[10, 100, 200, 255], |square| square.solarize(128)), [10, 100, 55, 0]);
        assert_eq!(changed(&[10, 100, 200, 255], |square| square.solarize_add(100)), [110, 200, 200, 255]);
        assert_eq!(changed(&[10, 100, 200, 255], |square| square.invert()), [245, 155, 55, 0]);
    }

    #[test]
    fn factors_of_one_change_nothing() {
        let pixels: Vec<u8> = (0..=255).collect();
        let unchanged = changed(&pixels, |square| {
            square.enhance_brightness(1.0);
            square.enhance_contrast(1.0);
            square.enhance_sharpness(1.0);
        });
        assert_eq!(unchanged, pixels);
    }
}
