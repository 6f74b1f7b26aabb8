//! The loader: order, exactness, damage, and a prompt end.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{folder, open, path_in, plain_jpeg, two_classes, write, write_picture};
use data_pipeline::{
    Batch, Channels, DecodeError, DocumentNoise, EraseFill, EvalTransform, LoadError, Loader, LoaderOptions, MixMode,
    Mixing, OnCorrupt, RandAugment, RasterImage, ResizeMode, SampleKey, Sampling, TrainTransform, Transform, batches,
    epoch_order,
};

fn lively() -> Arc<dyn Transform> {
    Arc::new(TrainTransform {
        scale: (0.4, 1.0),
        horizontal_flip: 0.5,
        quarter_turns: true,
        rotation_degrees: 15.0,
        brightness: 0.2,
        hue: 0.1,
        rand_augment: Some(RandAugment::default()),
        noise: DocumentNoise { uneven_light: 0.3, blur: 0.5, speckle: 0.02, jpeg: 0.5, ..Default::default() },
        erase: 0.3,
        erase_fill: EraseFill::Pixel,
        ..TrainTransform::new(16, Channels::Rgb, ResizeMode::Squash)
    })
}

fn plain() -> Arc<dyn Transform> {
    Arc::new(EvalTransform::new(8, Channels::Rgb, ResizeMode::Squash))
}

fn loaded(root: &Path, batch_size: usize, options: LoaderOptions) -> Vec<Result<Batch, LoadError>> {
    let dataset = open(root);
    let order = epoch_order(dataset.len(), options.seed, options.epoch);
    Loader::new(dataset, batches(&order, batch_size), lively(), options).collect()
}

fn whole(results: Vec<Result<Batch, LoadError>>) -> Vec<Batch> {
    results.into_iter().map(Result::unwrap).collect()
}

