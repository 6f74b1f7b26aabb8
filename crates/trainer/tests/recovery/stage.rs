//! A few images on disk, small models, and runs over them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::ParamId;
use burn::tensor::{Device, Tensor};
use checkpoint::{CARD_VERSION, ModelCard, Progress, RunFolder};
use convnext::{ConvNext, ConvNextConfig};
use data_pipeline::{Channels, Dataset, EvalTransform, LoaderOptions, Mixing, ResizeMode, Sampling, TrainTransform};
use efficientnet::EfficientNet;
use image::{Rgb, RgbImage};
use metrics::{EpochRecord, read_records};
use tempfile::TempDir;
use trainer::{
    Exchange, FitOutcome, LossOptions, MemoryGauge, MemoryLap, NonFiniteStep, Normalization, Observer, RecoveryEvent,
    StepReport, TrainError, TrainOptions, TrainSession, TrainStep, TrainingData, WarmupCosine, fit,
};
use vision_nn::{Classifier, ClassifierSpec, ParameterMap, map_parameters, named_parameters};

const CLASSES: [&str; 3] = ["dots", "stripes", "waves"];
const SIDE: usize = 32;

/// 24 images in batches of 10, 10 and 4.
pub(crate) const EFFECTIVE_BATCH: usize = 10;
pub(crate) const STEPS_PER_EPOCH: u64 = 3;

/// A folder with images and room for one run.
pub(crate) struct Stage {
    folder: TempDir,
    data: TrainingData,
}

/// What a run did and where it ended.
pub(crate) struct End {
    pub(crate) outcome: FitOutcome,
    pub(crate) progress: Progress,
    pub(crate) events: Vec<RecoveryEvent>,
    pub(crate) left_out: Vec<NonFiniteStep>,
    pub(crate) records: Vec<EpochRecord>,
    pub(crate) weights: BTreeMap<String, Vec<f64>>,
    pub(crate) averaged: BTreeMap<String, Vec<f64>>,
    pub(crate) micro_batch_size: usize,
}

#[derive(Default)]
struct Events {
    recoveries: Vec<RecoveryEvent>,
    left_out: Vec<NonFiniteStep>,
    interrupt: Arc<AtomicBool>,
    /// The number of steps after which the flag is raised.
    stop_after: Option<u64>,
}

impl Observer for Events {
    fn step_done(&mut self, report: &StepReport) {
        if self.stop_after == Some(report.step) {
            self.interrupt.store(true, Ordering::Relaxed);
        }
    }

    fn out_of_memory(&mut self, event: &RecoveryEvent) {
        assert!(!event.is_growth());
        self.recoveries.push(event.clone());
    }

    fn step_left_out(&mut self, step: &NonFiniteStep) {
        self.left_out.push(*step);
    }

    fn micro_batch_grown(&mut self, event: &RecoveryEvent) {
        assert!(event.is_growth());
        self.recoveries.push(event.clone());
    }
}

/// Says what a test has it say.
pub(crate) struct FixedGauge {
    pub(crate) lap: Option<MemoryLap>,
    pub(crate) laps_begun: Cell<usize>,
}

impl FixedGauge {
    pub(crate) fn new(lap: Option<MemoryLap>) -> Self {
        Self { lap, laps_begun: Cell::new(0) }
    }
}

impl MemoryGauge for FixedGauge {
    fn peak_bytes(&self) -> Option<u64> {
        None
    }

    fn begin_lap(&self) {
        self.laps_begun.set(self.laps_begun.get() + 1);
    }

