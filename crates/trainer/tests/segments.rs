//! A step that computes segments again against one that keeps everything: the same gradients, statistics and scores, for every family.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use convnext::ConvNextConfig;
use data_pipeline::Batch;
use efficientnet::find_variant;
use swin::SwinConfig;
use trainer::{Gradients, LossOptions, Normalization, Recompute, StepScores, TrainOptions, TrainStep, WarmupCosine};
use vision_nn::{
    Classifier, ClassifierSpec, Initialization, Initializer, Linear, ParameterMap, Pass, is_running_statistic,
    is_trained, map_parameters, named_parameters,
};

const NUM_CLASSES: usize = 3;
const BATCH: usize = 8;
const SIDE: usize = 64;

/// Micro-batches of 3, 3 and 2.
const MICRO_BATCH: usize = 3;

/// The bound on what computing again may change, relative to a gradient's largest number.
const TOLERANCE: f32 = 1e-5;

fn spec(device: &Device) -> ClassifierSpec {
    ClassifierSpec { drop_path: 0.5, seed: 7, ..ClassifierSpec::new(NUM_CLASSES, device) }
}

fn convnext(device: &Device) -> convnext::ConvNext {
    ConvNextConfig { depths: [1, 1, 2, 1], widths: [32, 40, 48, 64], pointwise_mlp: true, response_norm: false }
        .init(&spec(device))
}

fn swin(device: &Device) -> swin::Swin {
    let (window_size, depths, num_heads) = (4, [2, 2, 2, 2], [1, 2, 4, 8]);
    SwinConfig { image_size: [SIDE; 2], window_size, embed_dim: 32, depths, num_heads }.init(&spec(device))
}

/// With all kinds of blocks but one, and dropout before the classifier.
fn efficientnet(name: &str) -> impl Fn(&Device) -> efficientnet::EfficientNet {
    let variant = find_variant(name).unwrap();
    let scaling = efficientnet::Scaling::new(0.25, 0.5);
    let config = efficientnet::Variant { scaling, ..variant.clone() }.config();
    move |device| config.init(&ClassifierSpec { dropout: 0.4, ..spec(device) })
}

/// One test at a time: while another thread of this process goes back over a tape of its own, gradients of weights that are reshaped before their use can
/// be lost (with two threads in 9 of 20 runs of this file, with one in none of 15). A run has one tape at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TAPE: Mutex<()> = Mutex::new(());
    TAPE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn convnext_segments_give_the_same_step() {
    let _alone = alone();
    assert_same_step(convnext);
}

#[test]
fn swin_segments_give_the_same_step() {
    let _alone = alone();
    assert_same_step(swin);
}

#[test]
fn efficientnet_segments_give_the_same_step_and_move_statistics_once() {
    let _alone = alone();
    for name in ["efficientnet_b0", "efficientnetv2_rw_s"] {
        assert!(!assert_same_step(efficientnet(name)).is_empty());
    }
}

/// Gives the running statistics after the step.
fn assert_same_step<M: Classifier>(build: impl Fn(&Device) -> M) -> BTreeMap<String, TensorData> {
    let step = |recompute, seed| Outcome::of(open(build(&Device::flex().autodiff())), recompute, seed);
    let (plain, segments) = (step(Recompute::Nothing, 11), step(Recompute::LeadingSegments, 11));
    assert_same_gradients(&segments.gradients, &plain.gradients);
    // The moments of a batch are computed twice by the same operations, and move the statistics once.
    assert_eq!(segments.statistics, plain.statistics);
    assert_eq!(segments.scores.correct, plain.scores.correct);
    assert!((segments.scores.loss_sum / plain.scores.loss_sum - 1.0).abs() < 1e-6);
    // Else equal gradients would say nothing about masks.
    let other = step(Recompute::LeadingSegments, 12);
    let moved = plain
        .gradients
        .iter()
        .map(|(name, gradient)| relative_error(other.gradients.get(name).expect("the same parameters"), gradient));
    assert!(moved.fold(0.0, f32::max) > 0.1, "random layers do not act");
    segments.statistics
}

#[test]
fn gradients_are_the_same_when_the_first_segments_are_frozen() {
    let _alone = alone();
    let is_frozen = |name: &str| ["stem", "stages.0", "stages.1"].iter().any(|prefix| name.starts_with(prefix));
    assert_same_when_frozen(is_frozen, 2);
}

#[test]
fn gradients_are_the_same_when_only_the_head_is_trained() {
    let _alone = alone();
    assert_same_when_frozen(|name| !name.starts_with("head"), 5);
}

#[test]
fn gradients_are_the_same_when_the_middle_is_frozen() {
    let _alone = alone();
    assert_same_when_frozen(|name| name.starts_with("stages.1"), 0);
}

/// Of ConvNeXt's five segments, so many from the first on have nothing to train.
fn assert_same_when_frozen(is_frozen: impl Fn(&str) -> bool, frozen_segments: usize) {
    struct Freeze<F>(F);
    impl<F: Fn(&str) -> bool> ParameterMap for Freeze<F> {
        fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
            let is_trained = !self.0(name);
            tensor.set_require_grad(is_trained)
        }
    }
    let step = |recompute| {
        let model = map_parameters(open(convnext(&Device::flex().autodiff())), &mut Freeze(&is_frozen));
        let trained = (0..model.num_segments()).position(|index| model.is_segment_trained(index));
        assert_eq!(trained.unwrap_or(model.num_segments()), frozen_segments);
        Outcome::of(model, recompute, 11).gradients
    };
    let plain = step(Recompute::Nothing);
    assert!(plain.iter().count() > 0 && plain.iter().all(|(name, _)| !is_frozen(name)));
    assert_same_gradients(&step(Recompute::LeadingSegments), &plain);
}

