//! What loading images holds where they share memory with the model, by loading the largest of them once.

use std::cmp::Reverse;
use std::sync::Arc;

use data_pipeline::{Dataset, ImageExtent, Loader, LoaderOptions, Transform, largest_images};
use memory_probe::Meter;

/// So many of the largest images are tried until one can be read.
const TRIED: usize = 8;

/// Bytes a pixel of the others where none of them can: RGB, and a copy that is turned upright.
const UNTRIED_PIXEL_BYTES: f64 = 6.0;

/// What workers hold while they load the largest images of a data set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoadingBytes {
    /// Those that take the most first.
    images: Vec<ImageBytes>,
    workers: usize,
}

/// All that lies in memory while one image is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ImageBytes {
    /// Index into the data set's samples.
    sample: usize,
    bytes: u64,
    /// See [`ImageExtent::is_decoded_alone`].
    is_decoded_alone: bool,
}

impl ImageBytes {
    fn new(image: &ImageExtent, bytes: u64) -> Self {
        Self { sample: image.sample, bytes, is_decoded_alone: image.is_decoded_alone }
    }
}

impl LoadingBytes {
    /// Loads the largest image of `dataset` as `options` say; others are taken to be alike, pixel for pixel. One that turns out to be broken counts by what
    /// it took until that was seen, and the next is loaded. Nothing else may allocate meanwhile.
    pub(crate) fn measure(
        dataset: &Arc<Dataset>,
        transform: &Arc<dyn Transform>,
        options: &LoaderOptions,
        meter: &dyn Meter,
    ) -> Self {
        let extents = largest_images(dataset, options.max_pixels);
        let mut images = Vec::with_capacity(extents.len());
        let mut bytes_per_pixel = UNTRIED_PIXEL_BYTES;
        for image in extents.iter().take(TRIED) {
            let options = LoaderOptions { workers: 1, prefetch_batches: 1, first_batch: 0, ..options.clone() };
            meter.reset();
            let before = meter.current_bytes();
            let batch = Loader::new(dataset.clone(), vec![vec![image.sample]], transform.clone(), options).next();
            let is_read = batch.is_some_and(|batch| batch.is_ok_and(|batch| batch.corrupt.is_empty()));
            let bytes = meter.peak_bytes().saturating_sub(before);
            images.push(ImageBytes::new(image, bytes));
            if is_read {
                bytes_per_pixel = bytes as f64 / image.pixels as f64;
                break;
            }
        }
        let tried = images.len();
        let alike = |image: &ImageExtent| ImageBytes::new(image, (image.pixels as f64 * bytes_per_pixel) as u64);
        images.extend(extents[tried..].iter().map(alike));
        images.sort_by_key(|image| Reverse(image.bytes));
        Self { images, workers: options.workers.max(1) }
    }

    /// The most that workers hold together of images from the place `first` on.
    pub(crate) fn most(&self, first: usize) -> u64 {
        let mut in_hands = 0;
        let mut has_large = false;
        let mut bytes = 0;
        for image in self.images.iter().filter(|image| image.sample >= first) {
            // Of those only one is decoded at a time.
            if in_hands == self.workers || (image.is_decoded_alone && has_large) {
                continue;
            }
            has_large |= image.is_decoded_alone;
            in_hands += 1;
            bytes += image.bytes;
        }
        bytes
    }

    /// How much more that is than what as many of the known images hold that stand in their middle by size.
    pub(crate) fn excess(&self, first: usize) -> u64 {
        let images: Vec<&ImageBytes> = self.images.iter().filter(|image| image.sample >= first).collect();
        let Some(middle) = images.get(images.len() / 2) else { return 0 };
        let hands = if middle.is_decoded_alone { 1 } else { self.workers.min(images.len()) };
        self.most(first).saturating_sub(middle.bytes * hands as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use data_pipeline::{Channels, EvalTransform, ResizeMode};

    use super::*;

    /// Images by their place, their pixels at three bytes each, and whether they are decoded alone.
    fn loading(workers: usize, images: &[(usize, u64, bool)]) -> LoadingBytes {
        let held = |&(sample, pixels, is_decoded_alone)| ImageBytes { sample, bytes: 3 * pixels, is_decoded_alone };
        LoadingBytes { images: images.iter().map(held).collect(), workers }
    }

    /// A meter whose peak is another one after each reset.
    struct Laps {
        peaks: Vec<u64>,
        resets: Cell<usize>,
    }

    impl Meter for Laps {
        fn current_bytes(&self) -> u64 {
            0
        }

        fn peak_bytes(&self) -> u64 {
            self.peaks[self.resets.get() - 1]
        }

        fn reset(&self) {
            self.resets.set(self.resets.get() + 1);
        }

        fn reset_without_cost(&self) {}
    }

    #[test]
    fn a_broken_image_counts_by_what_it_took_and_the_next_one_stands_for_the_others() {
        let folder = tempfile::tempdir().expect("the system's temporary folder is writable");
        for class in ["a", "b"] {
            std::fs::create_dir(folder.path().join(class)).expect("writable");
        }
        let picture = |width, name: &str| {
            let noise = |x: u32, y: u32| image::Rgb([(x * 37 + y * 91 + x * y) as u8, (x * y) as u8, y as u8]);
            let path = folder.path().join(name);
            image::RgbImage::from_fn(width, 10, noise).save(&path).expect("writable");
            path
        };
        let broken = picture(100, "a/1.png");
        let bytes = std::fs::read(&broken).expect("written just now");
        std::fs::write(&broken, &bytes[..bytes.len() / 2]).expect("writable");
        picture(10, "b/1.png");
        picture(5, "b/2.png");
        let dataset = Arc::new(Dataset::open(folder.path()).expect("two classes"));
        let transform: Arc<dyn Transform> = Arc::new(EvalTransform::new(8, Channels::Rgb, ResizeMode::Squash));
        let most = |workers| {
            let meter = Laps { peaks: vec![40, 700], resets: Cell::new(0) };
            let options = LoaderOptions { workers, ..LoaderOptions::default() };
            LoadingBytes::measure(&dataset, &transform, &options, &meter).most(0)
        };
        // Seven bytes a pixel, and so 350 of the smallest.
        assert_eq!([most(1), most(2), most(3)], [700, 1050, 1090]);
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