    fn lap(&self) -> Option<MemoryLap> {
        self.lap
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("the system's temporary folder is writable");
        draw(&folder.path().join("train"), 8);
        draw(&folder.path().join("validation"), 3);
        let open = |name: &str| Arc::new(Dataset::open(&folder.path().join(name)).expect("drawn just now"));
        let resize = ResizeMode::Squash;
        let data = TrainingData {
            train: open("train"),
            validation: open("validation"),
            train_transform: Arc::new(TrainTransform {
                horizontal_flip: 0.5,
                quarter_turns: true,
                brightness: 0.2,
                ..TrainTransform::new(SIDE, Channels::Rgb, resize)
            }),
            eval_transform: Arc::new(EvalTransform::new(SIDE, Channels::Rgb, resize)),
            loader: LoaderOptions::default(),
            sampling: Sampling::default(),
            mixing: Mixing::default(),
        };
        RunFolder::create(&folder.path().join("run"), false).expect("writable");
        std::fs::write(folder.path().join("run/config.resolved.yaml"), "").expect("writable");
        Self { folder, data }
    }

    /// The same images, mixed with each other.
    pub(crate) fn with_mixing(mut self, mixing: Mixing) -> Self {
        self.data.mixing = mixing;
        self
    }

    pub(crate) fn run_path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join("run").join(path)
    }

    /// Trains from where the run folder stands.
    pub(crate) fn train(&self, options: TrainOptions) -> Result<End, TrainError> {
        self.train_with(options, &FixedGauge::new(None))
    }

    pub(crate) fn train_with(&self, options: TrainOptions, gauge: &FixedGauge) -> Result<End, TrainError> {
        self.train_on(options, gauge, 1)
    }

    /// Trains on so many devices.
    pub(crate) fn train_on(
        &self,
        options: TrainOptions,
        gauge: &FixedGauge,
        devices: usize,
    ) -> Result<End, TrainError> {
        self.fit(step(convnext, options, devices), gauge, None)
    }

    /// Trains any model from where the run folder stands, and stops it, as Ctrl-C does, once the run has made so many steps.
    pub(crate) fn fit<M: Classifier>(
        &self,
        step: TrainStep<M>,
        gauge: &FixedGauge,
        stop_after: Option<u64>,
    ) -> Result<End, TrainError> {
        let device = Device::flex().autodiff();
        let folder = RunFolder::open(&self.run_path("")).expect("made with the stage");
        let session = TrainSession::new(step, card(), folder.clone()).resume(&device)?;
        let mut observer = Events { stop_after, ..Events::default() };
        let interrupt = observer.interrupt.clone();
        let (session, outcome) = fit(session, &self.data, &device, &interrupt, gauge, &mut observer)?;
        let progress = session.progress().clone();
        assert_eq!(outcome == FitOutcome::Interrupted, stop_after.is_some());
        assert!(stop_after.is_none_or(|steps| steps == progress.step));
        let micro_batch_size = session.micro_batch_size();
        let (weights, averaged) = saved_weights(&folder);
        let records = read_records(&folder.metrics()).expect("the run wrote it");
        let Events { recoveries: events, left_out, .. } = observer;
        Ok(End { outcome, progress, events, left_out, records, weights, averaged, micro_batch_size })
    }

    /// The micro-batch that a run resumed with `options` begins with.
    pub(crate) fn resumed_micro_batch(&self, options: TrainOptions) -> usize {
        let device = Device::flex().autodiff();
        let folder = RunFolder::open(&self.run_path("")).expect("made with the stage");
        let session = TrainSession::new(step(convnext, options, 1), card(), folder).resume(&device);
        session.expect("the checkpoint is whole").micro_batch_size()
    }
}

pub(crate) fn options(epochs: u32, micro_batch_size: usize) -> TrainOptions {
    TrainOptions {
        epochs,
        effective_batch_size: EFFECTIVE_BATCH,
        micro_batch_size,
        recompute: Default::default(),
        optimizer: Default::default(),
        groups: Default::default(),
        schedule: WarmupCosine {
            peak: 3e-4,
            minimum: 1e-6,
            warmup_steps: STEPS_PER_EPOCH,
            total_steps: u64::from(epochs) * STEPS_PER_EPOCH,
        }
        .into(),
        loss: LossOptions { label_smoothing: 0.1, ..Default::default() },
        clip_norm: Some(1.0),
        ema_decay: Some(0.9),
        top_k: 1,
        seed: 5,
        adaptive_batch: false,
        max_nonfinite_steps: 1,
        early_stopping: None,
        keep_best: 1,
        precision: Default::default(),
        faults: trainer::FaultPlan::default(),
        save_interval: None,
        finishes_images: false,
    }
}

