//! Antialiased resizing of a part of an image, as Pillow and torchvision (`antialias=True`) do it.

use std::cell::RefCell;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use crate::{Channels, RasterImage};

/// A rectangle in pixels of an image, from the outer edge of its first pixel. It may reach beyond the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Crop {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Crop {
    pub(super) fn centered_square(width: f64, height: f64, side: f64) -> Self {
        Self { left: (width - side) / 2.0, top: (height - side) / 2.0, width: side, height: side }
    }
}

/// How the pixels around a place are weighed: over as many of them as make one of the result, or more (antialiased).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResizeFilter {
    /// By a triangle, one pixel of the result to each side.
    #[default]
    Bilinear,
    /// By Keys' cubic convolution with a = -0.5, two pixels of the result to each side: sharper, and it overshoots at edges. As Pillow's `BICUBIC`.
    Bicubic,
}

impl ResizeFilter {
    fn algorithm(self) -> ResizeAlg {
        ResizeAlg::Convolution(match self {
            Self::Bilinear => FilterType::Bilinear,
            Self::Bicubic => FilterType::CatmullRom,
        })
    }
}

/// Resizes `crop` to a square of `size` pixels; what lies outside the image is filled with `bar_color`.
///
/// # Shapes
/// `output`: `[size, size, C]`
pub(super) fn resample(
    image: &RasterImage,
    crop: Crop,
    filter: ResizeFilter,
    size: usize,
    bar_color: &[u8],
    output: &mut [u8],
) {
    let count = image.channels().count();
    assert_eq!(output.len(), size * size * count, "the output holds one square image");
    if size == 0 {
        return;
    }
    let columns = Span::visible(crop.left, crop.width, image.width(), size);
    let rows = Span::visible(crop.top, crop.height, image.height(), size);
    if columns.is_all_of(size) && rows.is_all_of(size) {
        return resize_into(image, [columns, rows], filter, output);
    }
    let mut visible = vec![0; columns.length * rows.length * count];
    resize_into(image, [columns, rows], filter, &mut visible);
    for pixel in output.chunks_exact_mut(count) {
        pixel.copy_from_slice(bar_color);
    }
    let row_bytes = columns.length * count;
    for (row, line) in visible.chunks_exact(row_bytes).enumerate() {
        let start = ((rows.first + row) * size + columns.first) * count;
        output[start..start + row_bytes].copy_from_slice(line);
    }
}

/// Along one axis: what is seen of the image, and which pixels of the output show it.
#[derive(Debug, Clone, Copy)]
struct Span {
    source_start: f64,
    source_end: f64,
    first: usize,
    length: usize,
}

impl Span {
    fn visible(start: f64, length: f64, side: usize, size: usize) -> Self {
        let side = side as f64;
        // At least one step of the grid, inside the image. Unlike `clamp`, `max` and `min` make numbers of NaN.
        let source_start = snap(start).max(0.0).min(side - GRID);
        let source_end = snap(start + length).max(source_start + GRID).min(side);
        // A whole number of pixels around the same middle, as Pillow's `ImageOps.pad` places them.
        let to_output = |pixels: f64| pixels / length * size as f64;
        let exact = to_output(source_end - source_start);
        let length = (exact.round() as usize).clamp(1, size);
        let first = (to_output(source_start - start) + (exact - length as f64) / 2.0).round() as usize;
        Self { source_start, source_end, first: first.min(size - length), length }
    }

    fn is_all_of(self, size: usize) -> bool {
        self.length == size
    }
}

/// Crops lie on a grid this fine, in pixels: a power of two, so that start + length is exact and stays in the image.
const GRID: f64 = 1.0 / 1024.0;

fn snap(place: f64) -> f64 {
    (place / GRID).round() * GRID
}

fn resize_into(image: &RasterImage, spans: [Span; 2], filter: ResizeFilter, output: &mut [u8]) {
    match image.channels() {
        Channels::Grey => resize_pixels::<U8>(image, spans, filter, output),
        Channels::Rgb => resize_pixels::<U8x3>(image, spans, filter, output),
    }
}

/// By the type of pixel, not by a value that names it: that would compile the filters for all of them.
fn resize_pixels<P: PixelTrait>(
    image: &RasterImage,
    [columns, rows]: [Span; 2],
    filter: ResizeFilter,
    output: &mut [u8],
) {
    let source = TypedImageRef::<P>::from_buffer(image.width() as u32, image.height() as u32, image.pixels())
        .expect("a raster image has as many values as its size says");
    let mut target = TypedImage::<P>::from_buffer(columns.length as u32, rows.length as u32, output)
        .expect("the caller made the buffer for these spans");
    let options = ResizeOptions::new().resize_alg(filter.algorithm()).crop(
        columns.source_start,
        rows.source_start,
        columns.source_end - columns.source_start,
        rows.source_end - rows.source_start,
    );
    // One a thread: it keeps the buffer between the two passes.
    RESIZER.with_borrow_mut(|resizer| resizer.resize_typed(&source, &mut target, &options)).expect("spans lie inside");
}

