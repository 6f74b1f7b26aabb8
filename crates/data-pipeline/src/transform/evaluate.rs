//! The transform of validation, test and prediction: no chance in it.

use super::resample::resample;
use super::{ResizeFilter, ResizeMode, Transform, TransformError, bar_color, check, reduction, size_of, with_channels};
use crate::{Channels, RasterImage, SampleKey};

/// Always the same square from the same image.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalTransform {
    /// Height and width of the result, in pixels.
    pub image_size: usize,
    /// Grey or RGB.
    pub channels: Channels,
    /// How other proportions become a square.
    pub resize: ResizeMode,
    /// How pixels are weighed on the way.
    pub filter: ResizeFilter,
}

impl EvalTransform {
    /// Bilinear.
    #[must_use]
    pub fn new(image_size: usize, channels: Channels, resize: ResizeMode) -> Self {
        Self { image_size, channels, resize, filter: ResizeFilter::Bilinear }
    }

    /// Whether every value makes sense.
    ///
    /// # Errors
    /// The first value that does not.
    pub fn check(&self) -> Result<(), TransformError> {
        check::image_size(self.image_size)?;
        check::resize(self.resize)
    }
}

impl Transform for EvalTransform {
    fn channels(&self) -> Channels {
        self.channels
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn decode_reduction(&self, size: [usize; 2], _key: SampleKey) -> u16 {
        reduction(self.resize.evaluation_crop(size), self.image_size)
    }

    fn apply(&self, image: &RasterImage, _key: SampleKey, output: &mut [u8]) {
        let image = with_channels(image, self.channels);
        let crop = self.resize.evaluation_crop(size_of(&image));
        resample(&image, crop, self.filter, self.image_size, bar_color(self.channels), output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SampleKey = SampleKey { seed: 1, epoch: 1, sample: 1, repeat: 0 };

    /// Black on the left half, white on the right.
    fn two_halves(width: usize, height: usize) -> RasterImage {
        let pixels = (0..width * height).map(|place| if place % width < width / 2 { 0 } else { 255 }).collect();
        RasterImage::new(width, height, Channels::Grey, pixels).unwrap()
    }

    fn transformed(image: &RasterImage, resize: ResizeMode) -> Vec<u8> {
        let transform = EvalTransform::new(8, Channels::Grey, resize);
        let mut output = vec![1; 64];
        transform.apply(image, KEY, &mut output);
        output
    }

    #[test]
    fn squash_shows_the_whole_image() {
        let output = transformed(&two_halves(32, 8), ResizeMode::Squash);
        for row in output.chunks(8) {
            assert_eq!((row[0], row[7]), (0, 255));
        }
    }

    #[test]
    fn letterbox_puts_bars_above_and_below_a_wide_image() {
        let output = transformed(&two_halves(32, 8), ResizeMode::Letterbox);
        let rows: Vec<&[u8]> = output.chunks(8).collect();
        for row in [0, 1, 2, 5, 6, 7] {
            assert_eq!(rows[row], [117; 8]);
        }
        for row in [3, 4] {
            assert_eq!((rows[row][0], rows[row][7]), (0, 255));
        }
    }

    #[test]
    fn center_crop_leaves_the_sides_out() {
        // Only the middle 4 of 32 columns remain: half black, half white.
        let output = transformed(&two_halves(32, 8), ResizeMode::CenterCrop { crop_share: 0.5 });
        for row in output.chunks(8) {
            assert_eq!((row[0], row[7]), (0, 255));
        }
    }

    #[test]
    fn extreme_shapes_and_sizes_give_full_output_without_panic() {
        for (width, height) in [(1, 1), (1, 5000), (5000, 1), (3, 2), (8, 8)] {
            let image = RasterImage::new(width, height, Channels::Rgb, vec![200; width * height * 3]).unwrap();
            for resize in [ResizeMode::Squash, ResizeMode::Letterbox, ResizeMode::CenterCrop { crop_share: 0.01 }] {
                for (channels, filter) in
                    [(Channels::Grey, ResizeFilter::Bilinear), (Channels::Rgb, ResizeFilter::Bicubic)]
                {
                    let transform = EvalTransform { image_size: 7, channels, resize, filter };
                    let mut output = vec![1; 49 * channels.count()];
                    transform.apply(&image, KEY, &mut output);
                    assert!(output.iter().all(|&value| value >= 104), "{width} x {height} {resize:?}");
                }
            }
        }
    }

    #[test]
    fn an_image_of_the_right_size_is_copied() {
        let pixels: Vec<u8> = (0..192).collect();
        let image = RasterImage::new(8, 8, Channels::Rgb, pixels.clone()).unwrap();
        for filter in [ResizeFilter::Bilinear, ResizeFilter::Bicubic] {
            let transform = EvalTransform { filter, ..EvalTransform::new(8, Channels::Rgb, ResizeMode::Squash) };
            let mut output = vec![0; 192];
            transform.apply(&image, KEY, &mut output);
            assert_eq!(output, pixels, "{filter:?}");
        }
    }

    #[test]
    fn a_size_of_zero_is_refused() {
        let transform = EvalTransform::new(0, Channels::Rgb, ResizeMode::Squash);
        assert!(transform.check().is_err());
        transform.apply(&two_halves(4, 4), KEY, &mut []);
    }
}
