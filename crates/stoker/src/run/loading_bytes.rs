//! What loading images holds where they share memory with the model, by loading the largest of them once.

use std::sync::Arc;

use data_pipeline::{Dataset, ImageExtent, Loader, LoaderOptions, Transform, largest_images};
use memory_probe::Meter;

/// So many of the largest images are tried until one can be read.
const TRIED: usize = 3;

/// Bytes a pixel where none of them can: RGB, and a copy that is turned upright.
const UNREADABLE_PIXEL_BYTES: f64 = 6.0;

/// What workers hold while they load the largest images of a data set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoadingBytes {
    /// The largest first.
    images: Vec<ImageExtent>,
    /// Of the largest that can be read, all that lies in memory while it is loaded; others are taken to be alike.
    bytes_per_pixel: f64,
    workers: usize,
}

impl LoadingBytes {
    /// Loads the largest image of `dataset` as `options` say. Nothing else may allocate meanwhile.
    pub(crate) fn measure(
        dataset: &Arc<Dataset>,
        transform: &Arc<dyn Transform>,
        options: &LoaderOptions,
        meter: &dyn Meter,
    ) -> Self {
        let images = largest_images(dataset);
        let measured = images.iter().take(TRIED).find_map(|image| {
            let options = LoaderOptions { workers: 1, prefetch_batches: 1, first_batch: 0, ..options.clone() };
            meter.reset();
            let before = meter.current_bytes();
            let batch = Loader::new(dataset.clone(), vec![vec![image.sample]], transform.clone(), options).next();
            let is_read = batch.is_some_and(|batch| batch.is_ok_and(|batch| batch.corrupt.is_empty()));
            let bytes = meter.peak_bytes().saturating_sub(before);
            is_read.then(|| bytes as f64 / image.pixels as f64)
        });
        let bytes_per_pixel = measured.unwrap_or(UNREADABLE_PIXEL_BYTES);
        Self { images, bytes_per_pixel, workers: options.workers.max(1) }
    }

    /// The most that workers hold together of images from the place `first` on.
    pub(crate) fn most(&self, first: usize) -> u64 {
        let mut in_hands = 0;
        let mut has_large = false;
        let mut pixels = 0;
        for image in self.images.iter().filter(|image| image.sample >= first) {
            // Of those only one is decoded at a time.
            if in_hands == self.workers || (image.is_decoded_alone && has_large) {
                continue;
            }
            has_large |= image.is_decoded_alone;
            in_hands += 1;
            pixels += image.pixels;
        }
        self.bytes_of(pixels)
    }

    /// How much more that is than what as many of the known images hold that stand in their middle by size.
    pub(crate) fn excess(&self, first: usize) -> u64 {
        let images: Vec<&ImageExtent> = self.images.iter().filter(|image| image.sample >= first).collect();
        let Some(middle) = images.get(images.len() / 2) else { return 0 };
        let hands = if middle.is_decoded_alone { 1 } else { self.workers.min(images.len()) };
        self.most(first).saturating_sub(self.bytes_of(middle.pixels * hands as u64))
    }

    fn bytes_of(&self, pixels: u64) -> u64 {
        (pixels as f64 * self.bytes_per_pixel) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loading(workers: usize, images: &[(usize, u64, bool)]) -> LoadingBytes {
        let extent = |&(sample, pixels, is_decoded_alone)| ImageExtent { sample, pixels, is_decoded_alone };
        LoadingBytes { images: images.iter().map(extent).collect(), bytes_per_pixel: 3.0, workers }
    }

    #[test]
    fn workers_hold_the_largest_images_that_come_later() {
        let images = [(0, 900, false), (7, 500, false), (3, 400, false), (9, 100, false)];
        assert_eq!(loading(1, &images).most(0), 2700);
        assert_eq!(loading(2, &images).most(1), 2700);
        assert_eq!(loading(8, &images).most(4), 1800);
        assert_eq!(loading(2, &images).most(10), 0);
    }

    #[test]
    fn of_images_that_wait_for_each_other_one_is_held() {
        let images = [(0, 900, true), (1, 800, true), (2, 100, false)];
        assert_eq!(loading(2, &images).most(0), 3000);
        assert_eq!(loading(2, &images[..2]).most(0), 2700);
    }

    #[test]
    fn what_one_outlier_takes_more_is_told_apart() {
        let images = [(5, 900, false), (1, 100, false), (2, 100, false)];
        assert_eq!(loading(1, &images).excess(0), 2400);
        assert_eq!(loading(2, &images).excess(0), 2400);
        assert_eq!(loading(2, &images[1..]).excess(0), 0);
        assert_eq!(loading(2, &images).excess(6), 0);
    }
}
