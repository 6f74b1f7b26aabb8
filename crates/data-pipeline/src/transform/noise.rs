//! What happens to a page on its way through lamp, lens, sensor and file.

use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{ExtendedColorType, ImageDecoder};

use super::geometry::Square;
use crate::random::Random;

/// Document-like noise; [`DocumentNoise::default`] is none. Steps follow the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DocumentNoise {
    /// Largest share by which light falls off from one side to the other, and rises on the way there: the light at the
    /// edges is multiplied by 1 - u and 1 + u.
    pub uneven_light: f32,
    /// Probability of a Gaussian blur.
    pub blur: f32,
    /// Its deviation, from and to, in pixels of the result.
    pub blur_sigma: (f32, f32),
    /// Largest share of pixels that turn black or white.
    pub speckle: f32,
    /// Probability of saving as jpeg and reading back.
    pub jpeg: f32,
    /// With this quality, from and to, 1 to 100.
    pub jpeg_quality: (f32, f32),
}

impl Default for DocumentNoise {
    fn default() -> Self {
        Self {
            uneven_light: 0.0,
            blur: 0.0,
            // timm's and SimCLR's.
            blur_sigma: (0.1, 2.0),
            speckle: 0.0,
            jpeg: 0.0,
            jpeg_quality: (30.0, 90.0),
        }
    }
}

impl DocumentNoise {
    /// The order of the draws is part of what a seed means, and so is their number.
    pub(super) fn apply(&self, square: &mut Square<'_>, random: &mut Random) {
        let light = random.unit() * self.uneven_light;
        let direction = random.between(0.0, std::f32::consts::TAU);
        let is_blurred = random.unit() < self.blur;
        let sigma = random.between(self.blur_sigma.0, self.blur_sigma.1);
        let speckled = random.unit() * self.speckle;
        let is_saved = random.unit() < self.jpeg;
        let quality = random.between(self.jpeg_quality.0, self.jpeg_quality.1).round() as u8;
        if light > 0.0 {
            square.light_unevenly(light, direction);
        }
        if is_blurred {
            square.blur(sigma);
        }
        if speckled > 0.0 {
            square.speckle(speckled, random);
        }
        if is_saved {
            square.save_as_jpeg(quality.clamp(1, 100));
        }
    }
}

impl Square<'_> {
    /// Multiplies brightness by 1 - `strength` on one side, rising evenly to 1 + `strength` on the other.
    fn light_unevenly(&mut self, strength: f32, direction: f32) {
        let (sine, cosine) = direction.sin_cos();
        let middle = (self.size as f32 - 1.0) / 2.0;
        let slope = strength / ((sine.abs() + cosine.abs()) * middle).max(1.0);
        let row = self.size * self.count;
        for (y, line) in self.pixels.chunks_exact_mut(row.max(1)).enumerate() {
            for (x, pixel) in line.chunks_exact_mut(self.count).enumerate() {
                let light = 1.0 + slope * (cosine * (x as f32 - middle) + sine * (y as f32 - middle));
                for value in pixel {
                    *value = (f32::from(*value) * light + 0.5) as u8;
                }
            }
        }
    }

    /// Three deviations to either side are weighed; beyond the edge the image is mirrored, as torchvision's
    /// `gaussian_blur` does it.
    pub(super) fn blur(&mut self, sigma: f32) {
        let radius = (3.0 * sigma).ceil() as usize;
        if self.size < 2 || radius == 0 {
            return;
        }
        let weights: Vec<f32> = (0..=radius).map(|place| (-0.5 * (place as f32 / sigma).powi(2)).exp()).collect();
        let sum = 2.0 * weights.iter().sum::<f32>() - weights[0];
        let weights: Vec<f32> = weights.iter().map(|weight| weight / sum).collect();
        let (size, count) = (self.size, self.count);
        let mut blurred_rows = vec![0.0; self.pixels.len()];
        let source: Vec<f32> = self.pixels.iter().map(|&value| f32::from(value)).collect();
        blur_along(&source, &mut blurred_rows, &weights, [size, size], count);
        let mut both = source;
        // Down the columns: a row is one long pixel.
        blur_along(&blurred_rows, &mut both, &weights, [1, size], size * count);
        for (value, blurred) in self.pixels.iter_mut().zip(both) {
            *value = (blurred + 0.5) as u8;
        }
    }

    fn speckle(&mut self, share: f32, random: &mut Random) {
        let pixels = (self.size * self.size) as u64;
        for _ in 0..(share * pixels as f32).round() as u64 {
            let place = random.below(pixels) as usize * self.count;
            let value = if random.below(2) == 0 { 0 } else { 255 };
            self.pixels[place..place + self.count].fill(value);
        }
    }

    /// Leaves the pixels as they are where the encoder refuses them, which no size up to 65,535 makes it do.
    fn save_as_jpeg(&mut self, quality: u8) {
        let color = if self.count == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        let mut bytes = Vec::new();
        let side = self.size as u32;
        let encoded = JpegEncoder::new_with_quality(&mut bytes, quality).encode(self.pixels, side, side, color);
        let Ok(decoder) = encoded.and_then(|()| JpegDecoder::new(std::io::Cursor::new(&bytes))) else { return };
        let mut decoded = vec![0; self.pixels.len()];
        if decoder.total_bytes() == decoded.len() as u64 && decoder.read_image(&mut decoded).is_ok() {
            self.pixels.copy_from_slice(&decoded);
        }
    }
}

