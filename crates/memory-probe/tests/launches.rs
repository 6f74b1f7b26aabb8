//! Launches of a step on a CubeCL device that needs no card: Mesa's software Vulkan by way of WebGPU.
//!
//!     cargo test -p memory-probe --features wgpu --test launches

#![cfg(feature = "wgpu")]

use burn::tensor::{Device, DeviceKind};
use convnext::{ConvNext, ConvNextConfig};
use memory_probe::{LaunchLog, StepRequest};
use trainer::TrainOptions;
use vision_nn::{ClassifierSpec, parameter_shapes};

fn build(device: &Device) -> ConvNext {
    let config =
        ConvNextConfig { depths: [1, 1, 1, 1], widths: [8, 16, 24, 32], pointwise_mlp: false, response_norm: false };
    config.init(&ClassifierSpec::new(3, device))
}

#[test]
fn parameters_move_in_few_launches() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let log = LaunchLog::open(folder.path()).expect("no device was used before");
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let options = TrainOptions { clip_norm: Some(1.0), ema_decay: Some(0.99), ..TrainOptions::default() };
    let request = StepRequest {
        image: [32, 32, 3],
        num_classes: 3,
        options,
        accumulates: false,
        checkpointing: false,
        predicts: false,
    };
    let launches = log.of_step(&request, 2, &device, &build).expect("the step is small");
    let parameters = parameter_shapes(&build(&device)).len();
    let of =
        |part: &str| launches.iter().filter(|(name, _)| name.contains(part)).map(|(_, count)| count).sum::<usize>();
    for pass in ["Adamw", "Squares"] {
        assert!((1..=parameters / 4).contains(&of(pass)), "{pass} of {parameters}: {launches:?}");
    }
}