thread_local! {
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(image: &RasterImage, crop: Crop, filter: ResizeFilter, size: usize) -> Vec<u8> {
        let mut output = vec![0; size * size * image.channels().count()];
        resample(image, crop, filter, size, &[9, 9, 9][..image.channels().count()], &mut output);
        output
    }

    fn resampled(image: &RasterImage, crop: Crop, size: usize) -> Vec<u8> {
        filtered(image, crop, ResizeFilter::Bilinear, size)
    }

    /// The value of a pixel is its column, so positions can be read off the result.
    fn ramp(side: usize) -> RasterImage {
        RasterImage::new(side, side, Channels::Grey, (0..side * side).map(|place| (place % side) as u8).collect())
            .unwrap()
    }

    #[test]
    fn halving_an_inner_pixel_weighs_its_neighbours_as_a_triangle() {
        // Support 2 around the middle of columns 2 and 3: weights 1/8, 3/8, 3/8, 1/8 on columns 1 to 4.
        let columns = [0u8, 0, 80, 240, 160, 0, 0, 0];
        let image = RasterImage::new(8, 8, Channels::Grey, columns.repeat(8)).unwrap();
        let output = resampled(&image, Crop { left: 0.0, top: 0.0, width: 8.0, height: 8.0 }, 4);
        assert_eq!(u32::from(output[1]), (80 * 3 + 240 * 3 + 160) / 8);
    }

    #[test]
    fn a_cubic_takes_away_what_lies_further_off_and_stays_in_range() {
        // Column 3 of the result lies between columns 6 and 7. Keys' kernel at 1, 3, 5 and 7 quarters is 111, 29, -9 and -3 over 128, and the weights
        // of both sides are half of that.
        let third = |ground: u8, others: &[usize], value: u8| {
            let shown = |column| if others.contains(&column) { value } else { ground };
            let columns: Vec<u8> = (0..16).map(shown).collect();
            let image = RasterImage::new(16, 16, Channels::Grey, columns.repeat(16)).unwrap();
            let whole = Crop { left: 0.0, top: 0.0, width: 16.0, height: 16.0 };
            filtered(&image, whole, ResizeFilter::Bicubic, 8)[3]
        };
        assert_eq!(third(100, &[7], 140), 117, "100 + 40 * 111 / 256");
        assert_eq!(third(100, &[4, 9], 140), 97, "100 - 2 * 40 * 9 / 256");
        assert_eq!(third(255, &[4, 9], 0), 255, "brighter than white is white");
        assert_eq!(third(0, &[4, 9], 255), 0, "darker than black is black");
    }

    #[test]
    fn a_crop_between_pixels_is_shifted_by_that_much() {
        let crop = Crop { left: 10.5, top: 3.0, width: 16.0, height: 16.0 };
        let output = resampled(&ramp(64), crop, 8);
        // Output column i spans two source columns from 10.5 + 2 i; its middle lies half a pixel before column 11 + 2 i.
        for (column, &value) in output[..8].iter().enumerate().skip(1).take(6) {
            assert!((f64::from(value) - (11.0 + 2.0 * column as f64)).abs() <= 0.5, "{output:?}");
        }
    }

    #[test]
    fn what_lies_outside_the_image_is_bar() {
        let image = RasterImage::new(4, 4, Channels::Rgb, vec![200; 48]).unwrap();
        let output = resampled(&image, Crop { left: -4.0, top: 0.0, width: 8.0, height: 8.0 }, 8);
        let pixel = |x: usize, y: usize| output[(y * 8 + x) * 3];
        assert_eq!([pixel(3, 0), pixel(4, 0), pixel(7, 3), pixel(7, 4)], [9, 200, 200, 9]);
    }

    #[test]
    fn no_crop_panics_however_strange() {
        let image = ramp(5);
        for left in [-100.0, -0.3, 0.0, 4.999_999, 5.0, 77.0] {
            for width in [1e-9, 0.5, 5.0, 1e6, f64::NAN] {
                for filter in [ResizeFilter::Bilinear, ResizeFilter::Bicubic] {
                    let output = filtered(&image, Crop { left, top: 4.9, width, height: 0.3 }, filter, 3);
                    assert_eq!(output.len(), 9);
                }
            }
        }
    }
}
