//! Images, whole and broken, made by code.

use std::io::Cursor;

use image::{GrayImage, ImageFormat, Rgb, RgbImage};

/// A small picture that its class can be told from: the more of `red`, the less of blue.
pub(crate) fn photo(red: u8, number: u8) -> Vec<u8> {
    encode(&RgbImage::from_pixel(32, 32, Rgb([red, 10 * number, 255 - red])), ImageFormat::Png)
}

/// One pixel.
pub(crate) fn tiny() -> Vec<u8> {
    encode(&RgbImage::from_pixel(1, 1, Rgb([200, 10, 30])), ImageFormat::Png)
}

/// 12000 x 9000 pixels, 108 megapixels of one grey: some 100 KB as a file.
pub(crate) fn huge() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    GrayImage::new(12_000, 9_000).write_to(&mut bytes, ImageFormat::Png).expect("a vector takes any image");
    bytes.into_inner()
}

/// A few bytes that claim to be 60000 x 60000 pixels: a header that is whole, and no pixels.
pub(crate) fn bomb() -> Vec<u8> {
    let mut bytes = tiny();
    // Signature, length and name of the first chunk; then its width and its height, and its checksum at the end.
    bytes[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let checksum = checksum(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// CRC-32 as PNG has it, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    let shift = |rest: u32, _| if rest & 1 == 1 { 0xedb8_8320 ^ (rest >> 1) } else { rest >> 1 };
    !bytes.iter().fold(u32::MAX, |rest, &byte| (0..8).fold(rest ^ u32::from(byte), shift))
}

/// A photograph whose download stopped half-way.
pub(crate) fn truncated_jpeg() -> Vec<u8> {
    let noise = |x: u32, y: u32| (x * 37 + y * 91 + x * y) as u8;
    let image = RgbImage::from_fn(64, 64, |x, y| Rgb([noise(x, y), noise(y, x), noise(x + 7, y)]));
    let mut bytes = encode(&image, ImageFormat::Jpeg);
    bytes.truncate(bytes.len() / 2);
    bytes
}

fn encode(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("a vector takes any image");
    bytes.into_inner()
}
