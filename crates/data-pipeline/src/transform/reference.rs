//! Held against images that timm, torchvision and Pillow made: `python scripts/augment_fixtures.py`.

use std::path::PathBuf;

use super::color;
use super::erase::{EraseFill, Patch};
use super::geometry::{Square, changed};
use super::rand_augment::apply_by_name;
use super::resample::{Crop, resample};
use super::{DocumentNoise, ResizeFilter, ResizeMode, TrainTransform, Transform};
use crate::random::Random;
use crate::{Channels, DecodeOptions, RasterImage, SampleKey, decode};

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

fn mean_difference(one: &[u8], other: &[u8]) -> f64 {
    one.iter().zip(other).map(|(one, other)| f64::from(one.abs_diff(*other))).sum::<f64>() / one.len() as f64
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

#[test]
fn parts_of_an_image_are_resized_as_by_pillow() {
    hold_resizing("resized.png", ResizeFilter::Bilinear);
    hold_resizing("resized_bicubic.png", ResizeFilter::Bicubic);
}

/// Both sum integers, with weights of up to 22 bits in Pillow and of 16 here, and round between the passes, which Pillow makes in the other order: sums near
/// a half go either way.
fn hold_resizing(tiles: &str, filter: ResizeFilter) {
    let (source, tiles) = (image("source.png"), image(tiles));
    for (line, tile) in lines("resized.txt").iter().zip(tiles.pixels().chunks(TILE_BYTES)) {
        let [left, top, width, height] =
            line.split(' ').map(|number| number.parse().unwrap()).collect::<Vec<f64>>()[..]
        else {
            panic!("{line}")
        };
        let mut output = vec![0; TILE_BYTES];
        resample(&source, Crop { left, top, width, height }, filter, SIDE, &[0; 3], &mut output);
        let (largest, count) = differences(&output, tile);
        let is_near = largest <= 1 && count <= TILE_BYTES / 3;
        assert!(is_near, "{filter:?} `{line}`: {count} values differ, by up to {largest}");
    }
}

/// Does what a line of saved.txt says.
fn saved(line: &str, image: &[u8]) -> Vec<u8> {
    let (kind, quality) = line.split_once(' ').unwrap();
    let quality: u8 = quality.parse().unwrap();
    if kind == "rgb" {
        return changed(SIDE, image, |square| square.save_as_jpeg(quality));
    }
    let green: Vec<u8> = image.chunks_exact(3).map(|pixel| pixel[1]).collect();
    let saved = changed(SIDE, &green, |square| square.save_as_jpeg(quality));
    saved.into_iter().flat_map(|value| [value; 3]).collect()
}

/// Both quantise by the same tables and keep colour at full size. `image` cuts off the fraction of a coefficient before it
/// quantises, so that some end a step nearer to zero than Pillow's (libjpeg's): up to 1.5 levels on average. Another quality
/// is further away: even 5 more or less makes 2.5 to 6.8 levels, and no jpeg at all 3 to 9. A step of 25, a usual one of low
/// frequencies, moves values by up to a quarter of it, and colours by 1.8 times as much: 11 levels.
#[test]
fn jpeg_artefacts_are_those_of_pillow() {
    let tiles = image("saved.png");
    let tiles: Vec<&[u8]> = tiles.pixels().chunks(TILE_BYTES).collect();
    let lines = lines("saved.txt");
    assert_eq!(tiles.len(), lines.len() + 1);
    for (line, tile) in lines.iter().zip(&tiles[1..]) {
        let saved = saved(line, tiles[0]);
        let ((largest, _), mean) = (differences(&saved, tile), mean_difference(&saved, tile));
        assert!(largest <= 12 && mean <= 2.0, "`{line}`: values differ by {mean} on average, by up to {largest}");
    }
}

/// With the settings of `WHOLE` in the script. No jpeg and no RandAugment: a level of difference becomes many there.
fn whole_transform() -> TrainTransform {
    TrainTransform {
        scale: (0.4, 0.9),
        ratio: (0.8, 1.25),
        horizontal_flip: 0.5,
        vertical_flip: 0.5,
        quarter_turns: true,
        rotation_degrees: 20.0,
        brightness: 0.3,
        contrast: 0.3,
        saturation: 0.3,
        hue: 0.05,
        noise: DocumentNoise { uneven_light: 0.3, blur: 0.5, speckle: 0.05, ..DocumentNoise::default() },
        erase: 0.5,
        erase_fill: EraseFill::Constant,
        ..TrainTransform::new(SIDE, Channels::Rgb, ResizeMode::Squash)
    }
}

/// Values are rounded after every step here, and once there: what half a level each becomes in later steps is at most 5
/// levels and half a level on average. The script draws for itself what chance decides, so the test also pins what a seed
/// means; another sample's choices are 45 levels away on average.
#[test]
fn whole_views_of_seeded_samples_are_those_of_pillow_and_torchvision() {
    let (source, tiles) = (image("source.png"), image("whole.png"));
    let lines = lines("whole.txt");
    assert_eq!(tiles.pixels().len(), TILE_BYTES * lines.len());
    for (line, tile) in lines.iter().zip(tiles.pixels().chunks(TILE_BYTES)) {
        let (epoch, sample) = line.split_once(' ').unwrap();
        let key = SampleKey { seed: 42, epoch: epoch.parse().unwrap(), sample: sample.parse().unwrap(), repeat: 0 };
        let mut view = vec![0; TILE_BYTES];
        whole_transform().apply(&source, key, &mut view);
        let ((largest, _), mean) = (differences(&view, tile), mean_difference(&view, tile));
        assert!(largest <= 6 && mean <= 1.0, "`{line}`: values differ by {mean} on average, by up to {largest}");
    }
}
