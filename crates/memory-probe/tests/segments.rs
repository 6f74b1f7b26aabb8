//! What computing segments again saves, by the recorded step.

use burn::tensor::Device;
use convnext::ConvNext;
use efficientnet::EfficientNet;
use memory_planner::{Liveness, Phase, Role, TimelinePoint};
use memory_probe::{StepRequest, capture_step};
use swin::Swin;
use trainer::{LossOptions, Recompute, TrainOptions, WarmupCosine};
use vision_nn::{Classifier, ClassifierSpec};

const CLASSES: usize = 1000;
const BATCH: usize = 8;
const SIDE: usize = 224;

fn request(recompute: Recompute) -> StepRequest {
    StepRequest {
        image: [SIDE, SIDE, 3],
        num_classes: CLASSES,
        options: TrainOptions {
            effective_batch_size: BATCH,
            micro_batch_size: BATCH,
            recompute,
            schedule: WarmupCosine { peak: 1e-3, minimum: 0.0, warmup_steps: 0, total_steps: 10 }.into(),
            loss: LossOptions { label_smoothing: 0.1, ..Default::default() },
            clip_norm: Some(1.0),
            ..TrainOptions::default()
        },
        accumulates: false,
        checkpointing: false,
        predicts: false,
    }
}

fn spec(device: &Device) -> ClassifierSpec {
    ClassifierSpec::new(CLASSES, device)
}

fn convnext_base(device: &Device) -> ConvNext {
    convnext::find_variant("convnext_base").unwrap().config.init(&spec(device))
}

fn swin_base(device: &Device) -> Swin {
    swin::find_variant("swin_base_patch4_window7_224").unwrap().config.init(&spec(device))
}

fn efficientnet_b0(device: &Device) -> EfficientNet {
    efficientnet::find_variant("efficientnet_b0").unwrap().config().init(&spec(device))
}

#[test]
fn convnext_base_takes_a_third_of_the_activations_at_most() {
    assert_a_third(convnext_base);
}

#[test]
fn swin_base_takes_a_third_of_the_activations_at_most() {
    assert_a_third(swin_base);
}

#[test]
fn efficientnet_b0_takes_a_third_of_the_activations_at_most() {
    assert_a_third(efficientnet_b0);
}

/// The bound: three times less.
fn assert_a_third<M: Classifier>(build: impl Fn(&Device) -> M) {
    let [plain, segments] =
        [Recompute::Nothing, Recompute::LeadingSegments].map(|way| activation_bytes(&request(way), &build));
    assert!(3 * segments <= plain, "{segments} of {plain}");
}

/// The most that a step holds at any moment of what grows with the batch, but for the images: what is kept for the backward pass, and what passes.
fn activation_bytes<M: Classifier>(request: &StepRequest, build: &dyn Fn(&Device) -> M) -> u64 {
    let trace = capture_step(request, BATCH, build);
    let liveness = Liveness::of(&trace).unwrap();
    let activations = [Role::SavedActivation, Role::Transient].map(|role| Role::ALL.iter().position(|of| *of == role));
    let at = |point: &TimelinePoint| activations.iter().flatten().map(|role| point.bytes_by_role[*role]).sum();
    liveness.timeline().iter().map(at).max().unwrap()
}

#[test]
fn a_step_with_segments_is_recorded_whole() {
    let trace = capture_step(&request(Recompute::LeadingSegments), 1, &efficientnet_b0);
    trace.check().unwrap();
    let mut phases: Vec<Phase> = trace.operations.iter().map(|operation| operation.phase).collect();
    phases.dedup();
    // Forward and backward once for the whole, and once for each of 11 of the 16 segments.
    assert_eq!(phases.iter().filter(|phase| **phase == Phase::Forward).count(), 12);
    assert_eq!(phases.iter().filter(|phase| **phase == Phase::Backward).count(), 12);
}
