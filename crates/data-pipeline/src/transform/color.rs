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

/// Turns the colour circle by so many of its rounds, as torchvision's `adjust_hue` does.
///
/// # Shapes
/// `pixels`: `[H, W, C]`
pub(super) fn turn_hue(pixels: &mut [u8], channels: Channels, rounds: f32) {
    if rounds == 0.0 || channels == Channels::Grey {
        return;
    }
    for pixel in pixels.as_chunks_mut::<3>().0 {
        let [red, green, blue] = pixel.map(f32::from);
        let highest = red.max(green).max(blue);
        let chroma = highest - red.min(green).min(blue);
        if chroma == 0.0 {
            continue;
        }
        // In sixths of the circle, from red over green to blue.
        let hue = if highest == red {
            (green - blue) / chroma
        } else if highest == green {
            2.0 + (blue - red) / chroma
        } else {
            4.0 + (red - green) / chroma
        };
        let hue = (hue + 6.0 * rounds).rem_euclid(6.0);
        // Each channel falls from the highest by as much as it is away from its own stretch of the circle.
        let channel = |own: f32| {
            let place = (own + hue) % 6.0;
            rounded(highest - chroma * place.min(4.0 - place).clamp(0.0, 1.0))
        };
        *pixel = [channel(5.0), channel(3.0), channel(1.0)];
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
    fn a_third_of_the_colour_circle_leads_from_red_to_green() {
        let turned = |mut pixel: [u8; 3], rounds| {
            turn_hue(&mut pixel, Channels::Rgb, rounds);
            pixel
        };
        assert_eq!(turned([200, 50, 50], 1.0 / 3.0), [50, 200, 50]);
        assert_eq!(turned([200, 50, 50], -1.0 / 3.0), [50, 50, 200]);
        assert_eq!(turned([200, 50, 50], 0.5), [50, 200, 200]);
        assert_eq!(turned([200, 120, 50], 0.0), [200, 120, 50]);
        assert_eq!(turned([90, 90, 90], 0.3), [90, 90, 90]);
    }

    #[test]
    fn no_saturation_is_grey_and_grey_has_none() {
        let grey = luma(200, 100, 30);
        assert_eq!(adjusted(&[200, 100, 30], Channels::Rgb, 1.0, 1.0, 0.0), [grey; 3]);
        assert_eq!(adjusted(&[9, 90], Channels::Grey, 1.0, 1.0, 0.3), [9, 90]);
    }
}
