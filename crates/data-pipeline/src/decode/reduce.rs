//! Shrinks large images by a whole factor: the mean of each block, which is exact antialiasing for that factor.

use crate::{Channels, RasterImage};

/// Reduces by the smallest whole factor that leaves at most `max_pixels`, and by nothing where that already holds.
pub(super) fn reduce_to(image: RasterImage, max_pixels: u64) -> RasterImage {
    let fits = |factor: usize| {
        let sides = [image.width(), image.height()].map(|side| side.div_ceil(factor) as u64);
        sides[0] * sides[1] <= max_pixels.max(1)
    };
    let factor = (1..).find(|&factor| fits(factor)).unwrap_or(1);
    if factor == 1 { image } else { reduce_by(&image, factor) }
}

fn reduce_by(image: &RasterImage, factor: usize) -> RasterImage {
    let pixels = match image.channels() {
        Channels::Grey => block_means::<1>(image, factor),
        Channels::Rgb => block_means::<3>(image, factor),
    };
    let (width, height) = (image.width().div_ceil(factor), image.height().div_ceil(factor));
    RasterImage::new(width, height, image.channels(), pixels).expect("each block gives one pixel")
}

/// Blocks at the right and lower edge are averaged over the pixels they have.
fn block_means<const COUNT: usize>(image: &RasterImage, factor: usize) -> Vec<u8> {
    let (pixels, _) = image.pixels().as_chunks::<COUNT>();
    let width = image.width().div_ceil(factor);
    let mut means = Vec::with_capacity(width * image.height().div_ceil(factor));
    let mut sums = vec![[0u64; COUNT]; width];
    for band in pixels.chunks(image.width() * factor) {
        sums.fill([0; COUNT]);
        for row in band.chunks_exact(image.width()) {
            add_row(&mut sums, row, factor);
        }
        let rows = band.len() / image.width();
        means.extend(sums.iter().enumerate().map(|(block, sum)| {
            let columns = factor.min(image.width() - block * factor);
            let area = (rows * columns) as u64;
            sum.map(|sum| ((sum + area / 2) / area) as u8)
        }));
    }
    means.into_flattened()
}

fn add_row<const COUNT: usize>(sums: &mut [[u64; COUNT]], row: &[[u8; COUNT]], factor: usize) {
    for (block, sums) in row.chunks(factor).zip(sums) {
        for pixel in block {
            for channel in 0..COUNT {
                sums[channel] += u64::from(pixel[channel]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_becomes_its_mean_also_at_the_edges() {
        let image = RasterImage::new(3, 3, Channels::Grey, vec![0, 10, 20, 20, 10, 40, 7, 8, 9]).unwrap();
        let reduced = reduce_by(&image, 2);
        assert_eq!((reduced.width(), reduced.height()), (2, 2));
        assert_eq!(reduced.pixels(), [10, 30, 8, 9]);
    }

    #[test]
    fn channels_stay_apart() {
        let image = RasterImage::new(2, 1, Channels::Rgb, vec![10, 20, 30, 30, 40, 50]).unwrap();
        assert_eq!(reduce_by(&image, 2).pixels(), [20, 30, 40]);
    }

    #[test]
    fn the_factor_is_the_smallest_that_fits() {
        let image = RasterImage::new(100, 60, Channels::Grey, vec![9; 6000]).unwrap();
        assert_eq!(reduce_to(image.clone(), 6000), image);
        let reduced = reduce_to(image, 700);
        assert_eq!((reduced.width(), reduced.height()), (34, 20));
    }
}
