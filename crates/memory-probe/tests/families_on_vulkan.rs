//! Whole models on a CubeCL device that needs no card, Mesa's software Vulkan by way of WebGPU, held against the CPU: what the kernels of cards find is what
//! the loops of the CPU find.
//!
//!     cargo test -p memory-probe --features wgpu --test families_on_vulkan

#![cfg(feature = "wgpu")]

use burn::tensor::{Device, DeviceKind};
use data_pipeline::Batch;
use efficientnet::{EfficientNet, EfficientNetConfig};
use swin::{Swin, SwinConfig};
use trainer::{LossOptions, Normalization, TrainOptions, TrainStep, images_to_tensor};
use vision_nn::{Classifier, ClassifierSpec, Initialization, Pass, named_parameters};

const CLASSES: usize = 3;
const SIDE: usize = 32;
const SAMPLES: usize = 4;

/// A block of each kind but one, and that one's layers; squeeze-excite in the last.
fn efficientnet(device: &Device) -> EfficientNet {
    let variant = efficientnet::find_variant("tf_efficientnetv2_b0").expect("a variant of the registry");
    let mut config: EfficientNetConfig = variant.config();
    config.stages.truncate(4);
    for stage in &mut config.stages {
        (stage.blocks, stage.channels) = (1, 8);
    }
    (config.stem_channels, config.head_channels) = (8, 16);
    config.init(&ClassifierSpec { seed: 11, ..ClassifierSpec::new(CLASSES, device) })
}

/// Windows that are rolled, and such that are the map.
fn swin(device: &Device) -> Swin {
    let config = SwinConfig {
        image_size: [SIDE; 2],
        window_size: 4,
        embed_dim: 8,
        depths: [2, 1, 1, 1],
        num_heads: [1, 2, 2, 2],
    };
    let initialization = Initialization::FanIn;
    config.init(&ClassifierSpec { initialization, seed: 11, ..ClassifierSpec::new(CLASSES, device) })
}

fn batch() -> Batch {
    // A shade of its own for each sample: a batch norm over images that hardly differ would magnify what is rounded.
    let pixel = |place: usize| (place * 7 % 151 + place / (SIDE * SIDE * 3) * 30) as u8;
    Batch {
        index: 0,
        pixels: (0..SAMPLES * SIDE * SIDE * 3).map(pixel).collect(),
        labels: (0..SAMPLES).map(|sample| Some((sample % CLASSES) as u32)).collect(),
        samples: (0..SAMPLES).collect(),
        corrupt: Vec::new(),
        partners: Vec::new(),
        size: [SIDE, SIDE, 3],
    }
}

/// Numbers by name: logits in evaluation, then gradients of a training step, then what it has made of running statistics.
fn found<M: Classifier>(build: fn(&Device) -> M, device: &Device) -> Vec<(String, Vec<f64>)> {
    let (batch, normalization) = (batch(), Normalization::imagenet(3));
    let images = images_to_tensor(&batch.pixels, batch.size, &normalization, device);
    let logits = build(device).forward(images, &mut Pass::evaluation()).into_data().iter().collect();
    let tracked = device.clone().autodiff();
    let options = TrainOptions {
        effective_batch_size: SAMPLES,
        micro_batch_size: SAMPLES,
        loss: LossOptions { label_smoothing: 0.1, ..LossOptions::default() },
        ..TrainOptions::default()
    };
    let step = TrainStep::new(build(&tracked), options, normalization, tracked);
    let (gradients, _) = step.gradients(&batch, 1);
    let gradients = gradients.iter().map(|(name, of)| (name.to_string(), of.to_data().iter().collect()));
    let statistics = named_parameters(step.model()).into_iter().filter(|tensor| tensor.name.contains("running"));
    let statistics = statistics.map(|tensor| (tensor.name.clone(), tensor.data.iter().collect()));
    [("logits".to_owned(), logits)].into_iter().chain(gradients).chain(statistics).collect()
}

/// Each tensor by its largest number: the longest sums are over some thousand positions in f32, one layer after the other.
fn assert_same<M: Classifier>(build: fn(&Device) -> M) {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let (on_card, on_cpu) = (found(build, &device), found(build, &Device::flex()));
    assert_eq!(on_card.len(), on_cpu.len());
    // A gradient that is zero but for rounding has no scale of its own.
    let of_all = on_cpu.iter().flat_map(|(_, numbers)| numbers).fold(0.0f64, |most, number| most.max(number.abs()));
    for ((name, on_card), (_, on_cpu)) in on_card.iter().zip(&on_cpu) {
        let largest = on_cpu.iter().fold(1e-4 * of_all, |most, number| most.max(number.abs()));
        let off = on_card.iter().zip(on_cpu).fold(0.0f64, |off, (one, other)| off.max((one - other).abs()));
        assert!(on_card.len() == on_cpu.len() && off <= 1e-3 * largest, "{name}: {off} of {largest}");
    }
}

/// Takes minutes, nearly all of them for the compilation of kernels.
#[test]
fn an_efficientnet_on_a_card_is_that_of_the_cpu() {
    assert_same(efficientnet);
}

/// Takes minutes, nearly all of them for the tuning of matrix products.
#[test]
fn a_swin_on_a_card_is_that_of_the_cpu() {
    assert_same(swin);
}
