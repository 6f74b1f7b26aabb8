//! Reads a jpeg at 1/2, 1/4 or 1/8 of its size. Each block of 8 x 8 pixels is stored as frequencies; the low ones alone
//! give a smaller block, well filtered, and most of the work after the entropy code falls away.

use jpeg_decoder::{Decoder, PixelFormat};

use crate::{Channels, RasterImage};

/// The image, with sides divided by `factor` (2, 4 or 8) and rounded up. `None` where this decoder cannot read it: then the
/// exact one decides, and says what is wrong.
pub(super) fn read(bytes: &[u8], factor: u16) -> Option<RasterImage> {
    let mut decoder = Decoder::new(bytes);
    decoder.read_info().ok()?;
    let full = decoder.info()?;
    let (width, height) = decoder.scale(full.width.div_ceil(factor), full.height.div_ceil(factor)).ok()?;
    let channels = match decoder.info()?.pixel_format {
        PixelFormat::L8 => Channels::Grey,
        PixelFormat::RGB24 => Channels::Rgb,
        PixelFormat::L16 | PixelFormat::CMYK32 => return None,
    };
    RasterImage::new(width.into(), height.into(), channels, decoder.decode().ok()?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, RgbImage};

    use super::*;
    use crate::decode::{Caller, decode_bytes_for};
    use crate::{DecodeOptions, EvalTransform, ResizeMode, SampleKey, Transform};

    const KEY: SampleKey = SampleKey { seed: 0, epoch: 0, sample: 0, repeat: 0 };

    /// Waves of several lengths and colours, as large as two pixels and as small as half the image.
    fn photograph(width: u32, height: u32) -> Vec<u8> {
        let wave = |x: u32, y: u32, length: f32| ((x as f32 + 0.7 * y as f32) / length).sin();
        let image = RgbImage::from_fn(width, height, |x, y| {
            let channel = |phase: u32| {
                let sum = 50.0 * wave(x + phase, y, 90.0) + 30.0 * wave(y, x + phase, 17.0) + 15.0 * wave(x, y, 2.5);
                (128.0 + sum) as u8
            };
            image::Rgb([channel(0), channel(40), channel(110)])
        });
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&image).unwrap();
        bytes
    }

    fn decoded(bytes: &[u8], factor: u16) -> Result<RasterImage, crate::DecodeError> {
        let caller = Caller { reduction: &|_| factor, ..Caller::default() };
        let options = DecodeOptions { max_pixels: 1 << 20, ..DecodeOptions::default() };
        decode_bytes_for(&caller, bytes, Path::new("a.jpg"), &options)
    }

    #[test]
    fn sides_are_divided_and_rounded_up() {
        let bytes = photograph(101, 67);
        for (factor, size) in [(1, (101, 67)), (2, (51, 34)), (4, (26, 17)), (8, (13, 9))] {
            let image = decoded(&bytes, factor).unwrap();
            assert_eq!((image.width(), image.height()), size);
        }
    }

    /// A mean of one level is what rounding twice makes; single pixels differ where the two filters weigh an edge apart.
    #[test]
    fn what_a_model_sees_hardly_changes() {
        let bytes = photograph(800, 600);
        let transform = EvalTransform { image_size: 64, channels: Channels::Rgb, resize: ResizeMode::Squash };
        let seen = |factor| {
            let mut output = vec![0; 64 * 64 * 3];
            transform.apply(&decoded(&bytes, factor).unwrap(), KEY, &mut output);
            output
        };
        assert_eq!(transform.decode_reduction([800, 600], KEY), 4);
        let (exact, scaled) = (seen(1), seen(4));
        let differences: Vec<u32> =
            exact.iter().zip(&scaled).map(|(one, other)| u32::from(one.abs_diff(*other))).collect();
        let mean = f64::from(differences.iter().sum::<u32>()) / differences.len() as f64;
        let largest = differences.iter().max().unwrap();
        assert!(mean < 1.5 && *largest < 16, "mean {mean}, largest {largest}");
    }

    #[test]
    fn grey_stays_grey_and_the_sides_of_turned_images_are_asked_for_upright() {
        let mut bytes = Vec::new();
        let pixels: Vec<u8> = (0..64 * 32).map(|place| (place % 64 * 4) as u8).collect();
        JpegEncoder::new(&mut bytes).encode(&pixels, 64, 32, ExtendedColorType::L8).unwrap();
        assert_eq!(read(&bytes, 2).unwrap().channels(), Channels::Grey);
        assert_eq!(decoded(&bytes, 2).unwrap().channels(), Channels::Rgb);
        // After the start marker: EXIF with the one entry "orientation: turn by 90 degrees", by hand.
        let exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let turned = [&bytes[..2], exif, &bytes[2..]].concat();
        let asked = std::cell::Cell::new([0, 0]);
        let reduction = |size| {
            asked.set(size);
            2
        };
        let caller = Caller { reduction: &reduction, ..Caller::default() };
        let image = decode_bytes_for(&caller, &turned, Path::new("a.jpg"), &DecodeOptions::default()).unwrap();
        assert_eq!((asked.get(), image.width(), image.height()), ([32, 64], 16, 32));
        assert!(image.pixel(8, 1)[0] < image.pixel(8, 30)[0], "the ramp runs down now");
    }

    #[test]
    fn damaged_bytes_never_panic_and_cut_ones_are_corrupt() {
        let whole = photograph(40, 24);
        for place in 0..whole.len() {
            for value in [0, 0xff, whole[place] ^ 0x10, whole[place].wrapping_add(1)] {
                let mut damaged = whole.clone();
                damaged[place] = value;
                let _ = decoded(&damaged, [2, 4, 8][place % 3]);
            }
            assert!(decoded(&whole[..place], 2).is_err(), "cut to {place} of {}", whole.len());
        }
    }
}
