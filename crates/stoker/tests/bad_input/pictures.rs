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
