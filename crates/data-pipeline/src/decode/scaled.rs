//! Reads a jpeg at 1/2, 1/4 or 1/8 of its size. Each block of 8 x 8 pixels is stored as frequencies (ITU-T T.81); the low
//! ones alone give a smaller block, well filtered, and most of the work after the entropy code falls away.
//!
//! Sequential jpegs with YCbCr or grey in one scan are read, which is what cameras and scanners write. All others are for
//! the exact decoder.

mod block;
mod entropy;
mod header;

use crate::{Channels, RasterImage};
use block::inverse_transform;
use entropy::Bits;
use header::{Component, Header};

/// The image, with sides divided by `factor` (2, 4 or 8) and rounded up. `None` where it cannot be read so: then the exact
/// decoder has the word, also on what is wrong.
pub(super) fn read(bytes: &[u8], factor: u16) -> Option<RasterImage> {
    let (header, scan) = Header::read(bytes)?;
    let planes = match factor {
        2 => Planes::read::<4>(&header, scan)?,
        4 => Planes::read::<2>(&header, scan)?,
        8 => Planes::read::<1>(&header, scan)?,
        _ => return None,
    };
    let [width, height] = header.size.map(|side| side.div_ceil(usize::from(factor)));
    let channels = if planes.0.len() == 1 { Channels::Grey } else { Channels::Rgb };
    let pixels = match planes.0.as_slice() {
        [grey] => (0..height).flat_map(|row| &grey.row(row)[..width]).copied().collect(),
        planes => to_rgb(planes, [width, height]),
    };
    RasterImage::new(width, height, channels, pixels)
}

/// Of one component, with whole blocks at the right and lower edge.
struct Plane {
    width: usize,
    values: Vec<u8>,
    /// By which columns and rows of the image are divided to come here.
    division: [usize; 2],
}

struct Planes(Vec<Plane>);

impl Planes {
    /// Goes through the scan; each block becomes `SIDE` x `SIDE` pixels.
    fn read<const SIDE: usize>(header: &Header, scan: &[u8]) -> Option<Self> {
        let most = header.largest_sampling();
        let units = [0, 1].map(|axis| header.size[axis].div_ceil(8 * most[axis]));
        let mut planes: Vec<Plane> = header
            .components
            .iter()
            .map(|component| {
                let [width, height] = [0, 1].map(|axis| units[axis] * component.sampling[axis] * SIDE);
                let division = [0, 1].map(|axis| most[axis] / component.sampling[axis]);
                Plane { width, values: vec![0; width * height], division }
            })
            .collect();
        let mut bits = Bits::new(scan);
        let mut predictions = [0i32; 3];
        for unit in 0..units[0] * units[1] {
            if header.restart_interval > 0 && unit > 0 && unit % header.restart_interval == 0 {
                bits.pass_restart_marker()?;
                predictions = [0; 3];
            }
            let place = [unit % units[0], unit / units[0]];
            for (index, component) in header.components.iter().enumerate() {
                planes[index].read_unit::<SIDE>(header, component, place, &mut bits, &mut predictions[index])?;
            }
        }
        bits.is_within_the_scan().then_some(Self(planes))
    }
}

impl Plane {
    /// The blocks of one component in the unit at `place`.
    fn read_unit<const SIDE: usize>(
        &mut self,
        header: &Header,
        component: &Component,
        place: [usize; 2],
        bits: &mut Bits<'_>,
        prediction: &mut i32,
    ) -> Option<()> {
        let [across, down] = component.sampling;
        let quantisation = header.quantisation[component.quantisation].as_ref()?;
        let lowest = header.tables[0][component.tables[0]].as_ref()?;
        let others = header.tables[1][component.tables[1]].as_ref()?;
        for y in 0..down {
            for x in 0..across {
                let frequencies = bits.block::<SIDE>(lowest, others, quantisation, prediction)?;
                let pixels = inverse_transform::<SIDE>(&frequencies);
                let (left, top) = ((place[0] * across + x) * SIDE, (place[1] * down + y) * SIDE);
                for (row, line) in pixels.iter().enumerate() {
                    self.values[(top + row) * self.width + left..][..SIDE].copy_from_slice(line);
                }
            }
        }
        Some(())
    }

    /// What a row of the image finds here.
    fn row(&self, row: usize) -> &[u8] {
        &self.values[row / self.division[1] * self.width..][..self.width]
    }
}

/// JFIF's YCbCr. Colour that was stored at half the size is repeated: the image is made smaller still, so that nothing of it
/// shows.
fn to_rgb(planes: &[Plane], [width, height]: [usize; 2]) -> Vec<u8> {
    let mut pixels = vec![0; width * height * 3];
    let (mut blue, mut red) = (vec![0u8; width], vec![0u8; width]);
    for (row, line) in pixels.chunks_exact_mut(width * 3).enumerate() {
        for (plane, wide) in [(&planes[1], &mut blue), (&planes[2], &mut red)] {
            spread(plane.row(row), plane.division[0], wide);
        }
        let brightness = &planes[0].row(row)[..width];
        for (((pixel, &y), &cb), &cr) in line.as_chunks_mut::<3>().0.iter_mut().zip(brightness).zip(&blue).zip(&red) {
            // Of 2^16, with a half added for rounding.
            let y = (i32::from(y) << 16) + (1 << 15);
            let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
            let channels = [y + 91_881 * cr, y - 22_554 * cb - 46_802 * cr, y + 116_130 * cb];
            *pixel = channels.map(|value| (value >> 16).clamp(0, 255) as u8);
        }
    }
    pixels
}

fn spread(narrow: &[u8], division: usize, wide: &mut [u8]) {
    match division {
        1 => wide.copy_from_slice(&narrow[..wide.len()]),
        2 => {
            let (pairs, rest) = wide.as_chunks_mut::<2>();
            pairs.iter_mut().zip(narrow).for_each(|(pair, &value)| *pair = [value; 2]);
            rest.iter_mut().zip(&narrow[pairs.len()..]).for_each(|(last, &value)| *last = value);
        }
        _ => wide.chunks_mut(division).zip(narrow).for_each(|(values, &value)| values.fill(value)),
    }
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
        let transform = EvalTransform::new(64, Channels::Rgb, ResizeMode::Squash);
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
