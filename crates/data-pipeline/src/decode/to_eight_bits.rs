//! Every colour type that a decoder gives, to 8-bit grey or RGB in the same buffer.

use image::ColorType;

use crate::Channels;

/// Rewrites `pixels` and cuts them to their new length: 16 bits are rounded to 8, transparency is laid on white.
/// `None` for floating point, which none of the accepted formats has.
pub(super) fn convert(pixels: &mut Vec<u8>, color: ColorType) -> Option<Channels> {
    let values_per_pixel = color.channel_count();
    match color.bytes_per_pixel() / values_per_pixel {
        1 => {}
        2 => rewrite(pixels, |[first, second]| [round_to_eight(u16::from_ne_bytes([first, second]))]),
        _ => return None,
    }
    match values_per_pixel {
        2 => rewrite(pixels, |[grey, alpha]| [on_white(grey, alpha)]),
        4 => rewrite(pixels, |[red, green, blue, alpha]| [red, green, blue].map(|value| on_white(value, alpha))),
        _ => {}
    }
    Some(if color.has_color() { Channels::Rgb } else { Channels::Grey })
}

/// Replaces each group of `FROM` bytes by `TO` bytes, front to back: what is written never overtakes what is read.
fn rewrite<const FROM: usize, const TO: usize>(pixels: &mut Vec<u8>, convert: impl Fn([u8; FROM]) -> [u8; TO]) {
    const { assert!(TO <= FROM) };
    let groups = pixels.len() / FROM;
    for group in 0..groups {
        let mut from = [0; FROM];
        from.copy_from_slice(&pixels[group * FROM..][..FROM]);
        pixels[group * TO..][..TO].copy_from_slice(&convert(from));
    }
    pixels.truncate(groups * TO);
}

/// The nearest of the 256 values, 65,535 / 255 = 257 apart.
fn round_to_eight(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

/// What one sees of a value with this opacity in front of white.
fn on_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparency_is_laid_on_white() {
        let mut pixels = vec![10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 255, 128];
        assert_eq!(convert(&mut pixels, ColorType::Rgba8), Some(Channels::Rgb));
        assert_eq!(pixels, [10, 20, 30, 255, 255, 255, 127, 177, 255]);
    }

    #[test]
    fn transparent_grey_becomes_grey_on_white() {
        let mut pixels = vec![40, 255, 40, 0];
        assert_eq!(convert(&mut pixels, ColorType::La8), Some(Channels::Grey));
        assert_eq!(pixels, [40, 255]);
    }

    #[test]
    fn sixteen_bits_are_rounded_and_every_8_bit_value_comes_back() {
        for value in 0..=255u8 {
            assert_eq!(round_to_eight(u16::from(value) * 257), value);
        }
        let mut pixels: Vec<u8> = [0u16, 65_535, 32_768, 65_535].iter().flat_map(|value| value.to_ne_bytes()).collect();
        assert_eq!(convert(&mut pixels, ColorType::Rgba16), Some(Channels::Rgb));
        assert_eq!(pixels, [0, 255, 128]);
    }

    #[test]
    fn floats_are_refused() {
        assert_eq!(convert(&mut vec![0; 12], ColorType::Rgb32F), None);
    }
}
