//! Changes colours, pixel by pixel, as torchvision's `ColorJitter` does, always in the same order.

use crate::Channels;
use crate::raster::luma;

/// Multiplies brightness, then the distance from the mean grey, then the distance from each pixel's own grey. A factor
/// of 1 changes nothing.
///
/// # Shapes
/// `pixels`: `[H, W, C]`
pub(super) fn adjust(pixels: &mut [u8], channels: Channels, brightness: f32, contrast: f32, saturation: f32) {
    if brightness != 1.0 {
        map_values(pixels, |value| value * brightness);
    }
    if contrast != 1.0 {
        let mean = mean_grey(pixels, channels);
        map_values(pixels, |value| mean + (value - mean) * contrast);
    }
    if saturation != 1.0 && channels == Channels::Rgb {
        for pixel in pixels.chunks_exact_mut(3) {
            let grey = f32::from(luma(pixel[0], pixel[1], pixel[2]));
            for value in pixel {
                *value = rounded(grey + (f32::from(*value) - grey) * saturation);
            }
        }
    }
}

/// By a table: there are only 256 values.
fn map_values(pixels: &mut [u8], change: impl Fn(f32) -> f32) {
    let mut table = [0; 256];
    for (place, value) in table.iter_mut().zip(0..=u8::MAX) {
        *place = rounded(change(f32::from(value)));
    }
    for value in pixels {
        *value = table[usize::from(*value)];
    }
}

fn mean_grey(pixels: &[u8], channels: Channels) -> f32 {
    let (sum, count): (u64, usize) = match channels {
        Channels::Grey => (pixels.iter().map(|&grey| u64::from(grey)).sum(), pixels.len()),
        Channels::Rgb => {
            (pixels.chunks_exact(3).map(|pixel| u64::from(luma(pixel[0], pixel[1], pixel[2]))).sum(), pixels.len() / 3)
        }
    };
    sum as f32 / count.max(1) as f32
}

/// The nearest value; the cast stops at 0 and 255.
fn rounded(value: f32) -> u8 {
    (value + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(pixels: &[u8], channels: Channels, brightness: f32, contrast: f32, saturation: f32) -> Vec<u8> {
        let mut pixels = pixels.to_vec();
        adjust(&mut pixels, channels, brightness, contrast, saturation);
        pixels
    }

    #[test]
    fn factors_of_one_change_nothing() {
        let pixels: Vec<u8> = (0..=254).collect();
        assert_eq!(adjusted(&pixels, Channels::Rgb, 1.0, 1.0, 1.0), pixels);
    }

    #[test]
    fn brightness_multiplies_and_stops_at_white() {
        assert_eq!(adjusted(&[0, 100, 200], Channels::Grey, 1.5, 1.0, 1.0), [0, 150, 255]);
    }

    #[test]
    fn contrast_pulls_towards_the_mean() {
        assert_eq!(adjusted(&[0, 100, 200], Channels::Grey, 1.0, 0.5, 1.0), [50, 100, 150]);
        assert_eq!(adjusted(&[0, 100, 200], Channels::Grey, 1.0, 0.0, 1.0), [100, 100, 100]);
    }

    #[test]
    fn no_saturation_is_grey_and_grey_has_none() {
        let grey = luma(200, 100, 30);
        assert_eq!(adjusted(&[200, 100, 30], Channels::Rgb, 1.0, 1.0, 0.0), [grey; 3]);
        assert_eq!(adjusted(&[9, 90], Channels::Grey, 1.0, 1.0, 0.3), [9, 90]);
    }
}
