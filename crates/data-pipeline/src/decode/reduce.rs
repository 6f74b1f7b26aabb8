//! Shrinks large images by a whole factor: the mean of each block, which is exact antialiasing for that factor.

use crate::RasterImage;

/// Reduces by the smallest whole factor that leaves at most `max_pixels`, and by nothing where that already holds.
pub(super) fn reduce_to(image: RasterImage, max_pixels: u64) -> RasterImage {
    let fits = |factor: usize| {
        let sides = [image.width(), image.height()].map(|side| side.div_ceil(factor) as u64);
        sides[0] * sides[1] <= max_pixels.max(1)
    };
    let factor = (1..).find(|&factor| fits(factor)).unwrap_or(1);
    if factor == 1 { image } else { reduce_by(&image, factor) }
}

/// Blocks at the right and lower edge are averaged over the pixels they have.
fn reduce_by(image: &RasterImage, factor: usize) -> RasterImage {
    let count = image.channels().count();
    let (width, height) = (image.width().div_ceil(factor), image.height().div_ceil(factor));
    let mut pixels = Vec::with_capacity(width * height * count);
    let mut sums = vec![0u64; width * count];
    for band in image.pixels().chunks(image.width() * count * factor) {
        sums.fill(0);
        for row in band.chunks_exact(image.width() * count) {
            add_row(&mut sums, row, factor, count);
        }
        let rows = band.len() / (image.width() * count);
        pixels.extend(sums.iter().enumerate().map(|(place, &sum)| {
            let columns = factor.min(image.width() - place / count * factor);
            let area = (rows * columns) as u64;
            ((sum + area / 2) / area) as u8
        }));
    }
    RasterImage::new(width, height, image.channels(), pixels).expect("each block gives one pixel")
}

fn add_row(sums: &mut [u64], row: &[u8], factor: usize, count: usize) {
    for (block, sums) in row.chunks(factor * count).zip(sums.chunks_exact_mut(count)) {
        for pixel in block.chunks_exact(count) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Channels;

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
