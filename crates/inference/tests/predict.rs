//! Whole predictions: files on disk, a loader, a tiny model, every view.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use data_pipeline::{
    Channels, Dataset, EvalTransform, Loader, LoaderOptions, RasterImage, ResizeMode, SampleKey, Transform, batches,
};
use image::{Rgb, RgbImage};
use inference::{
    FittedTo, Merge, Outcome, PredictError, PredictOptions, Prediction, Predictor, Preset, Symmetry, Variation, View,
    predict, predict_together, score, view_likelihoods,
};
use tempfile::TempDir;
use trainer::{FaultPlan, Normalization, OutOfMemory, Phase, Pieces, Scoring};
use vision_nn::{Classifier, Initializer, Linear, Pass};

const IMAGE_SIZE: usize = 8;

thread_local! {
    /// How many images each pass had, the last one last.
    static SHAPES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// One linear layer over all pixels: what it says depends on where things are, so that every view counts.
#[derive(Module, Debug)]
struct PixelModel {
    head: Linear,
}

impl PixelModel {
    fn new(classes: usize) -> Self {
        Self::seeded(classes, 5)
    }

    fn seeded(classes: usize, seed: u64) -> Self {
        let mut init = Initializer::new(seed, vision_nn::Initialization::Reference, &Device::flex());
        Self { head: Linear::init(3 * IMAGE_SIZE * IMAGE_SIZE, classes, 0.1, &mut init) }
    }
}

impl Classifier for PixelModel {
    fn num_segments(&self) -> usize {
        0
    }

    fn forward_segment(&self, _index: usize, map: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        map
    }

    fn is_segment_trained(&self, _index: usize) -> bool {
        false
    }

    fn forward_head(&self, images: Tensor<4>, _pass: &mut Pass) -> Tensor<2> {
        let [batch, channels, height, width] = images.dims();
        SHAPES.with_borrow_mut(|shapes| shapes.push(batch));
        self.head.forward(images.reshape([batch, channels * height * width])) // [B, K]
    }
}

/// The usual transform, which counts how often it runs.
struct Counted {
    inner: EvalTransform,
    count: Arc<AtomicUsize>,
}

impl Transform for Counted {
    fn channels(&self) -> Channels {
        self.inner.channels()
    }

    fn image_size(&self) -> usize {
        self.inner.image_size()
    }

    fn apply(&self, image: &RasterImage, key: SampleKey, output: &mut [u8]) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.inner.apply(image, key, output);
    }
}

/// Seven pictures of two classes on disk; `cat/4.png` is a text file.
struct Bench {
    folder: TempDir,
    dataset: Arc<Dataset>,
    loaded: Arc<AtomicUsize>,
    normalization: Normalization,
    device: Device,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..7u32 {
            let path = folder.path().join(["cat", "dog"][index as usize % 2]).join(format!("{}.png", index / 2));
            write_picture(&path, index);
        }
        std::fs::write(folder.path().join("cat/4.png"), "no picture").unwrap();
        let classes = ["cat".to_owned(), "dog".to_owned()];
        let dataset = Arc::new(Dataset::open_for_prediction(folder.path(), &classes).unwrap());
        Self {
            folder,
            dataset,
            loaded: Arc::default(),
            normalization: Normalization::imagenet(3),
            device: Device::flex(),
        }
    }

    fn loader(&self, order: &[usize], batch_size: usize) -> Loader {
        let inner = EvalTransform::new(IMAGE_SIZE, Channels::Rgb, ResizeMode::default());
        let transform = Arc::new(Counted { inner, count: Arc::clone(&self.loaded) });
        Loader::new(Arc::clone(&self.dataset), batches(order, batch_size), transform, LoaderOptions::default())
    }

    fn options<'a>(&'a self, views: &'a [View]) -> PredictOptions<'a> {
        PredictOptions {
            views,
            merge: &Merge::Mean,
            normalization: &self.normalization,
            device: &self.device,
            precision: Default::default(),
            classes: &self.dataset.classes,
            fixed_shapes: false,
        }
    }

    fn predict(&self, views: &[View], batch_size: usize) -> Vec<Prediction> {
        let order: Vec<usize> = (0..self.dataset.len()).collect();
        let loader = &mut self.loader(&order, batch_size);
        predict(&PixelModel::new(2), &self.dataset, loader, &self.options(views), &mut whole(), &mut |_| {}).unwrap()
    }

    /// With at most `at_once` images in a pass, each view of an image counted as one.
    fn predict_in_passes(&self, views: &[View], at_once: usize) -> Vec<Prediction> {
        let loader = &mut self.loader(&(0..self.dataset.len()).collect::<Vec<_>>(), 4);
        let (mut pieces, options) = (whole().at_most(at_once), self.options(views));
        predict(&PixelModel::new(2), &self.dataset, loader, &options, &mut pieces, &mut |_| {}).unwrap()
    }

    fn error(&self, model: &PixelModel, order: &[usize], options: &PredictOptions) -> PredictError {
        predict(model, &self.dataset, &mut self.loader(order, 3), options, &mut whole(), &mut |_| {}).unwrap_err()
    }
}

