//! Draws pages of eight document types, seeded, with varied layout, lettering, tilt, light, blur and noise, and writes
//! them as a training, validation and test set: a first training run needs no download.
//!
//! It reads no font, no template and no network, never touches a folder that holds anything but a sample set, and
//! knows nothing of tensors or models.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use sample_pages::{SampleSet, write_sample_set};
//!
//! let root = std::path::Path::new("data/quickstart");
//! write_sample_set(root, &SampleSet::default(), &mut |_drawn, _total| ControlFlow::Continue(()))?;
//! # Ok::<(), sample_pages::SampleError>(())
//! ```

#![warn(missing_docs)]

mod error;
mod sample_set;
mod workshop;

mod pages;
mod scan;

mod handwriting;
mod lettering;
mod ornaments;

mod canvas;
mod dice;
mod glyphs;
mod words;

use image::RgbImage;
use image::imageops::{flip_horizontal, rotate90, rotate180, rotate270};

pub use error::SampleError;
pub use sample_set::{SampleSet, Written, write_sample_set};

use dice::{Dice, mix_seed};

/// The document types, in the order of their indices. Sorted, as a folder-per-class reader sorts them.
pub const CLASSES: [&str; 8] =
    ["form", "handwritten_note", "id_card", "invoice", "letter", "newspaper", "receipt", "table"];

/// Draws one upright page of [`CLASSES`]`[class]`, as a scanner or camera sees it: RGB, 176 to 256 pixels on the longer
/// side, tall or wide. The same class and seed give the same pixels; a class beyond the last wraps around.
pub fn draw_page(class: usize, seed: u64) -> RgbImage {
    let class = class % CLASSES.len();
    // The page and its capture have dice of their own, so that work on one leaves the other as it was.
    let page = pages::draw(class, &mut Dice::new(mix_seed(seed, 2 * class as u64)));
    let mut capture_dice = Dice::new(mix_seed(seed, 2 * class as u64 + 1));
    scan::capture(&page.canvas, page.staging, &mut capture_dice)
}

/// Turns a page by a seeded number of quarter turns and mirrors every second one, as pages come out of a feeder or a
/// film scanner: all eight orientations are equally likely.
pub fn turn_page(page: &RgbImage, seed: u64) -> RgbImage {
    let orientation = mix_seed(seed, 0x7075_6e74) % 8;
    let turned = match orientation % 4 {
        0 => page.clone(),
        1 => rotate90(page),
        2 => rotate180(page),
        _ => rotate270(page),
    };
    if orientation >= 4 { flip_horizontal(&turned) } else { turned }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_pixels() {
        for (class, name) in CLASSES.iter().enumerate() {
            assert_eq!(draw_page(class, 11), draw_page(class, 11), "{name}");
        }
    }

    #[test]
    fn another_seed_or_class_draws_another_page() {
        for class in 0..CLASSES.len() {
            assert_ne!(draw_page(class, 11), draw_page(class, 12));
            assert_ne!(draw_page(class, 11), draw_page((class + 1) % CLASSES.len(), 11));
        }
    }

    #[test]
    fn many_seeds_draw_every_class_without_a_panic_and_with_ink_and_paper() {
        for (class, name) in CLASSES.iter().enumerate() {
            for seed in 0..12 {
                let page = draw_page(class, seed);
                let levels = page.pixels().map(|pixel| pixel.0[1]);
                let (darkest, lightest) = levels.fold((255, 0), |(low, high), level| (level.min(low), level.max(high)));
                assert!(lightest - darkest > 60, "{name} {seed}");
            }
        }
    }

    #[test]
    fn classes_are_sorted_as_a_folder_reader_sorts_them() {
        assert!(CLASSES.is_sorted());
    }

    #[test]
    fn turned_pages_come_in_all_eight_orientations() {
        let mut page = RgbImage::new(2, 3);
        page.put_pixel(0, 0, image::Rgb([255, 0, 0]));
        page.put_pixel(1, 0, image::Rgb([0, 255, 0]));
        let mut seen: Vec<RgbImage> = Vec::new();
        for seed in 0..200 {
            let turned = turn_page(&page, seed);
            if !seen.contains(&turned) {
                seen.push(turned);
            }
        }
        assert_eq!(seen.len(), 8);
    }
}