#[test]
fn one_two_and_five_workers_yield_the_same_bytes_in_the_same_order() {
    let root = folder();
    two_classes(root.path(), 53);
    // A corrupt image in the middle must not change anything either.
    write(&path_in(&root, "cat/broken.jpg"), "no image");
    let run = |workers, prefetch_batches| {
        let options = LoaderOptions { workers, prefetch_batches, seed: 9, epoch: 4, ..Default::default() };
        whole(loaded(root.path(), 7, options))
    };
    let expected = run(1, 1);
    assert_eq!(expected.iter().map(|batch| batch.index).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    let order: Vec<usize> = expected.iter().flat_map(|batch| batch.samples.clone()).collect();
    let corrupt = expected.iter().flat_map(|batch| &batch.corrupt).next().unwrap().sample;
    let wanted: Vec<usize> = epoch_order(54, 9, 4).into_iter().filter(|&sample| sample != corrupt).collect();
    assert_eq!(order, wanted);
    for (workers, prefetch_batches) in [(1, 4), (2, 1), (2, 3), (5, 2), (5, 20), (0, 0)] {
        assert_eq!(run(workers, prefetch_batches), expected, "{workers} workers, {prefetch_batches} batches ahead");
    }
}

/// Everything that chance decides at once: order, views, and what is mixed.
fn mixed_options(workers: usize, first_batch: usize) -> LoaderOptions {
    let mixing = Mixing { mixup_alpha: 0.8, cutmix_alpha: 1.0, mode: MixMode::Element, ..Mixing::default() };
    LoaderOptions { workers, first_batch, mixing, seed: 9, epoch: 4, prefetch_batches: 3, ..Default::default() }
}

/// Classes of 27 and 26 images, one of them corrupt, in batches of balanced classes and two views an image.
fn mixed(root: &Path, workers: usize, first_batch: usize) -> Vec<Batch> {
    let dataset = open(root);
    let order = Sampling { balanced: true, repeats: 2 }.order(&dataset, 9, 4);
    let loader = Loader::new(dataset, batches(&order, 7), lively(), mixed_options(workers, first_batch));
    whole(loader.collect())
}

#[test]
fn mixing_sampling_and_repeats_do_not_depend_on_the_number_of_workers() {
    let root = folder();
    two_classes(root.path(), 52);
    write(&path_in(&root, "cat/broken.jpg"), "no image");
    let expected = mixed(root.path(), 1, 0);
    assert_eq!(expected.iter().map(|batch| batch.samples.len() + batch.corrupt.len()).sum::<usize>(), 53);
    assert!(expected.iter().all(|batch| batch.partners.len() == batch.len()));
    for workers in [2, 5] {
        assert_eq!(mixed(root.path(), workers, 0), expected, "{workers} workers");
    }
}

#[test]
fn a_loader_that_begins_in_mid_epoch_yields_what_was_left_of_it() {
    let root = folder();
    two_classes(root.path(), 52);
    let whole_epoch = mixed(root.path(), 2, 0);
    for first_batch in [1, 4, 7, 8, 100] {
        let left = whole_epoch.get(first_batch..).unwrap_or_default();
        assert_eq!(mixed(root.path(), 2, first_batch), left, "from batch {first_batch}");
    }
}

#[test]
fn batches_that_are_passed_over_are_not_read() {
    let root = folder();
    two_classes(root.path(), 8);
    let transform = Slow::new(0, None);
    let options = LoaderOptions { first_batch: 3, ..Default::default() };
    let loader = Loader::new(open(root.path()), batches(&[0, 1, 2, 3, 4, 5, 6, 7], 2), transform.clone(), options);
    let left = whole(loader.collect());
    assert_eq!((left.len(), left[0].index, left[0].samples.as_slice()), (1, 3, &[6, 7][..]));
    assert_eq!(transform.applied.load(Ordering::SeqCst), 2);
}

#[test]
fn views_of_one_image_in_one_epoch_differ() {
    let root = folder();
    two_classes(root.path(), 4);
    let everything = vec![vec![2, 2, 2]];
    let batch = Loader::new(open(root.path()), everything, lively(), LoaderOptions::default()).next().unwrap().unwrap();
    let views: Vec<&[u8]> = batch.pixels.chunks(batch.sample_bytes()).collect();
    assert!(views[0] != views[1] && views[1] != views[2] && views[0] != views[2]);
}

#[test]
fn a_batch_says_what_it_holds() {
    let root = folder();
    two_classes(root.path(), 10);
    let dataset = open(root.path());
    let batches = vec![vec![3, 0, 9], vec![], vec![1]];
    let results = whole(Loader::new(Arc::clone(&dataset), batches, plain(), LoaderOptions::default()).collect());
    assert_eq!(results[0].size, [8, 8, 3]);
    assert_eq!(results[0].pixels.len(), 3 * results[0].sample_bytes());
    assert_eq!(results[0].samples, [3, 0, 9]);
    let labels: Vec<_> = [3, 0, 9].iter().map(|&sample: &usize| dataset.samples[sample].label).collect();
    assert_eq!(results[0].labels, labels);
    assert!(results[1].is_empty());
    assert_eq!(results[2].len(), 1);
}

#[test]
fn another_epoch_changes_the_pixels_and_the_same_one_does_not() {
    let root = folder();
    two_classes(root.path(), 6);
    let pixels = |epoch| {
        let options = LoaderOptions { epoch, seed: 1, ..Default::default() };
        let everything = vec![(0..6).collect()];
        Loader::new(open(root.path()), everything, lively(), options).next().unwrap().unwrap().pixels
    };
    assert_eq!(pixels(1), pixels(1));
    assert_ne!(pixels(1), pixels(2));
}

/// Four good images, a truncated jpeg and a text file.
fn with_damage(root: &Path) {
    for index in 0..4 {
        write_picture(&root.join(["cat", "dog"][index % 2]).join(format!("{index}.jpg")), 40, 30, index as u32);
    }
    let bytes = std::fs::read(root.join("cat/0.jpg")).unwrap();
    write(&root.join("cat/truncated.jpg"), &bytes[..bytes.len() / 2]);
    write(&root.join("dog/words.jpg"), "words");
}

#[test]
fn corrupt_images_are_skipped_counted_and_listed() {
    let root = folder();
    with_damage(root.path());
    let dataset = open(root.path());
    let batches = batches(&[0, 1, 2, 3, 4, 5], 3);
    let results = whole(Loader::new(dataset, batches, plain(), LoaderOptions::default()).collect());
    assert_eq!(results[0].samples, [0, 1]);
    assert_eq!(results[0].corrupt.len(), 1);
    assert!(results[0].corrupt[0].path.ends_with("cat/truncated.jpg"));
    assert_eq!(results[0].corrupt[0].reason, "the jpeg is cut off: it has no end marker");
    assert_eq!((results[1].samples.as_slice(), results[1].corrupt[0].sample), (&[3, 4][..], 5));
    assert_eq!(results[1].pixels.len(), 2 * results[1].sample_bytes());
}

#[test]
fn a_corrupt_image_fails_the_loader_where_asked_always_at_the_same_one() {
    let root = folder();
    with_damage(root.path());
    for workers in [1, 2, 5] {
        let options = LoaderOptions { workers, on_corrupt: OnCorrupt::Fail, ..Default::default() };
        let mut loader = Loader::new(open(root.path()), vec![vec![0], vec![5, 2], vec![1]], plain(), options);
        assert!(loader.next().unwrap().is_ok());
        let error = loader.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("dog/words.jpg"), "{error}");
        assert!(matches!(&error, LoadError::Image(DecodeError::CorruptImage { .. })));
        assert!(error.hint().unwrap().contains("on_corrupt"));
        assert!(loader.next().is_none(), "after an error the loader has ended");
    }
}