/// Batches as the loader gives them.
fn whole() -> Pieces {
    Pieces::new(Phase::Prediction, FaultPlan::default())
}

fn write_picture(path: &Path, seed: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let shade = |x: u32, y: u32, c: u32| ((x * 31 + y * 57 + x * y * (seed + 3) + c * 71 + seed * 91) % 256) as u8;
    RgbImage::from_fn(11, 9, |x, y| Rgb([shade(x, y, 0), shade(x, y, 1), shade(x, y, 2)])).save(path).unwrap();
}

/// `(plain, merged)` of the images that were scored.
fn probabilities(predictions: &[Prediction]) -> Vec<(&[f32], &[f32])> {
    let scored = predictions.iter().filter_map(|prediction| match &prediction.outcome {
        Outcome::Scored { plain, merged } => Some((plain.as_slice(), merged.as_slice())),
        _ => None,
    });
    scored.collect()
}

#[test]
fn every_file_has_a_prediction_in_order_and_an_unreadable_one_has_its_reason() {
    let bench = Bench::new();
    let predictions = bench.predict(&Preset::Essential.views(), 3);
    let samples: Vec<usize> = predictions.iter().map(|prediction| prediction.sample).collect();
    assert_eq!(samples, (0..8).collect::<Vec<_>>());
    let readable = predictions.iter().filter(|prediction| prediction.outcome.error().is_none()).count();
    assert_eq!(readable, 7);
    let text_file = (0..8).find(|&sample| bench.dataset.relative_path(sample) == Path::new("cat/4.png"));
    assert_eq!(text_file, Some(4));
    assert!(matches!(&predictions[4].outcome, Outcome::Unreadable { reason } if !reason.is_empty()), "{predictions:?}");

    let csv = bench.folder.path().join("out.csv");
    inference::write_csv(&csv, &bench.dataset, &bench.dataset.classes, &predictions).unwrap();
    let csv = std::fs::read_to_string(csv).unwrap();
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!((rows.len(), rows[0]), (9, "file,class,cat,dog,error"));
    assert!(rows[5].starts_with("cat/4.png,,,,") && rows[5].len() > 13, "{}", rows[5]);
    let scores = score(&bench.dataset, &predictions).unwrap();
    assert_eq!((scores.plain.total(), scores.merged.total(), scores.left_out), (7, 7, 1));
}

#[test]
fn without_augmentation_merged_equals_plain() {
    for (plain, merged) in probabilities(&Bench::new().predict(&Preset::None.views(), 3)) {
        assert_eq!(plain, merged);
    }
}

