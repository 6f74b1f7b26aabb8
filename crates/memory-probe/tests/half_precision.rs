//! What half precision saves by the captured source, for every family.

use std::collections::BTreeMap;

use burn::tensor::Device;
use convnext::ConvNextConfig;
use memory_planner::{Liveness, Precision, Role, Trace};
use memory_probe::{StepRequest, capture_step, fixed_memory};
use swin::SwinConfig;
use trainer::{LossOptions, TrainOptions, WarmupCosine};
use vision_nn::{Classifier, ClassifierSpec};

const CLASSES: usize = 10;
const SIDE: usize = 64;
/// Two batches: what lies between them grows with the batch, and is no copy of a weight.
const BATCHES: [usize; 2] = [16, 32];

fn request(precision: Precision) -> StepRequest {
    StepRequest {
        image: [SIDE, SIDE, 3],
        num_classes: CLASSES,
        options: TrainOptions {
            effective_batch_size: 8,
            micro_batch_size: 8,
            precision,
            schedule: WarmupCosine { peak: 1e-3, minimum: 0.0, warmup_steps: 0, total_steps: 10 }.into(),
            loss: LossOptions { label_smoothing: 0.1, ..LossOptions::default() },
            clip_norm: Some(1.0),
            ..TrainOptions::default()
        },
        accumulates: false,
        checkpointing: false,
        predicts: false,
    }
}

/// What grows between the two batches.
fn grown<M: Classifier>(precision: Precision, build: &dyn Fn(&Device) -> M, of: impl Fn(&Trace) -> u64) -> u64 {
    let [small, large] = BATCHES.map(|batch| of(&capture_step(&request(precision), batch, build)));
    large - small
}

fn saved_activations(trace: &Trace) -> u64 {
    trace.tensors.iter().filter(|tensor| tensor.role == Role::SavedActivation).map(|tensor| tensor.bytes).sum()
}

fn live_at_the_peak(trace: &Trace) -> u64 {
    Liveness::of(trace).expect("a recorded step holds together").peak_bytes
}

fn assert_halved<M: Classifier>(build: &dyn Fn(&Device) -> M) {
    let full = [saved_activations, live_at_the_peak].map(|of| grown(Precision::Fp32, build, of));
    for precision in [Precision::Bf16, Precision::Fp16] {
        let half = [saved_activations, live_at_the_peak].map(|of| grown(precision, build, of));
        let [kept, live] = [0, 1].map(|which| half[which] as f64 / full[which] as f64);
        // Half, and what each sample keeps in f32: its logits.
        assert!(kept <= 0.55, "{precision} keeps {kept:.3} of what fp32 does");
        // At the peak there are also transients, some of which are in f32 on their way through a norm.
        assert!(live <= 0.6, "{precision} has {live:.3} of fp32 at the peak");
    }
}

/// What each layer keeps of a sample. Images in half precision are outside of all layers.
fn kept_by_layer<M: Classifier>(precision: Precision, build: &dyn Fn(&Device) -> M) -> BTreeMap<String, u64> {
    let mut kept: BTreeMap<String, u64> = BTreeMap::new();
    let parts = memory_probe::saved_activations(&request(precision), build).parts;
    for part in parts.into_iter().filter(|part| part.bytes_per_sample > 0 && !part.layer.is_empty()) {
        *kept.entry(part.layer).or_default() += part.bytes_per_sample;
    }
    kept
}

/// Weights are cast all at once before the first layer runs: what a layer makes by the copies is its own all the same.
fn assert_each_layer_keeps_its_own<M: Classifier>(build: &dyn Fn(&Device) -> M) {
    let [full, half] = [Precision::Fp32, Precision::Bf16].map(|precision| kept_by_layer(precision, build));
    assert_eq!(full.keys().collect::<Vec<_>>(), half.keys().collect::<Vec<_>>());
    for (layer, full) in full {
        let half = half[&layer];
        assert!(half <= full && 3 * half >= full, "{layer} keeps {half} B in bf16 and {full} B in fp32");
    }
}

fn spec(device: &Device) -> ClassifierSpec {
    ClassifierSpec::new(CLASSES, device)
}

#[test]
fn convnext_keeps_half_in_half_precision() {
    let config =
        ConvNextConfig { depths: [1, 1, 2, 1], widths: [16, 32, 64, 128], pointwise_mlp: false, response_norm: false };
    assert_halved(&|device| config.init(&spec(device)));
    assert_each_layer_keeps_its_own(&|device| config.init(&spec(device)));
}

#[test]
fn swin_keeps_half_in_half_precision() {
    let (depths, num_heads) = ([2, 2, 2, 2], [1, 2, 4, 8]);
    let config = SwinConfig { image_size: [SIDE; 2], window_size: 4, embed_dim: 32, depths, num_heads };
    assert_halved(&|device| config.init(&spec(device)));
    assert_each_layer_keeps_its_own(&|device| config.init(&spec(device)));
}

#[test]
fn efficientnet_keeps_half_in_half_precision() {
    for name in ["efficientnet_b0", "tf_efficientnetv2_b0"] {
        let config = efficientnet::find_variant(name).expect("a variant of the registry").config();
        assert_halved(&|device| config.init(&spec(device)));
        assert_each_layer_keeps_its_own(&|device| config.init(&spec(device)));
    }
}

#[test]
fn masters_and_moments_stay_in_f32() {
    let config =
        ConvNextConfig { depths: [1, 1, 2, 1], widths: [16, 32, 64, 128], pointwise_mlp: false, response_norm: false };
    let build = |device: &Device| config.init(&spec(device));
    let fixed = |precision| fixed_memory(&capture_step(&request(precision), 8, &build));
    assert_eq!(fixed(Precision::Bf16), fixed(Precision::Fp32));
    assert_eq!(fixed(Precision::Fp16), fixed(Precision::Fp32));
}
