//! A small Swin on Mesa's software Vulkan: what its recorded step and its dry run say, held against what its pools really hold. Beside
//! `software_vulkan.rs`, which needs the device's pools for itself.
//!
//!     cargo test -p memory-probe --features wgpu --test swin_on_vulkan

#![cfg(feature = "wgpu")]

use burn::tensor::{Device, DeviceKind};
use memory_probe::{AllocatorModel, CapturedSource, StepRequest, dry_run_reserved, reserved_by_real_steps};
use swin::{Swin, SwinConfig};
use trainer::TrainOptions;
use vision_nn::ClassifierSpec;

const CLASSES: usize = 10;
const SIDE: usize = 64;

fn build(device: &Device) -> Swin {
    let (depths, num_heads) = ([2, 2, 2, 2], [1, 2, 4, 8]);
    SwinConfig { image_size: [SIDE, SIDE], window_size: 4, embed_dim: 32, depths, num_heads }
        .init(&ClassifierSpec::new(CLASSES, device))
}

#[test]
fn predictions_hold_for_windows() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let request = StepRequest {
        image: [SIDE, SIDE, 3],
        num_classes: CLASSES,
        options: TrainOptions { clip_norm: Some(1.0), ..TrainOptions::default() },
        accumulates: false,
        checkpointing: false,
        predicts: false,
    };
    let captured = CapturedSource::record(&request, build);
    let errors = [2, 4].map(|batch| {
        let dry = dry_run_reserved(&request, batch, &device, &build).expect("it fits");
        let real = reserved_by_real_steps(&request, batch, &device, &build).expect("it fits");
        let predicted = captured.reserved_bytes(batch, AllocatorModel::software_vulkan()).expect("it fits");
        eprintln!("batch {batch}: captured {predicted}, dry run {dry}, real {real}");
        assert!(dry.abs_diff(real) * 100 <= real, "{dry} {real}");
        predicted as f64 / real as f64 - 1.0
    });
    // The bound.
    assert!(errors.iter().all(|error| error.abs() <= 0.08), "{errors:?}");
}
