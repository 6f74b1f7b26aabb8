//! What a hidden rectangle is filled with.

use super::geometry::Square;
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

impl EraseFill {
    pub(super) fn erase(self, square: &mut Square<'_>, patch: Patch, channels: Channels, random: &mut Random) {
        let Patch { area_share, ratio, place } = patch;
        match self {
            Self::Mean => square.erase(area_share, ratio, place, |mean| mean),
            Self::Constant => {
                let color = random_color(channels, || 0.0);
                square.erase(area_share, ratio, place, |_| color);
            }
            Self::Color => {
                let color = random_color(channels, || random.normal());
                square.erase(area_share, ratio, place, |_| color);
            }
            Self::Pixel => square.erase(area_share, ratio, place, |_| random_color(channels, || random.normal())),
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
    use super::*;

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
}