#[test]
fn an_index_beyond_the_data_set_is_an_error() {
    let root = folder();
    two_classes(root.path(), 4);
    let mut loader = Loader::new(open(root.path()), vec![vec![0, 4]], plain(), LoaderOptions::default());
    assert_eq!(loader.next(), Some(Err(LoadError::NoSuchSample { sample: 4, samples: 4 })));
}

#[test]
fn images_of_one_pixel_and_of_12000_by_9000_load_side_by_side() {
    let root = folder();
    write_picture(&path_in(&root, "small/1.png"), 1, 1, 3);
    write(&path_in(&root, "large/1.jpg"), plain_jpeg(12_000, 9_000));
    let options = LoaderOptions { workers: 3, ..Default::default() };
    let batch = Loader::new(open(root.path()), vec![vec![0, 1]], plain(), options).next().unwrap().unwrap();
    assert_eq!(batch.len(), 2);
    assert!(batch.pixels[..batch.sample_bytes()].iter().all(|&value| value == 128));
}

/// Sleeps, counts, and panics at one sample.
struct Slow {
    pause: Duration,
    applied: AtomicUsize,
    panics_at: Option<u64>,
}

impl Slow {
    fn new(milliseconds: u64, panics_at: Option<u64>) -> Arc<Self> {
        Arc::new(Self { pause: Duration::from_millis(milliseconds), applied: AtomicUsize::new(0), panics_at })
    }
}

impl Transform for Slow {
    fn channels(&self) -> Channels {
        Channels::Grey
    }

    fn image_size(&self) -> usize {
        1
    }

    fn apply(&self, image: &RasterImage, key: SampleKey, output: &mut [u8]) {
        assert_ne!(Some(key.sample), self.panics_at, "told to");
        thread::sleep(self.pause);
        self.applied.fetch_add(1, Ordering::SeqCst);
        output[0] = image.pixels()[0];
    }
}

