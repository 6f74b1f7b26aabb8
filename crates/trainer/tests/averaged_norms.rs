//! The average of several epochs of a model with batch norms: weights are averaged, and running statistics measured anew.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use checkpoint::{CARD_VERSION, Checkpoint, ModelCard, Progress, RunFolder};
use data_pipeline::{
    Channels, Dataset, EvalTransform, LoadError, LoaderOptions, Mixing, ResizeMode, Sampling, Transform,
};
use image::{Rgb, RgbImage};
use tempfile::TempDir;
use trainer::{
    Constant, GroupOptions, MemoryGauge, Normalization, Schedule, Silent, TrainError, TrainOptions, TrainSession,
    TrainStep, TrainingData, fit,
};
use vision_nn::{BatchNorm, Classifier, Initialization, Initializer, Linear, Pass};

const SIDE: usize = 8;

/// Images of one shade each: seven a class, so that batches of four leave smaller ones.
const SHADES: [[u8; 7]; 2] = [[10, 30, 50, 70, 90, 110, 20], [250, 240, 200, 180, 220, 160, 255]];

/// A batch norm on the image itself, so that its statistics are those of the images.
#[derive(Module, Debug)]
struct Normed {
    norm: BatchNorm,
    fc: Linear,
}

impl Classifier for Normed {
    fn num_segments(&self) -> usize {
        1
    }

    fn forward_segment(&self, _index: usize, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        self.norm.forward(map.permute([0, 2, 3, 1]), pass) // [B, H, W, C]
    }

    fn is_segment_trained(&self, _index: usize) -> bool {
        true
    }

    fn forward_head(&self, map: Tensor<4>, _pass: &mut Pass) -> Tensor<2> {
        let [batch, _, _, channels] = map.dims();
        self.fc.forward(map.mean_dim(1).mean_dim(2).reshape([batch, channels]))
    }
}

struct Unmeasured;

impl MemoryGauge for Unmeasured {
    fn peak_bytes(&self) -> Option<u64> {
        None
    }
}

fn data(folder: &Path) -> TrainingData {
    for (class, shades) in ["dark", "light"].iter().zip(SHADES) {
        std::fs::create_dir_all(folder.join(class)).expect("writable");
        for (number, shade) in shades.into_iter().enumerate() {
            let image = RgbImage::from_pixel(SIDE as u32, SIDE as u32, Rgb([shade; 3]));
            image.save(folder.join(class).join(format!("{number}.png"))).expect("writable");
        }
    }
    let images = Arc::new(Dataset::open(folder).expect("drawn just now"));
    let plain: Arc<dyn Transform> = Arc::new(EvalTransform::new(SIDE, Channels::Rgb, ResizeMode::Squash));
    TrainingData {
        train: images.clone(),
        validation: images,
        train_transform: plain.clone(),
        eval_transform: plain,
        loader: LoaderOptions::default(),
        sampling: Sampling::default(),
        mixing: Mixing::default(),
    }
}

fn session(folder: RunFolder, groups: GroupOptions, device: &Device) -> TrainSession<Normed> {
    let mut init = Initializer::new(1, Initialization::Reference, device);
    let model = Normed { norm: BatchNorm::init(3, 1e-5, &mut init), fc: Linear::init(3, 2, 0.02, &mut init) };
    let options = TrainOptions {
        epochs: 3,
        effective_batch_size: 4,
        micro_batch_size: 4,
        schedule: Schedule::Constant(Constant { peak: 1e-2, warmup_steps: 0 }),
        keep_best: 3,
        groups,
        ..TrainOptions::default()
    };
    let card = ModelCard {
        version: CARD_VERSION,
        model: "normed".to_owned(),
        classes: vec!["dark".to_owned(), "light".to_owned()],
        image_size: SIDE,
        in_channels: 3,
        resize: "squash".to_owned(),
        interpolation: "bilinear".to_owned(),
        crop_share: 0.875,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
        images: None,
        progress: Progress::default(),
    };
    let normalization = Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] };
    TrainSession::new(TrainStep::new(model, options, normalization, device.clone()), card, folder)
}