#[test]
fn probabilities_sum_to_one_and_plain_is_the_same_in_every_preset() {
    let bench = Bench::new();
    let none = bench.predict(&Preset::None.views(), 3);
    for preset in Preset::ALL {
        let predictions = bench.predict(&preset.views(), 3);
        for ((plain, merged), (plain_of_none, _)) in probabilities(&predictions).into_iter().zip(probabilities(&none)) {
            assert_eq!(plain, plain_of_none, "{preset}");
            for row in [plain, merged] {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{preset}: {row:?}");
            }
        }
    }
}

#[test]
fn merged_is_the_mean_of_what_each_view_says_alone() {
    let bench = Bench::new();
    let views = Preset::Comprehensive.views();
    let merged = bench.predict(&views, 3);
    let alone: Vec<Vec<Prediction>> = views.iter().map(|&view| bench.predict(&[view], 3)).collect();
    for (image, (_, merged)) in probabilities(&merged).into_iter().enumerate() {
        for (class, probability) in merged.iter().enumerate() {
            let mean = alone.iter().map(|view| f64::from(probabilities(view)[image].1[class])).sum::<f64>() / 15.0;
            assert!((mean - f64::from(*probability)).abs() < 1e-6, "image {image}: {mean} and {probability}");
        }
    }
}

#[test]
fn views_of_several_images_in_one_pass_say_what_each_says_alone() {
    let bench = Bench::new();
    for views in [
        Preset::Comprehensive.views(),
        vec![View::from(Variation::Zoom { factor: 1.2 }), View::from(Symmetry::Rotate90)],
    ] {
        let one_by_one = bench.predict_in_passes(&views, 1);
        // A part of a view; one view; one and a part; several; all at once.
        for at_once in [3, 4, 7, 13, 1000] {
            let found = bench.predict_in_passes(&views, at_once);
            let rows = probabilities(&found).into_iter().zip(probabilities(&one_by_one));
            for ((plain, merged), (plain_alone, merged_alone)) in rows {
                let pairs = plain.iter().chain(merged).zip(plain_alone.iter().chain(merged_alone));
                // Matrix products of other sizes may add in another order.
                assert!(pairs.into_iter().all(|(found, alone)| (found - alone).abs() < 1e-5), "{at_once} at once");
            }
            assert_eq!(found[4], one_by_one[4], "the unreadable image");
        }
    }
}

#[test]
fn passes_of_one_shape_say_what_short_ones_say() {
    let bench = Bench::new();
    for (views, at_once) in
        [(Preset::None.views(), 3), (Preset::Essential.views(), 16), (Preset::Comprehensive.views(), 7)]
    {
        let predict_with = |fixed_shapes| {
            let options = PredictOptions { fixed_shapes, ..bench.options(&views) };
            let loader = &mut bench.loader(&(0..8).collect::<Vec<_>>(), 4);
            let (model, mut pieces) = (PixelModel::new(2), whole().at_most(at_once));
            SHAPES.with_borrow_mut(Vec::clear);
            let found = predict(&model, &bench.dataset, loader, &options, &mut pieces, &mut |_| {}).unwrap();
            (found, SHAPES.take())
        };
        let ((short, short_shapes), (whole, whole_shapes)) = (predict_with(false), predict_with(true));
        assert!(short_shapes.iter().any(|&images| images < at_once), "{short_shapes:?}");
        assert!(whole_shapes.iter().all(|&images| images == at_once), "{whole_shapes:?}");
        assert_eq!(short_shapes.len(), whole_shapes.len());
        for ((_, found), (_, expected)) in probabilities(&whole).into_iter().zip(probabilities(&short)) {
            // Matrix products of other sizes may add in another order.
            assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5));
        }
        assert_eq!(whole[4], short[4], "the unreadable image");
    }
}

#[test]
fn passes_of_one_shape_become_smaller_together_when_memory_runs_out() {
    let bench = Bench::new();
    let views = Preset::Legacy.views();
    let options = PredictOptions { fixed_shapes: true, ..bench.options(&views) };
    let mut pieces = Pieces::new(Phase::Prediction, "eval:1".parse().unwrap()).at_most(8);
    let loader = &mut bench.loader(&(0..8).collect::<Vec<_>>(), 4);
    SHAPES.with_borrow_mut(Vec::clear);
    predict(&PixelModel::new(2), &bench.dataset, loader, &options, &mut pieces, &mut |_| {}).unwrap();
    // Four images in three views; then three, of which the first pass is done again.
    assert_eq!(SHAPES.take(), [8, 8, 8, 4, 4, 4]);
}

