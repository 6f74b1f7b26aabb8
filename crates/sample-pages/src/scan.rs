//! Captures a flat sheet as a scanner or a camera does: placed, tilted, lit, blurred, noisy.

mod light;
mod optics;
mod warp;

use image::RgbImage;

use crate::canvas::Canvas;
use crate::dice::Dice;

/// How a sheet lies before the scanner or camera.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staging {
    /// How much of the frame the sheet fills, along the side that fits; above 1 its edges are cut.
    fill: f32,
    tilt_degrees: f32,
    /// How far corners stray, as a share of the frame: the camera is not held parallel.
    corner_jitter: f32,
    /// Frame width over height; the sheet's own times a little when absent.
    frame_aspect: Option<f32>,
}

impl Staging {
    /// A page that fills the frame: mostly scanned, sometimes photographed.
    pub(crate) fn sheet(dice: &mut Dice) -> Self {
        if dice.chance(0.7) {
            Self {
                fill: dice.range(0.97, 1.07),
                tilt_degrees: dice.normal() * 1.4,
                corner_jitter: 0.0,
                frame_aspect: None,
            }
        } else {
            Self {
                fill: dice.range(0.84, 1.0),
                tilt_degrees: dice.normal() * 4.0,
                corner_jitter: dice.range(0.01, 0.05),
                frame_aspect: dice.chance(0.3).then(|| dice.range(0.75, 1.33)),
            }
        }
    }

    /// A small thing that lies on a desk: a card, a receipt, a note.
    pub(crate) fn loose(dice: &mut Dice) -> Self {
        Self {
            fill: dice.range(0.88, 1.04),
            tilt_degrees: dice.normal() * 3.5,
            corner_jitter: dice.range(0.0, 0.05),
            frame_aspect: dice.chance(0.75).then(|| dice.range(0.66, 1.5)),
        }
    }
}

/// An image under way, red, green and blue from 0.0 to 255.0, row by row.
pub(crate) struct Exposure {
    width: usize,
    height: usize,
    pixels: Vec<[f32; 3]>,
}

/// Captures the sheet: 176 to 256 pixels on the longer side.
pub(crate) fn capture(canvas: &Canvas, staging: Staging, dice: &mut Dice) -> RgbImage {
    let mut exposure = warp::place_on_desk(canvas, staging, dice);
    light::shade(&mut exposure, dice);
    optics::blur(&mut exposure, dice);
    optics::tone(&mut exposure, dice);
    optics::add_noise(&mut exposure, dice);
    develop(&exposure)
}

/// Rounds to bytes; the conversion holds levels beyond black and white.
fn develop(exposure: &Exposure) -> RgbImage {
    let (width, height) = (exposure.width as u32, exposure.height as u32);
    let mut image = RgbImage::new(width, height);
    for (target, source) in image.pixels_mut().zip(&exposure.pixels) {
        target.0 = source.map(|level| (level + 0.5) as u8);
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Ink;

    #[test]
    fn captured_images_are_176_to_256_pixels_on_the_longer_side() {
        for seed in 0..40 {
            let mut dice = Dice::new(seed);
            let canvas = Canvas::new(300.0, 420.0, 1.0, Ink::grey(255));
            let staging = if seed % 2 == 0 { Staging::sheet(&mut dice) } else { Staging::loose(&mut dice) };
            let image = capture(&canvas, staging, &mut dice);
            let longer = image.width().max(image.height());
            assert!((176..=256).contains(&longer), "{longer}");
            assert!(image.width().min(image.height()) >= 100);
        }
    }
}
