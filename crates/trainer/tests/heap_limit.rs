//! A limit on the heap is out-of-memory: the step stops before the weights move, and fits in smaller parts.
//!
//! Tests run one after the other: the heap is the process's.

use burn::tensor::Device;
use convnext::{ConvNext, ConvNextConfig};
use data_pipeline::Batch;
use device::heap::{self, CountingAllocator};
use trainer::{
    ComputeError, MemoryWatch, Normalization, OptimizerOptions, OutOfMemory, Phase, Pieces, TrainOptions, TrainStep,
    UncutWork, WarmupCosine,
};
use vision_nn::{Classifier as _, ClassifierSpec, Pass};

#[global_allocator]
static HEAP: CountingAllocator = CountingAllocator;

const BATCH: usize = 32;
const SIDE: usize = 64;

#[test]
fn a_step_and_a_scored_batch_above_the_limit_fit_in_smaller_parts() {
    let step = step();
    let batch = batch();
    let whole = peak_of(|| drop(step.gradients(&batch, 1)));
    let quarter = peak_of(|| drop(step.try_gradients(&batch, 1, BATCH / 4, |_| false).unwrap()));
    assert!(quarter < whole / 2, "{quarter} of {whole}");
    let limit = heap::current_bytes() + (quarter + whole) / 2;
    heap::set_limit(Some(limit));

    let error = step.try_gradients(&batch, 1, BATCH, |_| false).err().unwrap();
    let ComputeError::OutOfMemory(OutOfMemory::Limit { held_bytes, limit_bytes }) = error else { panic!("{error}") };
    assert!(limit_bytes == limit && held_bytes > limit, "{held_bytes} of {limit_bytes}");
    let (gradients, scores) = step.try_gradients(&batch, 1, BATCH / 4, |_| false).unwrap();
    assert_eq!(scores.samples, BATCH as u64);
    drop(gradients);
    heap::set_limit(None);

    assert_scoring_recovers(&step);
    assert_what_no_watch_sees_is_kept();
}

/// What an update or a checkpoint takes is no fault of the next step, and is not forgotten either.
fn assert_what_no_watch_sees_is_kept() {
    let limit = heap::current_bytes() + (1 << 20);
    heap::set_limit(Some(limit));
    drop(std::hint::black_box(vec![1u8; 2 << 20]));
    let watch = MemoryWatch::begin(&Device::flex());
    assert_eq!(watch.run(|| 7), Ok(7));
    let passed = UncutWork::take().expect("it was noted");
    assert!(passed.limit_bytes == limit && passed.held_bytes > limit, "{passed:?}");
    assert_eq!(UncutWork::take(), None, "it is told once");
    drop(std::hint::black_box(vec![1u8; 2 << 20]));
    assert!(UncutWork::take().is_some(), "also where no watch follows");
    heap::set_limit(None);
}

/// The first update takes no more than any other: its state is there before the first gradients.
#[test]
fn what_the_optimizer_keeps_can_be_made_before_the_first_step() {
    for optimizer in [
        OptimizerOptions::AdamW(Default::default()),
        OptimizerOptions::Sgd(Default::default()),
        OptimizerOptions::Lamb(Default::default()),
        OptimizerOptions::Lion(Default::default()),
        OptimizerOptions::Adafactor(Default::default()),
        OptimizerOptions::Muon(Default::default()),
    ] {
        let [mut prepared, mut fresh] = [step_with(optimizer), step_with(optimizer)];
        assert!(prepared.prepare_optimizer() && !prepared.prepare_optimizer(), "it is made once");
        let kept = |step: &TrainStep<ConvNext>| {
            step.kept_by_optimizer().map(|(name, tensor)| (name.to_owned(), tensor.dims()[0])).collect::<Vec<_>>()
        };
        let made = kept(&prepared);
        assert!(!made.is_empty() && kept(&fresh).is_empty());
        for step in [&mut prepared, &mut fresh] {
            let (gradients, scores) = step.gradients(&batch(), 1);
            step.apply(gradients, scores.gradient_norm, 1e-3, 1);
        }
        assert_eq!((kept(&prepared), kept(&fresh)), (made.clone(), made));
        let weights = |step: &TrainStep<ConvNext>| -> Vec<Vec<f32>> {
            let named = vision_nn::named_parameters(step.model());
            named.into_iter().map(|parameter| parameter.data.iter::<f32>().collect()).collect()
        };
        assert_eq!(weights(&prepared), weights(&fresh), "{optimizer:?}: a step from zeros is the first step");
    }
}

fn assert_scoring_recovers(step: &TrainStep<ConvNext>) {
    let model = step.evaluation_model();
    let device = Device::flex();
    let images = |count: usize| burn::tensor::Tensor::<4>::ones([count, 3, SIDE, SIDE], &device);
    let whole = peak_of(|| drop(model.forward(images(BATCH), &mut Pass::evaluation())));
    heap::set_limit(Some(heap::current_bytes() + whole * 3 / 4));
    let mut pieces = Pieces::new(Phase::Prediction, trainer::FaultPlan::default());
    let mut reasons = Vec::new();
    let scored = pieces.score(BATCH, &device, &mut |event| reasons.push(event.reason.clone()), |samples, watch| {
        let logits = watch.run(|| model.forward(images(samples.len()), &mut Pass::evaluation()))?;
        Ok(logits.dims()[0])
    });
    heap::set_limit(None);
    assert_eq!((scored.unwrap(), pieces.largest()), (vec![BATCH / 2; 2], BATCH / 2));
    assert!(reasons.len() == 1 && reasons[0].starts_with("the heap held "), "{reasons:?}");
}

/// Bytes above those that live now.
fn peak_of(work: impl FnOnce()) -> u64 {
    let before = heap::current_bytes();
    heap::reset_peak();
    work();
    heap::peak_bytes() - before
}

fn step() -> TrainStep<ConvNext> {
    step_with(OptimizerOptions::default())
}

fn step_with(optimizer: OptimizerOptions) -> TrainStep<ConvNext> {
    let device = Device::flex().autodiff();
    let config =
        ConvNextConfig { depths: [1, 1, 2, 1], widths: [16, 24, 32, 40], pointwise_mlp: true, response_norm: false };
    let model = config.init(&ClassifierSpec::new(3, &device));
    let options = TrainOptions {
        optimizer,
        effective_batch_size: BATCH,
        micro_batch_size: BATCH,
        schedule: WarmupCosine { peak: 1e-3, minimum: 0.0, warmup_steps: 0, total_steps: 1 }.into(),
        ..TrainOptions::default()
    };
    TrainStep::new(model, options, Normalization::imagenet(3), device)
}

fn batch() -> Batch {
    Batch {
        index: 0,
        pixels: (0..BATCH * SIDE * SIDE * 3).map(|place| (place * 31 % 251) as u8).collect(),
        labels: (0..BATCH).map(|sample| Some((sample % 3) as u32)).collect(),
        samples: (0..BATCH).collect(),
        corrupt: Vec::new(),
        size: [SIDE, SIDE, 3],
        partners: Vec::new(),
        last_steps: Vec::new(),
    }
}