#[test]
fn merge_rules_reach_the_predictions_and_weights_must_be_one_a_view() {
    let bench = Bench::new();
    let views = Preset::Legacy.views();
    let predict_by = |merge: &Merge| {
        let options = PredictOptions { merge, ..bench.options(&views) };
        let loader = &mut bench.loader(&(0..8).collect::<Vec<_>>(), 3);
        predict(&PixelModel::new(2), &bench.dataset, loader, &options, &mut whole(), &mut |_| {})
    };
    let only_first = predict_by(&Merge::Weighted(vec![1.0, 0.0, 0.0])).unwrap();
    assert_eq!(only_first, bench.predict(&Preset::None.views(), 3));
    assert_ne!(predict_by(&Merge::Max).unwrap(), bench.predict(&views, 3));
    let error = predict_by(&Merge::Weighted(vec![1.0, 0.0])).unwrap_err();
    assert_eq!(error.to_string(), "the weights of the views are not 3 numbers of 0 or more, one of them above 0");
}

#[test]
fn learned_weights_are_those_of_the_labelled_images_that_could_be_scored() {
    let bench = Bench::new();
    let views = Preset::Essential.views();
    let loader = &mut bench.loader(&[6, 3, 0, 7, 1, 2, 5, 4], 3);
    let (model, options) = (PixelModel::new(2), bench.options(&views));
    let likelihoods = view_likelihoods(&model, &bench.dataset, loader, &options, &mut whole(), &mut |_| {}).unwrap();
    let fitted_to = FittedTo { views: Vec::new(), checkpoint: "best".to_owned(), step: 0, weights: None };
    let fitted = likelihoods.fit(fitted_to).unwrap();
    assert_eq!((fitted.images, fitted.weights.len()), (7, 5), "one cannot be read");
    // The mean's loss over the same images, from its predictions.
    let predictions = bench.predict(&views, 3);
    let label = |prediction: &Prediction| bench.dataset.samples[prediction.sample].label.unwrap() as usize;
    let losses = predictions.iter().filter_map(|prediction| match &prediction.outcome {
        Outcome::Scored { merged, .. } => Some(-f64::from(merged[label(prediction)]).ln()),
        _ => None,
    });
    let mean_loss = losses.sum::<f64>() / 7.0;
    assert!((fitted.mean_loss - mean_loss).abs() < 1e-5, "{fitted:?}: {mean_loss}");
}

#[test]
fn plain_is_the_image_as_it_is_also_where_no_view_is() {
    let bench = Bench::new();
    let none = bench.predict(&[View::IDENTITY], 3);
    let turned = bench.predict(&[View::from(Symmetry::Rotate180)], 3);
    for ((plain, merged), (plain_of_none, _)) in probabilities(&turned).into_iter().zip(probabilities(&none)) {
        assert_eq!(plain, plain_of_none);
        assert_ne!(merged, plain);
    }
}

#[test]
fn batch_size_and_order_of_loading_change_nothing() {
    let bench = Bench::new();
    let views = Preset::Legacy.views();
    let expected = bench.predict(&views, 8);
    let loader = &mut bench.loader(&[6, 3, 0, 7, 1, 2, 5, 4], 3);
    let mut done = Vec::new();
    let model = PixelModel::new(2);
    let mut progress = |scoring: Scoring<'_>| match scoring {
        Scoring::Done(count) => done.push(count),
        Scoring::OutOfMemory(event) => panic!("{event:?}"),
    };
    let found = predict(&model, &bench.dataset, loader, &bench.options(&views), &mut whole(), &mut progress);
    let found = found.unwrap();
    assert_eq!(done, [3, 6, 8], "unreadable images count as done");
    assert_eq!(found[4], expected[4]);
    // Matrix products of other sizes may add in another order.
    for ((_, found), (_, expected)) in probabilities(&found).into_iter().zip(probabilities(&expected)) {
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5));
    }
}

