//! Half precision on a CubeCL device that needs no card: Mesa's software Vulkan by way of WebGPU.
//!
//!     cargo test -p memory-probe --features wgpu --test half_precision_on_vulkan

#![cfg(feature = "wgpu")]

use burn::tensor::{DType, Device, DeviceKind};
use convnext::{ConvNext, ConvNextConfig};
use data_pipeline::Batch;
use memory_planner::Precision;
use trainer::{Gradients, LossOptions, Normalization, TrainOptions, TrainStep, storage_type};
use vision_nn::ClassifierSpec;

const CLASSES: usize = 3;
const SIDE: usize = 32;
const SAMPLES: usize = 6;

fn gradients(device: &Device, precision: Precision) -> Gradients {
    let device = device.clone().autodiff();
    let config =
        ConvNextConfig { depths: [1, 1, 1, 1], widths: [8, 16, 24, 32], pointwise_mlp: false, response_norm: false };
    let spec =
        ClassifierSpec { initialization: vision_nn::Initialization::FanIn, ..ClassifierSpec::new(CLASSES, &device) };
    let model: ConvNext = config.init(&spec);
    let options = TrainOptions {
        effective_batch_size: SAMPLES,
        micro_batch_size: SAMPLES,
        precision,
        loss: LossOptions { label_smoothing: 0.1, ..LossOptions::default() },
        ..TrainOptions::default()
    };
    TrainStep::new(model, options, Normalization::imagenet(3), device).gradients(&batch(), 1).0
}

fn batch() -> Batch {
    Batch {
        index: 0,
        pixels: (0..SAMPLES * SIDE * SIDE * 3).map(|place| (place * 7 % 251) as u8).collect(),
        labels: (0..SAMPLES).map(|sample| Some((sample % CLASSES) as u32)).collect(),
        samples: (0..SAMPLES).collect(),
        corrupt: Vec::new(),
        partners: Vec::new(),
        last_steps: Vec::new(),
        size: [SIDE, SIDE, 3],
    }
}

fn numbers(gradients: &Gradients) -> Vec<f64> {
    gradients.iter().flat_map(|(_, gradient)| gradient.to_data().iter::<f64>().collect::<Vec<_>>()).collect()
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

/// Takes minutes, nearly all of them for the compilation of kernels. bf16 is in no WebGPU.
#[test]
fn a_device_that_computes_in_fp16_finds_the_gradients_of_f32_on_the_cpu() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    assert!(!device.supports_dtype(storage_type(Precision::Bf16)));
    if !device.supports_dtype(storage_type(Precision::Fp16)) {
        return;
    }
    let found = gradients(&device, Precision::Fp16);
    assert!(found.iter().all(|(_, gradient)| gradient.dtype() == DType::F32));
    let cosine = cosine(&numbers(&found), &numbers(&gradients(&Device::flex(), Precision::Fp32)));
    // 12 bits of precision gave 0.99999 on the CPU for such a model.
    assert!(cosine >= 0.9999, "{cosine}");
}
