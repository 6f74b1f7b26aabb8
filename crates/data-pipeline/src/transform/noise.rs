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
    pub(super) fn save_as_jpeg(&mut self, quality: u8) {
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
    fn light_is_a_plane_that_reaches_its_strength_in_two_corners() {
        for degrees in (0..360).step_by(15) {
            let direction = (degrees as f32).to_radians();
            let lit = changed(41, &[100; 1681], |square| square.light_unevenly(0.4, direction));
            assert_eq!((lit.iter().min(), lit.iter().max()), (Some(&60), Some(&140)), "{degrees} degrees");
            // Values across the middle are as far from 100, up to rounding; a step is 80 levels over 40 pixels, at most.
            assert!(lit.iter().zip(lit.iter().rev()).all(|(&one, &other)| (199..=201).contains(&(one + other))));
            for (place, &value) in lit.iter().enumerate() {
                let right = if place % 41 < 40 { lit[place + 1] } else { value };
                let below = lit.get(place + 41).copied().unwrap_or(value);
                assert!(right.abs_diff(value) <= 3 && below.abs_diff(value) <= 3, "{degrees} degrees, pixel {place}");
            }
            let sum = |weight: fn(usize) -> usize| -> f32 {
                lit.iter().zip(0..).map(|(&value, place)| (weight(place) as f32 - 20.0) * f32::from(value)).sum()
            };
            let (across, down) = (sum(|place| place % 41), sum(|place| place / 41));
            let turned = (down.atan2(across) - direction).rem_euclid(std::f32::consts::TAU);
            let off = turned.min(std::f32::consts::TAU - turned).to_degrees();
            assert!(off < 1.0, "{degrees} degrees: the light rises {off} degrees away");
        }
    }

    #[test]
    fn drawn_light_has_all_strengths_up_to_the_largest_and_all_directions() {
        let noise = DocumentNoise { uneven_light: 0.4, ..Default::default() };
        let (mut brightest, mut sum, mut largest) = ([0; 4], 0.0, 0);
        for seed in 0..1000 {
            let lit = changed(9, &[100; 81], |square| noise.apply(square, &mut Random::new(seed)));
            let corners = [lit[0], lit[8], lit[72], lit[80]];
            brightest[(0..4).max_by_key(|&corner| corners[corner]).unwrap()] += 1;
            let strength = lit.iter().copied().max().unwrap() - 100;
            sum += f32::from(strength);
            largest = strength.max(largest);
        }
        // Five deviations of a count of one in four are 68, and of the mean of a uniform 0 to 40 they are 1.8.
        assert!(brightest.iter().all(|count| (182..=318).contains(count)), "{brightest:?}");
        assert!((sum / 1000.0 - 20.0).abs() < 1.8 && (38..=40).contains(&largest), "{sum} {largest}");
    }

    #[test]
    fn speckle_moves_mean_and_variance_by_its_share_and_falls_everywhere() {
        let speckled = changed(200, &[90; 40_000], |square| square.speckle(0.2, &mut Random::new(8)));
        let count = |pixels: &[u8]| pixels.iter().filter(|&&value| value != 90).count() as f64;
        let values: Vec<f64> = speckled.iter().map(|&value| f64::from(value)).collect();
        let mean = values.iter().sum::<f64>() / 40_000.0;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 40_000.0;
        // 8,000 places are drawn of 40,000, some more than once: of all pixels, this share. Half of them are white.
        let touched = 1.0 - (-0.2f64).exp();
        let expected_mean = 90.0 * (1.0 - touched) + 127.5 * touched;
        let black_and_white = (expected_mean.powi(2) + (255.0 - expected_mean).powi(2)) / 2.0;
        let expected_variance = (1.0 - touched) * (90.0 - expected_mean).powi(2) + touched * black_and_white;
        // Five deviations: as many pixels are touched as balls hit boxes, and which are white is a coin for each.
        assert!((count(&speckled) - 40_000.0 * touched).abs() < 120.0, "{}", count(&speckled));
        assert!((mean - expected_mean).abs() < 1.4, "{mean}, not {expected_mean}");
        assert!((variance / expected_variance - 1.0).abs() < 0.04, "{variance}, not {expected_variance}");
        for band in speckled.chunks(10_000) {
            assert!((count(band) - 10_000.0 * touched).abs() < 200.0, "{}", count(band));
        }
    }

    #[test]
    fn drawn_speckle_has_all_shares_up_to_the_largest() {
        let noise = DocumentNoise { speckle: 0.1, ..Default::default() };
        let touched: Vec<usize> = (0..400)
            .map(|seed| changed(20, &[90; 400], |square| noise.apply(square, &mut Random::new(seed))))
            .map(|speckled| speckled.iter().filter(|&&value| value != 90).count())
            .collect();
        let mean = touched.iter().sum::<usize>() as f64 / 400.0;
        // Of 1 - e^-s over all shares s, times 400 pixels; five deviations of a mean of 400 draws are 2.9.
        assert!((mean - 19.3).abs() < 2.9, "{mean}");
        let (least, most) = (touched.iter().min().unwrap(), touched.iter().max().unwrap());
        assert!(*least <= 1 && (35..=40).contains(most), "{least} to {most}");
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
