//! Every kind of image file, and every kind of damage.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{folder, path_in, picture, plain_jpeg, write, write_picture};
use data_pipeline::{Channels, DecodeError, DecodeOptions, RasterImage, decode, decode_bytes};
use image::{DynamicImage, GrayAlphaImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, RgbaImage};

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decoded(bytes: &[u8]) -> Result<RasterImage, DecodeError> {
    decode_bytes(bytes, Path::new("a.jpg"), &DecodeOptions::default())
}

fn reason(bytes: &[u8]) -> String {
    match decoded(bytes) {
        Err(DecodeError::CorruptImage { reason, .. }) => reason,
        other => panic!("expected a corrupt image, found {other:?}"),
    }
}

#[test]
fn lossless_formats_come_back_bit_for_bit() {
    let image = picture(37, 23, 5);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        let image = decoded(&encoded(&image.clone().into(), format)).unwrap();
        assert_eq!((image.width(), image.height(), image.channels()), (37, 23, Channels::Rgb));
        assert_eq!(image.pixels(), picture(37, 23, 5).as_raw().as_slice(), "{format:?}");
    }
}

#[test]
fn the_content_decides_on_the_format_not_the_name() {
    let root = folder();
    write(&path_in(&root, "really_a_png.jpg"), encoded(&picture(5, 4, 1).into(), ImageFormat::Png));
    let image = decode(&path_in(&root, "really_a_png.jpg"), &DecodeOptions::default()).unwrap();
    assert_eq!(image.pixels(), picture(5, 4, 1).as_raw().as_slice());
}

/// Red above green on the left, blue above white on the right, each 8 x 8 pixels.
fn four_corners() -> RgbImage {
    RgbImage::from_fn(16, 16, |x, y| match (x < 8, y < 8) {
        (true, true) => Rgb([255, 0, 0]),
        (false, true) => Rgb([0, 0, 255]),
        (true, false) => Rgb([0, 255, 0]),
        (false, false) => Rgb([255, 255, 255]),
    })
}

/// Inserts an EXIF segment that holds nothing but the orientation.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend((exif.len() as u16 + 2).to_be_bytes());
    bytes.extend(exif);
    bytes.extend(&jpeg[2..]);
    bytes
}

fn color_name(pixel: &[u8]) -> char {
    match [pixel[0] > 127, pixel[1] > 127, pixel[2] > 127] {
        [true, false, false] => 'r',
        [false, true, false] => 'g',
        [false, false, true] => 'b',
        [true, true, true] => 'w',
        _ => '?',
    }
}

#[test]
fn all_eight_exif_orientations_come_out_upright() {
    let jpeg = encoded(&four_corners().into(), ImageFormat::Jpeg);
    // Corners: top left, top right, bottom left, bottom right. As stored they are r b g w.
    let expected = ["rbgw", "brwg", "wgbr", "gwrb", "rgbw", "grwb", "wbgr", "bwrg"];
    for (orientation, expected) in (1..).zip(expected) {
        let image = decoded(&with_orientation(&jpeg, orientation)).unwrap();
        let corners = [(2, 2), (13, 2), (2, 13), (13, 13)];
        let seen: String = corners.iter().map(|&(x, y)| color_name(image.pixel(x, y))).collect();
        assert_eq!(seen, expected, "orientation {orientation}");
    }
}

#[test]
fn an_orientation_of_a_quarter_turn_swaps_width_and_height() {
    let jpeg = encoded(&picture(30, 10, 1).into(), ImageFormat::Jpeg);
    let image = decoded(&with_orientation(&jpeg, 6)).unwrap();
    assert_eq!((image.width(), image.height()), (10, 30));
    let image = decoded(&with_orientation(&jpeg, 9)).unwrap();
    assert_eq!((image.width(), image.height()), (30, 10), "an orientation that does not exist changes nothing");
}

#[test]
fn transparency_is_laid_on_white() {
    let image = RgbaImage::from_raw(3, 1, vec![10, 20, 30, 255, 10, 20, 30, 0, 0, 0, 0, 127]).unwrap();
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let image = decoded(&encoded(&image.clone().into(), format)).unwrap();
        assert_eq!(image.pixels(), [10, 20, 30, 255, 255, 255, 128, 128, 128]);
    }
    let grey = GrayAlphaImage::from_raw(2, 1, vec![50, 255, 50, 0]).unwrap();
    let image = decoded(&encoded(&grey.into(), ImageFormat::Png)).unwrap();
    assert_eq!(image.pixels(), [50, 50, 50, 255, 255, 255]);
}

