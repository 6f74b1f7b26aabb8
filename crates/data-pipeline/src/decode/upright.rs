//! Applies the EXIF orientation.

use image::metadata::Orientation;

use crate::{Channels, RasterImage};

/// Turns and mirrors an image the way its camera noted.
pub(super) fn upright(image: RasterImage, orientation: Orientation) -> RasterImage {
    if orientation == Orientation::NoTransforms {
        return image;
    }
    let steps = Steps::new(orientation, image.width(), image.height());
    let pixels = match image.channels() {
        Channels::Grey => steps.collect::<1>(image.pixels()),
        Channels::Rgb => steps.collect::<3>(image.pixels()),
    };
    RasterImage::new(steps.width, steps.height, image.channels(), pixels).expect("turning keeps every pixel")
}

/// Width and height of the upright image.
pub(super) fn size(orientation: Orientation, [width, height]: [usize; 2]) -> [usize; 2] {
    match orientation {
        Orientation::Rotate90FlipH | Orientation::Rotate90 | Orientation::Rotate270FlipH | Orientation::Rotate270 => {
            [height, width]
        }
        _ => [width, height],
    }
}

/// How to walk through the stored pixels, so that they come in the order of the upright image.
struct Steps {
    /// Of the upright image.
    width: usize,
    /// Of the upright image.
    height: usize,
    /// Stored place of its first pixel.
    start: isize,
    /// From a pixel to its right neighbour.
    right: isize,
    /// From a pixel to its lower neighbour.
    down: isize,
}

impl Steps {
    fn new(orientation: Orientation, width: usize, height: usize) -> Self {
        // Which corner of the stored image becomes the upper left one, and whether its rows become columns.
        let (from_right, from_bottom, rows_become_columns) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (true, false, false),
            Orientation::Rotate180 => (true, true, false),
            Orientation::FlipVertical => (false, true, false),
            Orientation::Rotate90FlipH => (false, false, true),
            Orientation::Rotate90 => (false, true, true),
            Orientation::Rotate270FlipH => (true, true, true),
            Orientation::Rotate270 => (true, false, true),
        };
        let row = width as isize;
        let along_row = if from_right { -1 } else { 1 };
        let along_column = if from_bottom { -row } else { row };
        let first_column = if from_right { row - 1 } else { 0 };
        let first_row = if from_bottom { height as isize - 1 } else { 0 };
        let start = first_row * row + first_column;
        if rows_become_columns {
            Self { width: height, height: width, start, right: along_column, down: along_row }
        } else {
            Self { width, height, start, right: along_row, down: along_column }
        }
    }

    /// Goes down bands of rows, column by column: where rows become columns, neighbours in a column lie side by side in
    /// memory, and the lines of a band stay in the cache.
    fn collect<const COUNT: usize>(&self, stored: &[u8]) -> Vec<u8> {
        let (stored, _) = stored.as_chunks::<COUNT>();
        let mut upright = vec![[0; COUNT]; stored.len()];
        for (band, lines) in upright.chunks_mut(self.width * BAND_ROWS).enumerate() {
            let band_start = self.start + (band * BAND_ROWS) as isize * self.down;
            for x in 0..self.width {
                let mut place = band_start + x as isize * self.right;
                for pixel in lines[x..].iter_mut().step_by(self.width) {
                    *pixel = stored[place as usize];
                    place += self.down;
                }
            }
        }
        upright.into_flattened()
    }
}

/// One cache line a row: together far below the smallest first-level cache.
const BAND_ROWS: usize = 32;

#[cfg(test)]
mod tests {
    use image::{DynamicImage, GrayImage};

    use super::*;

    #[test]
    fn every_orientation_agrees_with_the_image_crate() {
        // More rows than a band has, either way.
        let pixels: Vec<u8> = (0..75 * 70u32).map(|place| (place * 7 % 251) as u8).collect();
        for tag in 1..=8 {
            let orientation = Orientation::from_exif(tag).unwrap();
            let image = RasterImage::new(75, 70, Channels::Grey, pixels.clone()).unwrap();
            let mut reference: DynamicImage = GrayImage::from_raw(75, 70, pixels.clone()).unwrap().into();
            reference.apply_orientation(orientation);
            let turned = upright(image, orientation);
            let size = (turned.width() as u32, turned.height() as u32);
            assert_eq!(size, (reference.width(), reference.height()), "tag {tag}");
            assert_eq!(turned.pixels(), reference.as_bytes(), "tag {tag}");
        }
    }

    #[test]
    fn the_values_of_a_pixel_stay_together() {
        let image = RasterImage::new(2, 1, Channels::Rgb, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(upright(image, Orientation::Rotate180).pixels(), [4, 5, 6, 1, 2, 3]);
    }
}
