//! What a hidden rectangle is filled with.

use super::geometry::Square;
use super::last_steps::Rectangle;
use super::{IMAGENET_DEVIATION, bar_color};
use crate::Channels;
use crate::random::Random;

/// What takes the place of the pixels that random erasing hides. All but the first are timm's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EraseFill {
    /// The mean colour of the image itself.
    #[default]
    Mean,
    /// The mean colour of ImageNet, which is zero once pixels are normalised: timm's `const`.
    Constant,
    /// One random colour: timm's `rand`.
    Color,
    /// A random colour for each pixel: timm's `pixel`.
    Pixel,
}

/// Where an image is hidden.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Patch {
    pub(super) area_share: f32,
    pub(super) ratio: f32,
    /// Of the free room to the left and above, as shares.
    pub(super) place: [f32; 2],
}

impl Patch {
    /// Its pixels in an image.
    pub(super) fn rectangle(&self, square: &Square<'_>) -> Rectangle {
        square.rectangle(self.area_share, self.ratio, self.place)
    }
}

impl EraseFill {
    pub(super) fn erase(self, square: &mut Square<'_>, patch: Patch, channels: Channels, random: &mut Random) {
        let place = patch.rectangle(square);
        match self.color(square, channels, random) {
            Some(color) => square.erase(place, || color),
            None => square.erase(place, || random_color(channels, || random.normal())),
        }
    }

    /// The one colour that hides a rectangle; none where each pixel has its own.
    pub(super) fn color(self, square: &Square<'_>, channels: Channels, random: &mut Random) -> Option<[u8; 3]> {
        match self {
            Self::Mean => Some(square.mean_color()),
            Self::Constant => Some(random_color(channels, || 0.0)),
            Self::Color => Some(random_color(channels, || random.normal())),
            Self::Pixel => None,
        }
    }
}

/// ImageNet's mean, and so many of its deviations away from it, in each channel.
fn random_color(channels: Channels, mut deviations: impl FnMut() -> f32) -> [u8; 3] {
    let mean = bar_color(channels);
    let mut color = [0; 3];
    for (value, &mean) in color.iter_mut().zip(mean) {
        *value = (f32::from(mean) + IMAGENET_DEVIATION * deviations()).round() as u8;
    }
    color
}

#[cfg(test)]
mod tests {
    use super::super::{ResizeMode, TrainTransform, Transform};
    use super::*;
    use crate::{RasterImage, SampleKey};

    fn filled(fill: EraseFill, channels: Channels) -> Vec<u8> {
        let mut pixels: Vec<u8> = vec![1; 100 * channels.count()];
        let mut square = Square { size: 10, count: channels.count(), pixels: &mut pixels };
        let patch = Patch { area_share: 1.0, ratio: 1.0, place: [0.0, 0.0] };
        fill.erase(&mut square, patch, channels, &mut Random::new(5));
        pixels
    }

    #[test]
    fn each_fill_is_what_its_name_says() {
        assert_eq!(filled(EraseFill::Mean, Channels::Rgb), [1; 300]);
        assert_eq!(filled(EraseFill::Constant, Channels::Rgb), [124, 116, 104].repeat(100));
        assert_eq!(filled(EraseFill::Constant, Channels::Grey), [117; 100]);
        let color = filled(EraseFill::Color, Channels::Rgb);
        assert_eq!(color, color[..3].repeat(100));
        assert_ne!(color[..3], [124, 116, 104]);
        let mut pixels = filled(EraseFill::Pixel, Channels::Grey);
        let mean = pixels.iter().map(|&value| u32::from(value)).sum::<u32>() / 100;
        assert!((100..135).contains(&mean), "{mean}");
        pixels.sort_unstable();
        pixels.dedup();
        assert!(pixels.len() > 40);
    }

