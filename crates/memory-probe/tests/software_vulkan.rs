//! The sources held against each other on a CubeCL device that needs no card: Mesa's software Vulkan by way of WebGPU. It has the allocator, the
//! fusion and the dry run of the CUDA backend.
//!
//!     cargo test -p memory-probe --features wgpu --test software_vulkan
//!
//! One test, because the pools are the device's and not a test's.

#![cfg(feature = "wgpu")]

use burn::backend::{MemoryPoolLayout, SlicedPool};
use burn::tensor::{Device, DeviceKind};
use convnext::{ConvNext, ConvNextConfig};
use data_pipeline::Batch;
use memory_probe::{AllocatorModel, CapturedSource, StepRequest, dry_run_reserved, reserved_by_real_steps};
use trainer::{
    AdamWOptions, ComputeError, Gradients, Normalization, OutOfMemory, TrainOptions, TrainStep, WarmupCosine,
};
use vision_nn::ClassifierSpec;

const CLASSES: usize = 10;
const SIDE: usize = 64;
const MIB: u64 = 1 << 20;

fn build(device: &Device) -> ConvNext {
    let config =
        ConvNextConfig { depths: [1, 1, 1, 1], widths: [16, 32, 64, 128], pointwise_mlp: false, response_norm: false };
    config.init(&ClassifierSpec::new(CLASSES, device))
}

fn options() -> TrainOptions {
    TrainOptions {
        epochs: 1,
        effective_batch_size: 32,
        micro_batch_size: usize::MAX,
        adamw: AdamWOptions::default(),
        schedule: WarmupCosine { peak: 1e-3, minimum: 0.0, warmup_steps: 0, total_steps: 10 },
        label_smoothing: 0.1,
        clip_norm: Some(1.0),
        ema_decay: None,
        adaptive_batch: false,
        precision: Default::default(),
        faults: Default::default(),
        top_k: 1,
        seed: 0,
    }
}

#[test]
fn predictions_hold_and_a_real_out_of_memory_is_survived() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    predictions_hold(&device);
    a_step_that_runs_out_of_memory_is_done_in_smaller_pieces(&device);
}

/// The bounds: dry run within 1 %, captured graph within 8 % in the median.
fn predictions_hold(device: &Device) {
    let step = StepRequest {
        image: [SIDE, SIDE, 3],
        num_classes: CLASSES,
        options: options(),
        accumulates: false,
        checkpointing: false,
        predicts: false,
    };
    let captured = CapturedSource::record(&step, build);
    let mut errors = Vec::new();
    for batch in [4, 16, 32] {
        let dry = dry_run_reserved(&step, batch, device, &build).expect("the device holds so small a step");
        let real = reserved_by_real_steps(&step, batch, device, &build).expect("the device holds so small a step");
        assert!(dry.abs_diff(real) as f64 <= 0.01 * real as f64, "batch {batch}: dry run {dry}, real {real}");
        let predicted =
            captured.reserved_bytes(batch, AllocatorModel::software_vulkan()).expect("every buffer is small");
        errors.push(predicted.abs_diff(real) as f64 / real as f64);
    }
    errors.sort_by(f64::total_cmp);
    assert!(errors[errors.len() / 2] <= 0.08, "{errors:?}");
}

/// The pools are capped, so that the device stands in for a card of a few MiB: the whole batch is too much for it, a quarter is not.
fn a_step_that_runs_out_of_memory_is_done_in_smaller_pieces(device: &Device) {
    let batch = batch(32);
    let whole = gradients(&step(device), &batch, 32).expect("the pools have no cap yet");
    device.memory_cleanup();
    let page_size = 4 * MIB;
    let cap = MemoryPoolLayout::Sliced(vec![SlicedPool { page_size, pages: Some(3), max_slice: None }]);
    device.memory_install_pools(cap).expect("nothing is live in the pools");
    let step = step(device);
    match gradients(&step, &batch, 32) {
        Err(ComputeError::OutOfMemory(OutOfMemory::Device { .. })) => {}
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("22 MiB of live tensors fitted into 12"),
    }
    let pieces = gradients(&step, &batch, 8).expect("8 samples take 5.7 MiB at their peak");
    assert_alike(&pieces, &whole);
    drop((step, pieces));
    device.memory_cleanup();
    device.memory_install_pools(MemoryPoolLayout::SubSlices).expect("nothing is live in the pools");
}

fn step(device: &Device) -> TrainStep<ConvNext> {
    let device = device.clone().autodiff();
    TrainStep::new(build(&device), options(), Normalization::imagenet(3), device)
}

fn gradients(step: &TrainStep<ConvNext>, batch: &Batch, micro_batch: usize) -> Result<Vec<Vec<f32>>, ComputeError> {
    let (gradients, _) = step.try_gradients(batch, 1, micro_batch, |_| false)?;
    Ok(numbers(&gradients))
}

fn numbers(gradients: &Gradients) -> Vec<Vec<f32>> {
    gradients.iter().map(|(_, gradient)| gradient.clone().into_data().iter::<f32>().collect()).collect()
}

/// Sums of 32 samples in another order: f32 rounding, against the largest number of each gradient.
fn assert_alike(one: &[Vec<f32>], other: &[Vec<f32>]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        let largest = other.iter().fold(1e-6f32, |largest, number| largest.max(number.abs()));
        let off = one.iter().zip(other).fold(0.0f32, |off, (one, other)| off.max((one - other).abs()));
        assert!(off <= 1e-4 * largest, "{off} of {largest}");
    }
}

fn batch(samples: usize) -> Batch {
    Batch {
        index: 0,
        pixels: (0..samples * SIDE * SIDE * 3).map(|position| (position * 7 % 251) as u8).collect(),
        labels: (0..samples).map(|sample| Some((sample % CLASSES) as u32)).collect(),
        samples: (0..samples).collect(),
        corrupt: Vec::new(),
        size: [SIDE, SIDE, 3],
    }
}
