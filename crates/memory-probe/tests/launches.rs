//! A step in our operations and in Burn's own, on a CubeCL device that needs no card: Mesa's software Vulkan by way of WebGPU.
//!
//!     cargo test -p memory-probe --features wgpu --test launches

#![cfg(feature = "wgpu")]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use burn::cubecl::config::CubeClRuntimeConfig;
use burn::tensor::{Device, DeviceKind};
use convnext::{ConvNext, ConvNextConfig};
use data_pipeline::Batch;
use memory_probe::{LaunchLog, StepRequest};
use tempfile::TempDir;
use trainer::{Normalization, OptimizerOptions, SgdOptions, TrainOptions, TrainStep};
use vision_nn::{ClassifierSpec, in_burns_operations, parameter_shapes};

const CLASSES: usize = 3;
const SIDE: usize = 32;

/// Fewer blocks than any published ConvNeXt has, for tuning takes most of the time.
const DEPTHS: [usize; 4] = [1, 1, 2, 1];

fn build(device: &Device) -> ConvNext {
    let config = ConvNextConfig { depths: DEPTHS, widths: [8, 16, 24, 32], pointwise_mlp: false, response_norm: false };
    config.init(&ClassifierSpec { drop_path: 0.3, ..ClassifierSpec::new(CLASSES, device) })
}

/// The log must be there before the device is, and each test uses the device.
fn log() -> &'static LaunchLog {
    static LOG: OnceLock<(TempDir, LaunchLog)> = OnceLock::new();
    let open = || {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let log = LaunchLog::open(folder.path(), CubeClRuntimeConfig::default()).expect("no device was used before");
        (folder, log)
    };
    &LOG.get_or_init(open).1
}

fn options() -> TrainOptions {
    TrainOptions { clip_norm: Some(1.0), ema_decay: Some(0.99), ..TrainOptions::default() }
}

fn launches(device: &Device, optimizer: OptimizerOptions) -> BTreeMap<String, usize> {
    let request = StepRequest {
        image: [SIDE, SIDE, 3],
        num_classes: CLASSES,
        options: TrainOptions { optimizer, ..options() },
        accumulates: false,
        checkpointing: false,
        predicts: false,
    };
    log().of_step(&request, 2, device, &build).expect("the step is small")
}

#[test]
fn a_step_takes_a_third_of_the_launches_of_burns_own_operations() {
    log();
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let ours = launches(&device, OptimizerOptions::default());
    assert_few(&ours, &["Adamw", "Squares"]);
    let burns = in_burns_operations(|| launches(&device, OptimizerOptions::default()));
    let [few, many] = [&ours, &burns].map(|launches| launches.values().sum::<usize>());
    assert!(!burns.keys().any(|name| name.contains("Adamw")), "{burns:?}");
    assert!(3 * few <= many, "{few} of {many} launches:\n{ours:#?}\n{burns:#?}");
}

#[test]
fn sgd_moves_all_parameters_in_few_launches() {
    log();
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let ours = launches(&device, OptimizerOptions::Sgd(SgdOptions::default()));
    assert_few(&ours, &["Sgd", "Squares"]);
}

/// Passes over all parameters have a launch for every fourth of them at most.
fn assert_few(launches: &BTreeMap<String, usize>, passes: &[&str]) {
    let parameters = parameter_shapes(&build(&Device::flex())).len();
    for pass in passes {
        let of_pass = launches.iter().filter(|(name, _)| name.contains(pass)).map(|(_, count)| count);
        let count = of_pass.sum::<usize>();
        assert!((1..=parameters / 4).contains(&count), "{pass} of {parameters}: {launches:?}");
    }
}

/// The loss of a batch, and the gradients by name.
fn loss_and_gradients(device: &Device) -> (f64, BTreeMap<String, Vec<f32>>) {
    const SAMPLES: usize = 3;
    let device = device.clone().autodiff();
    let options = TrainOptions { effective_batch_size: SAMPLES, micro_batch_size: SAMPLES, ..options() };
    let step = TrainStep::new(build(&device), options, Normalization::imagenet(3), device);
    let batch = Batch {
        index: 0,
        pixels: (0..SAMPLES * SIDE * SIDE * 3).map(|place| (place * 7 % 251) as u8).collect(),
        labels: (0..SAMPLES).map(|sample| Some((sample % CLASSES) as u32)).collect(),
        samples: (0..SAMPLES).collect(),
        corrupt: Vec::new(),
        size: [SIDE, SIDE, 3],
        partners: Vec::new(),
        last_steps: Vec::new(),
    };
    let (gradients, scores) = step.gradients(&batch, 1);
    let host = |(name, tensor): (&str, &burn::tensor::Tensor<1>)| {
        (name.to_owned(), tensor.to_data().iter::<f32>().collect::<Vec<f32>>())
    };
    (scores.loss_sum, gradients.iter().map(host).collect())
}

#[test]
fn a_step_learns_the_same_from_our_operations_and_from_burns_own() {
    log();
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let (loss, ours) = loss_and_gradients(&device);
    let (burns_loss, burns) = in_burns_operations(|| loss_and_gradients(&device));
    // Sums of at most 4608 products in f32, rounded in another order.
    assert!((loss - burns_loss).abs() <= 1e-5 * burns_loss, "{loss} is not {burns_loss}");
    assert!(ours.keys().eq(burns.keys()));
    for (name, ours) in &ours {
        let burns = &burns[name];
        let largest = burns.iter().fold(0.0f32, |largest, number| largest.max(number.abs()));
        assert!(largest > 0.0, "`{name}` learns nothing");
        for (ours, burns) in ours.iter().zip(burns) {
            assert!((ours - burns).abs() <= 1e-4 * largest, "`{name}`: {ours} is not {burns}, {largest} at most");
        }
    }
}