#[test]
fn predictions_that_ran_out_of_memory_are_the_same_in_the_same_order() {
    let bench = Bench::new();
    let views = Preset::Essential.views();
    let expected = bench.predict(&views, 4);
    let mut pieces = Pieces::new(Phase::Prediction, "eval:0,eval:1".parse().unwrap()).at_most(4);
    let mut sizes = Vec::new();
    let mut progress = |scoring: Scoring<'_>| match scoring {
        Scoring::Done(done) => sizes.push(("done", done)),
        Scoring::OutOfMemory(event) => {
            assert_eq!((event.phase, event.reason.as_str()), (Phase::Prediction, "injected by a test"));
            sizes.push(("at once", event.micro_batch_after));
        }
    };
    let order: Vec<usize> = (0..8).collect();
    let (model, mut loader) = (PixelModel::new(2), bench.loader(&order, 4));
    let found =
        predict(&model, &bench.dataset, &mut loader, &bench.options(&views), &mut pieces, &mut progress).unwrap();
    // The second batch has three readable images.
    assert_eq!(sizes, [("at once", 2), ("done", 4), ("at once", 1), ("done", 8)]);
    assert!(found.iter().map(|prediction| prediction.sample).eq(0..8));
    assert_eq!(found[4], expected[4]);
    // Matrix products of other sizes may add in another order.
    for ((_, found), (_, expected)) in probabilities(&found).into_iter().zip(probabilities(&expected)) {
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5));
    }
    assert_eq!(bench.loaded.load(Ordering::Relaxed), 2 * 7, "no image was loaded again");
}

#[test]
fn one_image_that_does_not_fit_is_an_error_with_a_way_out() {
    let bench = Bench::new();
    let mut pieces = Pieces::new(Phase::Prediction, "eval:0,eval:0".parse().unwrap()).at_most(2);
    let loader = &mut bench.loader(&(0..8).collect::<Vec<_>>(), 2);
    let options = bench.options(&[View::IDENTITY]);
    let error = predict(&PixelModel::new(2), &bench.dataset, loader, &options, &mut pieces, &mut |_| {}).unwrap_err();
    assert!(matches!(error, PredictError::OutOfMemory { reason: OutOfMemory::Injected }));
    assert_eq!(error.to_string(), "a single image does not fit in memory in prediction");
    assert!(error.hint().is_some());
}

#[test]
fn each_image_is_loaded_once_whatever_the_number_of_views() {
    let bench = Bench::new();
    bench.predict(&Preset::Comprehensive.views(), 3);
    assert_eq!(bench.loaded.load(Ordering::Relaxed), 7);
}

#[test]
fn models_that_share_a_loader_say_what_each_says_alone() {
    let bench = Bench::new();
    let models = [PixelModel::new(2), PixelModel::seeded(2, 6)];
    let views = [Preset::Legacy.views(), Preset::None.views()];
    // Memory runs out for one of them, in its second batch.
    let pieces = || [whole().at_most(5), Pieces::new(Phase::Prediction, "eval:1".parse().unwrap())];
    let loader = || bench.loader(&(0..8).collect::<Vec<_>>(), 3);
    let mut own_pieces = pieces();
    let alone = [0, 1].map(|place| {
        let (options, pieces) = (bench.options(&views[place]), &mut own_pieces[place]);
        predict(&models[place], &bench.dataset, &mut loader(), &options, pieces, &mut |_| {}).unwrap()
    });
    assert_ne!(alone[0], alone[1]);
    bench.loaded.store(0, Ordering::Relaxed);
    let [first, second] = &mut pieces();
    let mut predictors = [
        Predictor { model: &models[0], options: bench.options(&views[0]), pieces: first },
        Predictor { model: &models[1], options: bench.options(&views[1]), pieces: second },
    ];
    let (mut together, mut limits) = ([Vec::new(), Vec::new()], Vec::new());
    let mut take = |place: usize, batch: Vec<Prediction>, at_once: usize| {
        together[place].extend(batch);
        limits.push((place, at_once));
        Ok::<(), PredictError>(())
    };
    predict_together(&mut predictors, &bench.dataset, &mut loader(), &mut |_| {}, &mut take).unwrap();
    assert_eq!(together, alone);
    assert_eq!(limits, [(0, 5), (1, usize::MAX), (0, 5), (1, 1), (0, 5), (1, 1)]);
    assert_eq!(bench.loaded.load(Ordering::Relaxed), 7, "each image is loaded once");
}