/// A step on so many devices; all of them are this CPU.
pub(crate) fn step<M: Classifier>(build: impl Fn(&Device) -> M, options: TrainOptions, devices: usize) -> TrainStep<M> {
    let device = Device::flex().autodiff();
    let others = (1..devices).map(|_| Device::flex().autodiff()).collect();
    let step = TrainStep::new(build(&device), options, Normalization::imagenet(3), device);
    step.with_devices(others, Exchange::ThroughHost)
}

fn spec(device: &Device) -> ClassifierSpec {
    ClassifierSpec { drop_path: 0.3, seed: 7, ..ClassifierSpec::new(CLASSES.len(), device) }
}

pub(crate) fn convnext(device: &Device) -> ConvNext {
    let config =
        ConvNextConfig { depths: [1, 1, 2, 1], widths: [16, 24, 32, 40], pointwise_mlp: true, response_norm: false };
    map_parameters(config.init(&spec(device)), &mut OpenBranches)
}

/// A model with running statistics.
pub(crate) fn efficientnet(device: &Device) -> EfficientNet {
    let mut config = efficientnet::find_variant("tf_efficientnetv2_b0").expect("a variant of the registry").config();
    for stage in &mut config.stages {
        stage.blocks = 1;
        stage.channels = (stage.channels / 8).next_multiple_of(8);
    }
    (config.stem_channels, config.head_channels) = (8, 64);
    config.init(&spec(device))
}

/// Raises layer scale from its initial 1e-6, behind which stochastic depth does not show.
struct OpenBranches;

impl ParameterMap for OpenBranches {
    fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
        if !name.ends_with("gamma") {
            return tensor;
        }
        Tensor::full(tensor.dims(), 0.5, &tensor.device()).require_grad()
    }
}

fn card() -> ModelCard {
    let normalization = Normalization::imagenet(3);
    ModelCard {
        version: CARD_VERSION,
        model: "small".to_owned(),
        classes: CLASSES.map(str::to_owned).to_vec(),
        image_size: SIDE,
        in_channels: 3,
        resize: "squash".to_owned(),
        interpolation: "bilinear".to_owned(),
        crop_share: 0.875,
        mean: normalization.mean,
        std: normalization.std,
        images: None,
        progress: Progress::default(),
    }
}

fn saved_weights(folder: &RunFolder) -> (BTreeMap<String, Vec<f64>>, BTreeMap<String, Vec<f64>>) {
    let saved = checkpoint::Checkpoint::read(&folder.last()).expect("the run wrote it");
    let numbers = |(name, data): (String, burn::tensor::TensorData)| (name, data.iter::<f64>().collect());
    let weights = saved.weights.into_iter().map(numbers).collect();
    (weights, saved.ema.into_iter().flatten().map(numbers).collect())
}

fn draw(folder: &Path, count: u32) {
    for (class, name) in (0u32..).zip(CLASSES) {
        std::fs::create_dir_all(folder.join(name)).expect("writable");
        for number in 0..count {
            let shade = |value: u32| (value % 256) as u8;
            let image = RgbImage::from_fn(36, 34, |x, y| {
                let noise = (x * 73 + y * 151 + number * 37) ^ (x * y * (number + 3));
                Rgb([shade(x * (class + 1) * 17 + number * 29), shade(y * (3 - class) * 23), shade(noise)])
            });
            image.save(folder.join(name).join(format!("{number}.png"))).expect("writable");
        }
    }
}

/// Weights of the model as it is made, by name.
pub(crate) fn fresh_weights() -> BTreeMap<String, Vec<f64>> {
    let step = step(convnext, options(1, 1), 1);
    let parameters = named_parameters(step.model()).into_iter();
    parameters.map(|parameter| (parameter.name, parameter.data.iter::<f64>().collect())).collect()
}