/// Blurs `lines` of `length` pixels each, which are `width` values wide.
///
/// # Shapes
/// `source`, `target`: `[lines, length, width]`
fn blur_along(source: &[f32], target: &mut [f32], weights: &[f32], [lines, length]: [usize; 2], width: usize) {
    let line_values = length * width;
    for line in 0..lines {
        let source = &source[line * line_values..][..line_values];
        let target = &mut target[line * line_values..][..line_values];
        for (place, pixel) in target.chunks_exact_mut(width).enumerate() {
            for (value, middle) in pixel.iter_mut().zip(&source[place * width..][..width]) {
                *value = weights[0] * middle;
            }
            for (distance, weight) in weights.iter().enumerate().skip(1) {
                let before = &source[mirrored(place as isize - distance as isize, length) * width..][..width];
                let behind = &source[mirrored((place + distance) as isize, length) * width..][..width];
                for ((value, before), behind) in pixel.iter_mut().zip(before).zip(behind) {
                    *value += weight * (before + behind);
                }
            }
        }
    }
}

/// A place beyond an end of 0..length, mirrored back without repeating the end itself, as often as it takes.
fn mirrored(place: isize, length: usize) -> usize {
    let period = 2 * (length as isize - 1);
    let place = place.rem_euclid(period.max(1));
    place.min(period - place).max(0) as usize
}

#[cfg(test)]
mod tests {
    use super::super::geometry::changed;
    use super::*;

    #[test]
    fn places_beyond_the_ends_are_mirrored() {
        let places: Vec<usize> = (-4..8).map(|place| mirrored(place, 4)).collect();
        assert_eq!(places, [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
    }

    #[test]
    fn a_plain_image_survives_blur_and_jpeg() {
        for count in [1, 3] {
            let plain = vec![128; 400 * count];
            assert_eq!(changed(20, &plain, |square| square.blur(1.7)), plain);
            assert_eq!(changed(20, &plain, |square| square.save_as_jpeg(30)), plain);
        }
    }

    #[test]
    fn blur_spreads_a_point_evenly_and_keeps_its_light() {
        let mut point = [0; 121];
        point[60] = 255;
        let blurred = changed(11, &point, |square| square.blur(1.0));
        assert_eq!([blurred[59], blurred[61], blurred[49], blurred[71]], [blurred[59]; 4]);
        // The middle of a Gaussian of deviation 1 in two dimensions: 255 / (2 pi), by hand.
        assert!((i32::from(blurred[60]) - 41).abs() <= 1, "{}", blurred[60]);
        let light: u32 = blurred.iter().map(|&value| u32::from(value)).sum();
        assert!((230..280).contains(&light), "{light}");
    }

    #[test]
    fn light_falls_from_one_side_to_the_other() {
        let lit = changed(11, &[100; 121], |square| square.light_unevenly(0.4, 0.0));
        assert_eq!([lit[0], lit[5], lit[10]], [60, 100, 140]);
        assert_eq!([lit[110], lit[115], lit[120]], [60, 100, 140]);
    }

    #[test]
    fn speckle_touches_at_most_its_share_and_whole_pixels() {
        let speckled = changed(20, &[100; 1200], |square| square.speckle(0.1, &mut Random::new(3)));
        let touched = speckled.chunks(3).filter(|pixel| pixel != &[100; 3]).count();
        assert!((30..=40).contains(&touched), "{touched}");
        assert!(speckled.chunks(3).all(|pixel| pixel == [pixel[0]; 3]));
    }

    #[test]
    fn low_quality_leaves_traces_and_high_quality_few() {
        let pixels: Vec<u8> = (0..1024u32).map(|place| ((place * place) >> 3) as u8).collect();
        let distance = |quality| {
            let saved = changed(32, &pixels, |square| square.save_as_jpeg(quality));
            saved.iter().zip(&pixels).map(|(one, other)| u32::from(one.abs_diff(*other))).sum::<u32>()
        };
        assert!(distance(100) * 4 < distance(20), "{} {}", distance(100), distance(20));
    }

    #[test]
    fn tiny_images_and_settings_without_sense_do_not_panic() {
        let odd = DocumentNoise {
            uneven_light: f32::NAN,
            blur: 1.0,
            blur_sigma: (-3.0, f32::NAN),
            speckle: 2.0,
            jpeg: 1.0,
            jpeg_quality: (-5.0, 1e9),
        };
        let strong = DocumentNoise { uneven_light: 1.0, blur_sigma: (0.0, 30.0), ..odd };
        for size in [1, 2, 3, 9] {
            for noise in [odd, strong] {
                for seed in 0..20 {
                    changed(size, &vec![77; size * size * 3], |square| noise.apply(square, &mut Random::new(seed)));
                }
            }
        }
    }
}