    /// Mean and deviation of the values of one channel.
    fn moments(pixels: &[u8], channel: usize) -> (f64, f64) {
        let values = || pixels.iter().skip(channel).step_by(3).map(|&value| f64::from(value));
        let count = values().count() as f64;
        let mean = values().sum::<f64>() / count;
        (mean, (values().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt())
    }

    /// Of values from a normal distribution around ImageNet's mean colour, of deviation 57.6, cut off at 0 and 255: by integration.
    const MOMENTS: [(f64, f64); 3] = [(124.1, 56.2), (116.3, 56.1), (104.7, 55.6)];

    #[test]
    fn random_fills_have_imagenets_mean_and_deviation_up_to_black_and_white() {
        let whole = Patch { area_share: 1.0, ratio: 1.0, place: [0.0, 0.0] };
        let fill_all = |fill: EraseFill, size: usize, seed| {
            let mut pixels = vec![1; size * size * 3];
            let mut square = Square { size, count: 3, pixels: &mut pixels };
            fill.erase(&mut square, whole, Channels::Rgb, &mut Random::new(seed));
            pixels
        };
        let each_pixel = fill_all(EraseFill::Pixel, 100, 5);
        let each_image: Vec<u8> = (0..4000).flat_map(|seed| fill_all(EraseFill::Color, 1, seed)).collect();
        // Five deviations of the mean of 10,000 and of 4,000 draws.
        for (pixels, tolerance) in [(each_pixel, 2.9), (each_image, 4.5)] {
            for (channel, expected) in MOMENTS.into_iter().enumerate() {
                let (mean, deviation) = moments(&pixels, channel);
                let is_near = (mean - expected.0).abs() < tolerance && (deviation - expected.1).abs() < tolerance;
                assert!(is_near, "channel {channel}: {mean} and {deviation}, not {expected:?}");
            }
            let [red, green] = [0, 1].map(|channel| moments(&pixels, channel));
            let product = |pixel: &[u8]| (f64::from(pixel[0]) - red.0) * (f64::from(pixel[1]) - green.0);
            let covariance = pixels.chunks(3).map(product).sum::<f64>() / (pixels.len() / 3) as f64;
            let correlation = covariance / (red.1 * green.1);
            assert!(correlation.abs() < 0.08, "channels go together: {correlation}");
        }
    }

    /// Left, top, width and height of what is hidden of a black image of 64 x 64 pixels.
    fn hidden(transform: &TrainTransform, image: &RasterImage, sample: u64) -> [usize; 4] {
        let mut output = vec![0; 64 * 64];
        transform.apply(image, SampleKey { seed: 42, epoch: 0, sample, repeat: 0 }, &mut output);
        let places: Vec<usize> = (0..64 * 64).filter(|&place| output[place] != 0).collect();
        let (top, bottom) = (places[0] / 64, places[places.len() - 1] / 64);
        let left = places.iter().map(|place| place % 64).min().unwrap();
        let right = places.iter().map(|place| place % 64).max().unwrap();
        let [width, height] = [right + 1 - left, bottom + 1 - top];
        assert_eq!(places.len(), width * height, "sample {sample}: what is hidden is a rectangle");
        [left, top, width, height]
    }

    /// As timm's `RandomErasing` draws them, but for the rectangles that would not fit, of which there are none here.
    #[test]
    fn hidden_rectangles_have_their_areas_and_ratios_and_lie_everywhere() {
        let transform = TrainTransform {
            erase: 1.0,
            erase_area: (0.05, 0.25),
            erase_ratio: (0.5, 2.0),
            erase_fill: EraseFill::Constant,
            ..TrainTransform::new(64, Channels::Grey, ResizeMode::Squash)
        };
        let image = RasterImage::new(64, 64, Channels::Grey, vec![0; 64 * 64]).unwrap();
        let boxes: Vec<[usize; 4]> = (0..2000).map(|sample| hidden(&transform, &image, sample)).collect();
        let mean = |value: &dyn Fn(&[usize; 4]) -> f64| boxes.iter().map(value).sum::<f64>() / 2000.0;
        let area = |&[_, _, width, height]: &[usize; 4]| (width * height) as f64 / 4096.0;
        let ratio = |&[_, _, width, height]: &[usize; 4]| width as f64 / height as f64;
        // Sides are whole pixels: half a pixel of each is up to 0.9 % of the area, and 5 % of the shortest side, which has 10.
        assert!(boxes.iter().all(|place| (0.041..=0.259).contains(&area(place))));
        assert!(boxes.iter().all(|place| (0.46..=2.17).contains(&ratio(place))));
        // Five deviations of the mean of 2,000 uniform draws, of the area and of the ratio's logarithm.
        assert!((mean(&area) - 0.15).abs() < 0.0065, "{}", mean(&area));
        assert!(mean(&|place| ratio(place).ln()).abs() < 0.045, "{}", mean(&|place| ratio(place).ln()));
        for axis in 0..2 {
            let share = |place: &[usize; 4]| place[axis] as f64 / (64 - place[axis + 2]) as f64;
            assert!((mean(&share) - 0.5).abs() < 0.033, "axis {axis}: {}", mean(&share));
            assert!(boxes.iter().any(|place| place[axis] == 0), "axis {axis}: none at the start");
            assert!(boxes.iter().any(|place| place[axis] + place[axis + 2] == 64), "axis {axis}: none at the end");
        }
    }
}
