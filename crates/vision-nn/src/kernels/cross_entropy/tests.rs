//! Every form of the operation against its definition in f64.

use burn::backend::{DispatchKindConversion, DispatchTensor};
use burn::tensor::Device;

use super::*;
use crate::kernels::test_definition::{assert_near, host, numbers, primitive_of, rounded, rounding};

const TOLERANCE: f64 = 1e-5;

/// The gradient of the loss.
const UPSTREAM: f64 = 0.3125;

/// Loss, and the gradient of the logits.
fn definition(logits: &[f64], targets: &[f64], classes: usize) -> [Vec<f64>; 2] {
    let (mut loss, mut gradient) = (0.0, Vec::new());
    for (logits, targets) in logits.chunks_exact(classes).zip(targets.chunks_exact(classes)) {
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - highest).exp()).sum();
        let whole: f64 = targets.iter().sum();
        for (logit, target) in logits.iter().zip(targets) {
            let logarithm = logit - highest - sum.ln();
            loss -= target * logarithm;
            gradient.push(UPSTREAM * (whole * logarithm.exp() - target));
        }
    }
    [vec![loss], gradient]
}

fn inputs([batch, classes]: [usize; 2], device: &Device, storage: DType) -> [Vec<f64>; 2] {
    let logits: Vec<f64> = numbers(1, batch * classes).iter().map(|number| 6.0 * number).collect();
    // Soft, and of no particular sum: classes have weights.
    let targets = numbers(2, batch * classes).iter().map(|number| number.max(0.0)).collect();
    [rounded(&logits, device, storage), targets]
}

fn assert_defined<B: Backend + FusedCrossEntropy>(device: &Device, shape: [usize; 2], storage: DType)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let [logits, targets] = inputs(shape, device, storage);
    let [loss, of_logits] = definition(&logits, &targets, shape[1]);
    let logits = primitive_of::<B, 2>(&logits, shape, device, storage);
    let targets = primitive_of::<B, 2>(&targets, shape, device, DType::F32);
    let upstream = primitive_of::<B, 1>(&[UPSTREAM], [1], device, DType::F32);
    let found = B::fused_cross_entropy(logits.clone(), targets.clone());
    let found_gradient = B::fused_cross_entropy_gradient(logits, targets, upstream);
    assert_eq!([found.dtype(), found_gradient.dtype()], [DType::F32, storage]);
    let what = format!("{shape:?} in {storage:?}");
    assert_near(&format!("loss of {what}"), &host::<B, 1>(found), &loss, TOLERANCE);
    let tolerance = TOLERANCE + rounding(storage);
    assert_near(&format!("gradient of {what}"), &host::<B, 2>(found_gradient), &of_logits, tolerance);
}

fn assert_defined_everywhere<B: Backend + FusedCrossEntropy>(device: &Device, halves: &[DType])
where
    DispatchTensor: DispatchKindConversion<B>,
{
    // One of each; fewer classes and more than units; more rows than units of the last sum.
    for shape in [[1, 1], [1, 2], [7, 10], [64, 1000], [700, 3]] {
        assert_defined::<B>(device, shape, DType::F32);
    }
    for &storage in halves {
        assert_defined::<B>(device, [64, 101], storage);
    }
}

#[test]
fn the_definition_holds_on_the_cpu() {
    assert_defined_everywhere::<Flex>(&Device::flex(), &[DType::BF16, DType::F16]);
}

/// WebGPU has no bf16.
#[cfg(feature = "wgpu")]
#[test]
fn the_definition_holds_on_software_vulkan() {
    let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    assert_defined_everywhere::<Wgpu>(&device, &[DType::F16]);
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a card: `scripts/gpu_report.sh OUT` runs it there. bf16 runs nowhere else"]
fn the_definition_holds_on_cuda() {
    assert_defined_everywhere::<Cuda>(&Device::cuda(0), &[DType::BF16, DType::F16]);
}

#[test]
fn the_definition_holds_in_a_backends_own_operations() {
    let (device, shape) = (Device::flex(), [7, 10]);
    let [logits, targets] = inputs(shape, &device, DType::F32);
    let [loss, of_logits] = definition(&logits, &targets, shape[1]);
    let [logits, targets] = [logits, targets].map(|map| primitive_of::<Flex, 2>(&map, shape, &device, DType::F32));
    let found = composed::forward::<Flex>(logits.clone(), targets.clone());
    assert_near("loss", &host::<Flex, 1>(found), &loss, TOLERANCE);
    let upstream = primitive_of::<Flex, 1>(&[UPSTREAM], [1], &device, DType::F32);
    let found = composed::gradient::<Flex>(logits, targets, upstream);
    assert_near("gradient", &host::<Flex, 2>(found), &of_logits, TOLERANCE);
}

/// Targets come on the device of the tape; the gradient is that of the logits.
#[test]
fn the_tape_has_the_gradient() {
    let device = Device::flex().autodiff();
    let [logits, targets] = inputs([3, 4], &device, DType::F32);
    let [_, expected] = definition(&logits, &targets, 4);
    let tensor = |numbers: &[f64]| crate::kernels::test_definition::tensor(numbers, [3, 4], &device, DType::F32);
    let logits = tensor(&logits).require_grad();
    let tape = cross_entropy(logits.clone(), tensor(&targets)).mul_scalar(UPSTREAM).backward();
    let found: Vec<f64> = logits.grad(&tape).unwrap().into_data().iter().collect();
    assert_near("gradient", &found, &expected, TOLERANCE);
}
