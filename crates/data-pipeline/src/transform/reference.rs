//! Held against images that timm, torchvision and Pillow made: `python scripts/augment_fixtures.py`.

use std::path::PathBuf;

use super::color;
use super::erase::{EraseFill, Patch};
use super::geometry::Square;
use super::rand_augment::apply_by_name;
use super::resample::{Crop, resample};
use crate::random::Random;
use crate::{Channels, DecodeOptions, RasterImage, decode};

const SIDE: usize = 24;
const TILE_BYTES: usize = SIDE * SIDE * 3;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

fn image(name: &str) -> RasterImage {
    decode(&fixture(name), &DecodeOptions::default()).unwrap()
}

fn lines(name: &str) -> Vec<String> {
    std::fs::read_to_string(fixture(name)).unwrap().lines().map(str::to_owned).collect()
}

/// The largest difference of a value, and how many differ at all.
fn differences(one: &[u8], other: &[u8]) -> (u8, usize) {
    let differences = || one.iter().zip(other).map(|(one, other)| one.abs_diff(*other));
    (differences().max().unwrap_or(0), differences().filter(|&difference| difference > 0).count())
}

/// Does what a line of views.txt says.
fn varied(line: &str, image: &[u8]) -> Vec<u8> {
    let mut pixels = image.to_vec();
    let mut square = Square { size: SIDE, count: 3, pixels: &mut pixels };
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["hue", rounds] => color::turn_hue(square.pixels, Channels::Rgb, rounds.parse().unwrap()),
        ["blur", sigma] => square.blur(sigma.parse().unwrap()),
        ["brightness", factor] => color::adjust(square.pixels, Channels::Rgb, factor.parse().unwrap(), 1.0, 1.0),
        ["contrast", factor] => color::adjust(square.pixels, Channels::Rgb, 1.0, factor.parse().unwrap(), 1.0),
        ["saturation", factor] => color::adjust(square.pixels, Channels::Rgb, 1.0, 1.0, factor.parse().unwrap()),
        ["mirror"] => square.flip_horizontally(),
        ["flip"] => square.flip_vertically(),
        ["turn", quarters] => square.turn(quarters.parse().unwrap()),
        ["rotate", degrees] => square.rotate(degrees.parse().unwrap()),
        ["erase", left, top, width, height] => {
            let box_of = [left, top, width, height].map(|number| number.parse().unwrap());
            EraseFill::Constant.erase(&mut square, patch_of(box_of), Channels::Rgb, &mut Random::new(0));
        }
        [operation, magnitude, kind, sign, interpolation] => apply_by_name(
            &mut square,
            operation,
            magnitude.parse().unwrap(),
            [kind == "increasing", sign == "-", interpolation == "bicubic"],
        ),
        _ => panic!("{line}"),
    }
    pixels
}

/// What is drawn where that rectangle is hidden: left, top, width and height in pixels.
fn patch_of([left, top, width, height]: [f32; 4]) -> Patch {
    let side = SIDE as f32;
    // The middle of what leads to this place of the free room.
    let place = |start: f32, length: f32| (start + 0.5) / (side - length + 1.0);
    Patch {
        area_share: width * height / (side * side),
        ratio: width / height,
        place: [place(left, width), place(top, height)],
    }
}

/// By how many levels a value may differ, and how many of a hundred values may.
fn allowed(line: &str) -> (u8, usize) {
    match line.split(' ').next().unwrap() {
        "mirror" | "flip" | "turn" | "erase" => (0, 0),
        // Fractions are cut off there, of greys and of values, and rounded here.
        "brightness" | "contrast" | "saturation" => (1, 100),
        // Weights are larger than one in cubic interpolation.
        _ if line.ends_with("bicubic") => (2, 10),
        _ => (1, 10),
    }
}

/// One level is what cutting a fraction off instead of rounding it, or f32 for f64, can make.
#[test]
fn views_are_those_of_timm_and_torchvision() {
    let tiles = image("views.png");
    let tiles: Vec<&[u8]> = tiles.pixels().chunks(TILE_BYTES).collect();
    let lines = lines("views.txt");
    assert_eq!(tiles.len(), lines.len() + 1);
    for (line, tile) in lines.iter().zip(&tiles[1..]) {
        let (largest, count) = differences(&varied(line, tiles[0]), tile);
        let (levels, percent) = allowed(line);
        let is_near = largest <= levels && count <= TILE_BYTES * percent / 100;
        assert!(is_near, "`{line}`: {count} of {TILE_BYTES} values differ, by up to {largest}");
    }
}

/// Both sum integers, with weights of up to 22 bits in Pillow and of 16 here: sums near a half go either way.
#[test]
fn parts_of_an_image_are_resized_as_by_pillow() {
    let (source, tiles) = (image("source.png"), image("resized.png"));
    for (line, tile) in lines("resized.txt").iter().zip(tiles.pixels().chunks(TILE_BYTES)) {
        let [left, top, width, height] =
            line.split(' ').map(|number| number.parse().unwrap()).collect::<Vec<f64>>()[..]
        else {
            panic!("{line}")
        };
        let mut output = vec![0; TILE_BYTES];
        resample(&source, Crop { left, top, width, height }, SIDE, &[0; 3], &mut output);
        let (largest, count) = differences(&output, tile);
        assert!(largest <= 1 && count <= TILE_BYTES / 3, "`{line}`: {count} values differ, by up to {largest}");
    }
}