#[test]
fn grey_and_sixteen_bit_images_become_rgb_or_grey_as_asked() {
    let grey = GrayImage::from_raw(2, 1, vec![7, 200]).unwrap();
    for format in [ImageFormat::Png, ImageFormat::Bmp] {
        assert_eq!(decoded(&encoded(&grey.clone().into(), format)).unwrap().pixels(), [7, 7, 7, 200, 200, 200]);
    }
    let deep = ImageBuffer::<Luma<u16>, _>::from_raw(2, 1, vec![7 * 257, 65_535]).unwrap();
    let deep_color = ImageBuffer::<Rgb<u16>, _>::from_raw(1, 1, vec![257, 514, 771]).unwrap();
    assert_eq!(decoded(&encoded(&deep.into(), ImageFormat::Png)).unwrap().pixels(), [7, 7, 7, 255, 255, 255]);
    let deep_color = encoded(&deep_color.into(), ImageFormat::Png);
    assert_eq!(decoded(&deep_color).unwrap().pixels(), [1, 2, 3]);
    let options = DecodeOptions { channels: Channels::Grey, ..Default::default() };
    assert_eq!(decode_bytes(&deep_color, Path::new("a.png"), &options).unwrap().pixels(), [2]);
    let grey_jpeg = encoded(&GrayImage::from_pixel(9, 9, Luma([90])).into(), ImageFormat::Jpeg);
    assert_eq!(decode_bytes(&grey_jpeg, Path::new("a.jpg"), &options).unwrap().pixels(), [90; 81]);
}

#[test]
fn an_image_of_one_pixel_is_an_image() {
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Jpeg] {
        let image = decoded(&encoded(&RgbImage::from_pixel(1, 1, Rgb([90; 3])).into(), format)).unwrap();
        assert_eq!((image.width(), image.height()), (1, 1));
        assert_eq!(image.pixels(), [90; 3], "{format:?}");
    }
}

#[test]
fn an_image_of_12000_by_9000_comes_back_small() {
    let image = decoded(&plain_jpeg(12_000, 9_000)).unwrap();
    assert_eq!((image.width(), image.height()), (2_000, 1_500));
    assert!(image.pixels().iter().all(|&value| value == 128));
}

#[test]
fn an_image_above_the_limit_is_refused_before_it_is_decoded() {
    let start = Instant::now();
    let error = decoded(&plain_jpeg(65_500, 65_500)).unwrap_err();
    let expected = "`a.jpg` has 65500 x 65500 pixels, but 178956970 are the limit";
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("-resize"));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_file_that_claims_more_pixels_than_it_has_is_refused_without_the_memory() {
    let mut bytes = encoded(&picture(8, 8, 1).into(), ImageFormat::Bmp);
    bytes[18..22].copy_from_slice(&13_000u32.to_le_bytes());
    bytes[22..26].copy_from_slice(&13_000u32.to_le_bytes());
    assert!(decoded(&bytes).is_err());
    bytes[18..22].copy_from_slice(&i32::MAX.to_le_bytes());
    bytes[22..26].copy_from_slice(&i32::MAX.to_le_bytes());
    assert!(decoded(&bytes).is_err());
}

#[test]
fn a_text_file_named_jpg_is_corrupt() {
    let root = folder();
    write(&path_in(&root, "notes.jpg"), "not an image at all, just words\n");
    let error = decode(&path_in(&root, "notes.jpg"), &DecodeOptions::default()).unwrap_err();
    let expected = "is not a readable image: its content is neither jpeg, png, bmp nor webp";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert!(error.hint().unwrap().contains("data.on_corrupt"));
}

#[test]
fn empty_files_and_foreign_formats_are_corrupt() {
    assert_eq!(reason(b""), "the file is empty");
    assert_eq!(reason(b"GIF89a\x01\0\x01\0\0\0\0;"), "it is a image/gif file; only jpeg, png, bmp and webp are read");
    assert!(!reason(b"\xff\xd8\xff").is_empty());
}

#[test]
fn a_jpeg_cut_off_anywhere_is_corrupt() {
    let whole = encoded(&picture(120, 90, 3).into(), ImageFormat::Jpeg);
    assert!(decoded(&whole).is_ok());
    for share in [1, 10, 30, 50, 70, 90, 99] {
        let cut = &whole[..whole.len() * share / 100];
        assert!(matches!(decoded(cut), Err(DecodeError::CorruptImage { .. })), "{share} %");
    }
    assert_eq!(reason(&whole[..whole.len() / 2]), "the jpeg is cut off: it has no end marker");
}

#[test]
fn other_formats_cut_off_in_the_middle_are_corrupt() {
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        let whole = encoded(&picture(60, 50, 3).into(), format);
        for share in [5, 50, 90] {
            let cut = &whole[..whole.len() * share / 100];
            assert!(matches!(decoded(cut), Err(DecodeError::CorruptImage { .. })), "{format:?} {share} %");
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        let whole = encoded(&picture(24, 20, 3).into(), format);
        for place in 0..whole.len().min(600) {
            for value in [0, 0xff, whole[place] ^ 0x10] {
                let mut damaged = whole.clone();
                damaged[place] = value;
                let options = DecodeOptions { max_pixels: 1 << 16, ..Default::default() };
                let _ = decode_bytes(&damaged, Path::new("a"), &options);
            }
        }
    }
}

#[test]
fn a_file_that_is_gone_is_unreadable_not_corrupt() {
    let error = decode(Path::new("/nowhere/a.png"), &DecodeOptions::default()).unwrap_err();
    assert!(matches!(error, DecodeError::Unreadable { .. }));
    assert!(error.to_string().starts_with("cannot read `/nowhere/a.png`: "), "{error}");
}

#[test]
fn bytes_after_the_end_of_an_image_do_no_harm() {
    let root = folder();
    for name in ["a.jpg", "a.png", "a.bmp"] {
        let path = path_in(&root, name);
        write_picture(&path, 20, 20, 1);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend([0; 50]);
        assert!(decoded(&bytes).is_ok(), "{name}");
    }
}
