//! How much memory decoding takes, from the headers alone.

use std::cmp::Reverse;
use std::fs;

use image::ImageReader;

use crate::Dataset;

/// Files whose headers are read: those with the most bytes. Pixels and bytes do not rise together exactly, so one would be too few.
const HEADERS_READ: usize = 64;

/// A decoded image stands beside its copy while it is turned upright or shrunk.
const COPIES: u64 = 2;

/// Bytes of one RGB pixel; decoders make RGB of most grey images on the way.
const PIXEL_BYTES: u64 = 3;

/// The most bytes that decoding one image of `dataset` takes, judged by the headers of its largest files. Files that cannot be read count
/// as nothing here: the loader reports them.
#[must_use]
pub fn largest_decode_bytes(dataset: &Dataset) -> u64 {
    let mut files: Vec<(u64, usize)> = dataset
        .samples
        .iter()
        .enumerate()
        .map(|(index, sample)| (fs::metadata(&sample.path).map_or(0, |file| file.len()), index))
        .collect();
    files.sort_unstable_by_key(|&(bytes, index)| (Reverse(bytes), index));
    files.truncate(HEADERS_READ);
    let pixels = files.iter().filter_map(|&(_, index)| pixels(dataset, index)).max().unwrap_or(0);
    pixels * PIXEL_BYTES * COPIES
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
        assert_eq!(largest_decode_bytes(&dataset), 30 * 20 * 3 * 2);
    }
}