/// Trains three epochs, and gives the session, its data and the folder that holds both.
fn trained(groups: GroupOptions) -> (TrainSession<Normed>, TrainingData, RunFolder, TempDir) {
    let place = tempfile::tempdir().expect("the system's temporary folder is writable");
    let data = data(&place.path().join("images"));
    let folder = RunFolder::create(&place.path().join("run"), false).expect("writable");
    let device = Device::flex().autodiff();
    let never = Arc::new(AtomicBool::new(false));
    let session = session(folder.clone(), groups, &device);
    let (session, _) = fit(session, &data, &device, &never, &Unmeasured, &mut Silent).expect("it trains");
    (session, data, folder, place)
}

fn saved(path: &Path, name: &str) -> Vec<f64> {
    Checkpoint::read(path).expect("the run wrote it").weights[name].iter::<f64>().collect()
}

fn mean_of_kept(folder: &RunFolder, name: &str) -> Vec<f64> {
    let kept: Vec<Vec<f64>> = (1..=3).map(|epoch| saved(&folder.kept(epoch), name)).collect();
    (0..kept[0].len()).map(|at| kept.iter().map(|weights| weights[at]).sum::<f64>() / 3.0).collect()
}

fn assert_close(found: &[f64], expected: &[f64]) {
    // Sums of f32 over a batch's pixels, a few roundings of 6e-8 each.
    let is_close = |(found, expected): (&f64, &f64)| (found - expected).abs() < 2e-6;
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(is_close), "{found:?} and {expected:?}");
}

#[test]
fn weights_are_averaged_and_the_norm_has_the_mean_over_the_training_images() {
    let (session, data, folder, _place) = trained(GroupOptions::default());
    let never = Arc::new(AtomicBool::new(false));
    let mut seen = Vec::new();
    let averaged = session.average_kept(&data, &Device::flex(), &never, &mut |done| seen.push(done)).unwrap().unwrap();
    assert!(averaged.statistics_measured);
    assert_eq!((averaged.epochs.len(), seen.as_slice()), (3, &[4, 8, 12, 14][..]));
    for name in ["fc.weight", "fc.bias", "norm.weight", "norm.bias"] {
        assert_close(&saved(&folder.averaged(), name), &mean_of_kept(&folder, name));
    }
    let shades = SHADES.concat();
    let mean = shades.iter().map(|shade| f64::from(*shade) / 255.0).sum::<f64>() / shades.len() as f64;
    let measured = saved(&folder.averaged(), "norm.running_mean");
    assert_close(&measured, &[mean; 3]);
    let old = mean_of_kept(&folder, "norm.running_mean");
    assert!(
        (old[0] - mean).abs() > 0.05,
        "after three short epochs, running means still remember their start: {old:?}"
    );
    // The model in hand is the one in the file.
    let in_hand: Vec<f64> = averaged.model.norm.running_mean.value().into_data().iter::<f64>().collect();
    assert_eq!(in_hand, measured);
}

#[test]
fn a_frozen_norm_keeps_its_statistics() {
    let (session, data, folder, _place) =
        trained(GroupOptions { freeze: vec!["norm".to_owned()], ..Default::default() });
    let never = Arc::new(AtomicBool::new(false));
    let averaged = session.average_kept(&data, &Device::flex(), &never, &mut |_| {}).unwrap().unwrap();
    assert!(!averaged.statistics_measured);
    assert_eq!(saved(&folder.averaged(), "norm.running_mean"), [0.0; 3]);
    assert_eq!(saved(&folder.averaged(), "norm.running_var"), [1.0; 3]);
}

#[test]
fn an_interrupt_leaves_no_average_behind() {
    let (session, data, folder, _place) = trained(GroupOptions::default());
    let raised = Arc::new(AtomicBool::new(true));
    let error = session.average_kept(&data, &Device::flex(), &raised, &mut |_| {}).unwrap_err();
    assert!(matches!(error, TrainError::Load(LoadError::Interrupted)), "{error}");
    assert!(!folder.averaged().exists());
}