#[test]
fn dropping_the_loader_in_mid_epoch_returns_at_once_and_leaves_no_thread() {
    let root = folder();
    two_classes(root.path(), 8);
    let order: Vec<usize> = (0..8).cycle().take(4000).collect();
    let transform = Slow::new(5, None);
    let options = LoaderOptions { workers: 4, prefetch_batches: 3, ..Default::default() };
    let mut loader = Loader::new(open(root.path()), batches(&order, 4), transform.clone(), options);
    assert!(loader.next().unwrap().is_ok());
    let start = Instant::now();
    drop(loader);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    // The workers held the other references.
    assert_eq!(Arc::strong_count(&transform), 1);
}

#[test]
fn a_loader_that_nobody_reads_stops_at_its_bound_and_drops() {
    let root = folder();
    two_classes(root.path(), 8);
    let order: Vec<usize> = (0..8).cycle().take(400).collect();
    let transform = Slow::new(0, None);
    let options = LoaderOptions { workers: 3, prefetch_batches: 2, ..Default::default() };
    let loader = Loader::new(open(root.path()), batches(&order, 5), transform.clone(), options);
    let start = Instant::now();
    while transform.applied.load(Ordering::SeqCst) < 2 * 5 {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing was made beforehand");
        thread::sleep(Duration::from_millis(5));
    }
    // Time for more, if it took it.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(transform.applied.load(Ordering::SeqCst), 2 * 5);
    assert_eq!(loader.buffered_bytes(), 3 * 5 + 3);
}

#[test]
fn an_interrupt_ends_a_waiting_loader() {
    let root = folder();
    two_classes(root.path(), 8);
    let interrupt = Arc::new(AtomicBool::new(false));
    let options = LoaderOptions { interrupt: Some(Arc::clone(&interrupt)), ..Default::default() };
    let slow_batch: Vec<usize> = (0..8).cycle().take(400).collect();
    let mut loader = Loader::new(open(root.path()), vec![slow_batch], Slow::new(20, None), options);
    let raiser = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        interrupt.store(true, Ordering::Relaxed);
    });
    let start = Instant::now();
    assert_eq!(loader.next(), Some(Err(LoadError::Interrupted)));
    assert!(loader.next().is_none());
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(loader.wait_seconds() >= 0.09);
    raiser.join().unwrap();
}

#[test]
fn a_panic_in_a_worker_becomes_an_error_that_names_the_image() {
    let root = folder();
    two_classes(root.path(), 8);
    let options = LoaderOptions { workers: 2, ..Default::default() };
    let everything = vec![vec![0, 1], vec![2, 3], vec![4, 5]];
    let mut loader = Loader::new(open(root.path()), everything, Slow::new(1, Some(2)), options);
    assert!(loader.next().unwrap().is_ok());
    let error = loader.next().unwrap().unwrap_err();
    assert!(matches!(&error, LoadError::WorkerPanicked { message, .. } if message.contains("told to")), "{error:?}");
    assert!(loader.next().is_none());
}

#[test]
fn an_empty_epoch_ends_at_once() {
    let root = folder();
    two_classes(root.path(), 4);
    let mut loader = Loader::new(open(root.path()), Vec::new(), plain(), LoaderOptions::default());
    assert!(loader.next().is_none());
    assert_eq!(loader.buffered_bytes(), 192);
}

#[test]
fn many_short_epochs_never_hang() {
    let root = folder();
    write_picture(&path_in(&root, "a/1.bmp"), 2, 2, 1);
    write_picture(&path_in(&root, "b/1.bmp"), 2, 2, 2);
    let dataset = open(root.path());
    for epoch in 0..300 {
        let order = epoch_order(2, 1, epoch);
        let options = LoaderOptions {
            workers: 1 + epoch as usize % 6,
            prefetch_batches: epoch as usize % 4,
            epoch,
            ..Default::default()
        };
        let loader = Loader::new(Arc::clone(&dataset), batches(&order, 1 + epoch as usize % 2), plain(), options);
        // Every third one is left half read.
        let count = if epoch % 3 == 0 { 1 } else { 2 };
        assert!(loader.take(count).all(|batch| batch.is_ok()));
    }
}