#[test]
fn a_batch_that_one_of_several_models_fails_at_is_given_for_none() {
    let bench = Bench::new();
    let models = [PixelModel::new(2), PixelModel::new(5)];
    let (views, [first, second]) = (Preset::None.views(), &mut [whole(), whole()]);
    let mut predictors = [
        Predictor { model: &models[0], options: bench.options(&views), pieces: first },
        Predictor { model: &models[1], options: bench.options(&views), pieces: second },
    ];
    let mut take = |_: usize, _: Vec<Prediction>, _: usize| -> Result<(), PredictError> {
        panic!("the second model has no predictions")
    };
    let loader = &mut bench.loader(&(0..8).collect::<Vec<_>>(), 3);
    let error = predict_together(&mut predictors, &bench.dataset, loader, &mut |_| {}, &mut take).unwrap_err();
    assert!(matches!(error, PredictError::ModelWidth { expected: 2, found: 5 }), "{error}");
}

#[test]
fn scores_that_are_no_numbers_are_told_for_the_image_they_belong_to() {
    let bench = Bench::new();
    let mut normalization = Normalization::imagenet(3);
    normalization.std = vec![0.0; 3];
    let options = PredictOptions { normalization: &normalization, ..bench.options(&[View::IDENTITY]) };
    let loader = &mut bench.loader(&(0..8).collect::<Vec<_>>(), 3);
    let predictions =
        predict(&PixelModel::new(2), &bench.dataset, loader, &options, &mut whole(), &mut |_| {}).unwrap();
    assert_eq!(predictions[0].outcome, Outcome::NotFinite { view: View::IDENTITY });
    assert!(matches!(predictions[4].outcome, Outcome::Unreadable { .. }));
    assert_eq!(score(&bench.dataset, &predictions).unwrap().left_out, 8);
}

#[test]
fn what_does_not_fit_together_is_an_error_that_says_so() {
    let bench = Bench::new();
    let all: Vec<usize> = (0..8).collect();
    let (model, views) = (PixelModel::new(2), Preset::Legacy.views());
    let options = bench.options(&views);

    let error = bench.error(&model, &all, &PredictOptions { views: &[], ..options });
    assert_eq!(error.to_string(), "the list of views is empty");
    assert!(error.hint().is_some());

    let swapped = ["dog".to_owned(), "cat".to_owned()];
    let error = bench.error(&model, &all, &PredictOptions { classes: &swapped, ..options });
    assert_eq!(error.to_string(), "the data set is labelled with 2 classes, which are not the 2 of the model");

    let error = bench.error(&PixelModel::new(5), &all, &options);
    assert_eq!(error.to_string(), "the model gives 5 scores an image, but there are 2 classes");

    let grey = Normalization::imagenet(1);
    let error = bench.error(&model, &all, &PredictOptions { normalization: &grey, ..options });
    assert_eq!(error.to_string(), "images have 3 channels, but they are to be normalised with 1");

    let error = bench.error(&model, &[0, 1, 2, 3, 5, 7], &options);
    let PredictError::NotLoaded { missing, samples, first } = error else { panic!("{error}") };
    assert_eq!((missing, samples, first), (2, 8, PathBuf::from(&bench.dataset.samples[4].path)));
}