/// Six equal segments, each of which counts how often it runs.
#[derive(Module, Debug)]
struct Counted {
    segments: Vec<Linear>,
    head: Linear,
    #[module(skip)]
    runs: Arc<[AtomicUsize; 6]>,
}

impl Classifier for Counted {
    fn num_segments(&self) -> usize {
        self.segments.len()
    }

    fn forward_segment(&self, index: usize, map: Tensor<4>, _pass: &mut Pass) -> Tensor<4> {
        self.runs[index].fetch_add(1, Ordering::Relaxed);
        let [batch, channels, height, width] = map.dims();
        let rows = map.reshape([batch * height * width, channels]);
        self.segments[index].forward(rows).reshape([batch, channels, height, width])
    }

    fn forward_head(&self, map: Tensor<4>, _pass: &mut Pass) -> Tensor<2> {
        let [batch, channels, height, width] = map.dims();
        self.head.forward(map.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels]))
    }

    fn is_segment_trained(&self, index: usize) -> bool {
        is_trained(&self.segments[index])
    }
}

#[test]
fn only_segments_behind_the_first_trained_one_are_computed_again() {
    let _alone = alone();
    let runs = |first_trained: usize| {
        let device = Device::flex().autodiff();
        let init = &mut Initializer::new(1, Initialization::Reference, &device);
        let segment = |index| {
            let linear = Linear::init(3, 3, 0.5, init);
            if index < first_trained { linear.no_grad() } else { linear }
        };
        let segments = (0..6).map(segment).collect();
        let model = Counted { segments, head: Linear::init(3, NUM_CLASSES, 0.5, init), runs: Arc::default() };
        let runs = model.runs.clone();
        step(model, Recompute::LeadingSegments, BATCH).gradients(&batch(), 1);
        runs.each_ref().map(|count| count.load(Ordering::Relaxed))
    };
    assert_eq!(runs(0), [2, 2, 2, 2, 1, 1]);
    assert_eq!(runs(2), [1, 1, 2, 2, 1, 1]);
    assert_eq!(runs(4), [1; 6]);
    assert_eq!(runs(6), [1; 6]);
}

/// What a step comes to before the weights move.
struct Outcome {
    gradients: Gradients,
    scores: StepScores,
    statistics: BTreeMap<String, TensorData>,
}

impl Outcome {
    fn of<M: Classifier>(model: M, recompute: Recompute, seed: u64) -> Self {
        let step = step(model, recompute, MICRO_BATCH);
        let (gradients, scores) = step.gradients(&batch(), seed);
        let named = named_parameters(step.model()).into_iter().map(|parameter| (parameter.name, parameter.data));
        Self { gradients, scores, statistics: named.filter(|(name, _)| is_running_statistic(name)).collect() }
    }
}

fn step<M: Classifier>(model: M, recompute: Recompute, micro_batch_size: usize) -> TrainStep<M> {
    let options = TrainOptions {
        effective_batch_size: BATCH,
        micro_batch_size,
        recompute,
        schedule: WarmupCosine { peak: 1e-2, minimum: 0.0, warmup_steps: 0, total_steps: 100 }.into(),
        loss: LossOptions { label_smoothing: 0.1, ..Default::default() },
        ..TrainOptions::default()
    };
    TrainStep::new(model, options, Normalization::imagenet(3), Device::flex().autodiff())
}

/// Raises layer scale from its initial 1e-6, behind which residual branches do not show.
fn open<M: Module>(model: M) -> M {
    struct OpenBranches;
    impl ParameterMap for OpenBranches {
        fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
            if !name.ends_with("gamma") {
                return tensor;
            }
            Tensor::full(tensor.dims(), 0.5, &tensor.device()).require_grad()
        }
    }
    map_parameters(model, &mut OpenBranches)
}

/// Noise that differs by sample.
fn batch() -> Batch {
    let pixel = |index: usize| ((index as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
    Batch {
        index: 0,
        pixels: (0..BATCH * SIDE * SIDE * 3).map(pixel).collect(),
        labels: (0..BATCH).map(|sample| Some((sample % NUM_CLASSES) as u32)).collect(),
        samples: (0..BATCH).collect(),
        corrupt: Vec::new(),
        partners: Vec::new(),
        last_steps: Vec::new(),
        size: [SIDE, SIDE, 3],
    }
}

fn assert_same_gradients(found: &Gradients, expected: &Gradients) {
    let names = |gradients: &Gradients| gradients.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (name, gradient) in expected.iter() {
        let error = relative_error(found.get(name).expect("the names are the same"), gradient);
        assert!(error < TOLERANCE, "`{name}` is off by {error:e}");
    }
}

/// Not finite where a value of `found` is not.
fn relative_error(found: &Tensor<1>, reference: &Tensor<1>) -> f32 {
    let [found, reference] = [found, reference].map(|tensor| tensor.to_data().iter::<f32>().collect::<Vec<_>>());
    let largest = reference.iter().copied().map(f32::abs).fold(0.0, f32::max);
    let differences = found.iter().zip(&reference).map(|(found, reference)| (found - reference).abs());
    // `f32::max` would pass over a NaN.
    differences.fold(0.0, |worst, difference| if difference <= worst { worst } else { difference })
        / largest.max(f32::MIN_POSITIVE)
}
