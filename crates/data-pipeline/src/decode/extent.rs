//! Which images are the largest, from the headers alone.

use std::cmp::Reverse;
use std::fs;

use image::ImageReader;

use super::LARGE_PIXELS;
use crate::Dataset;

/// Files whose headers are read: those with the most bytes. Pixels and bytes do not rise together exactly, so one would be too few.
const HEADERS_READ: usize = 64;

/// How large an image is, by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageExtent {
    /// Index into [`Dataset::samples`].
    pub sample: usize,
    /// Width times height.
    pub pixels: u64,
    /// Whether it is so large that it waits for others of its kind ([`decode`](super::decode())).
    pub is_decoded_alone: bool,
}

/// The images with the most pixels, the largest first, among the 64 files of `dataset` with the most bytes. Left out are files without a header that can be
/// read, and those of more than `max_pixels`, which a loader with that limit never decodes: it reports both.
#[must_use]
pub fn largest_images(dataset: &Dataset, max_pixels: u64) -> Vec<ImageExtent> {
    let mut files: Vec<(u64, usize)> = dataset
        .samples
        .iter()
        .enumerate()
        .map(|(index, sample)| (fs::metadata(&sample.path).map_or(0, |file| file.len()), index))
        .collect();
    files.sort_unstable_by_key(|&(bytes, index)| (Reverse(bytes), index));
    files.truncate(HEADERS_READ);
    let extent = |&(_, sample): &(u64, usize)| {
        let pixels = pixels(dataset, sample).filter(|pixels| (1..=max_pixels).contains(pixels))?;
        Some(ImageExtent { sample, pixels, is_decoded_alone: pixels > LARGE_PIXELS })
    };
    let mut images: Vec<ImageExtent> = files.iter().filter_map(extent).collect();
    images.sort_by_key(|image| Reverse(image.pixels));
    images
}

fn pixels(dataset: &Dataset, index: usize) -> Option<u64> {
    let reader = ImageReader::open(&dataset.samples[index].path).ok()?.with_guessed_format().ok()?;
    let (width, height) = reader.into_dimensions().ok()?;
    Some(u64::from(width) * u64::from(height))
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    #[test]
    fn the_largest_image_counts_and_broken_files_do_not() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            fs::create_dir(folder.path().join(class)).unwrap();
        }
        RgbImage::new(30, 20).save(folder.path().join("a/1.png")).unwrap();
        RgbImage::new(8, 8).save(folder.path().join("b/1.png")).unwrap();
        fs::write(folder.path().join("b/2.png"), vec![0; 5000]).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        let images = |max_pixels| -> Vec<(usize, u64)> {
            largest_images(&dataset, max_pixels).iter().map(|image| (image.sample, image.pixels)).collect()
        };
        assert_eq!(images(600), [(0, 600), (1, 64)]);
        assert_eq!(images(599), [(1, 64)], "what is refused takes no memory");
    }
}
