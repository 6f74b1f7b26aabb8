//! Every form of the operation against its definition in f64, and against timm's, step by step.

use burn::backend::{DispatchKindConversion, DispatchTensor, TensorMetadata};
use burn::tensor::{DType, Device, Distribution};

use super::*;
use crate::kernels::test_definition::{assert_near, host, numbers, primitive_of, rounded, rounding};

const TOLERANCE: f64 = 1e-5;
const EPSILON: f64 = 1e-6;

/// Positions of several chunks.
const MANY: usize = 3000;

/// Output, and the gradients of cells, weight and bias.
fn definition(
    [cells, upstream]: [&[f64]; 2],
    [weight, bias]: [&[f64]; 2],
    [batch, positions, channels]: [usize; 3],
) -> [Vec<f64>; 4] {
    let [mut output, mut of_cells] = [0, 1].map(|_| vec![0.0; cells.len()]);
    let [mut of_weight, mut of_bias] = [0, 1].map(|_| vec![0.0; channels]);
    for sample in 0..batch {
        let at = |p: usize, c: usize| (sample * positions + p) * channels + c;
        let over = |term: &dyn Fn(usize) -> f64, count: usize| (0..count).map(term).sum::<f64>();
        let lengths: Vec<f64> = (0..channels).map(|c| over(&|p| cells[at(p, c)].powi(2), positions).sqrt()).collect();
        let mean = lengths.iter().sum::<f64>() / channels as f64 + EPSILON;
        // Of the response of each channel.
        let slopes: Vec<f64> =
            (0..channels).map(|c| weight[c] * over(&|p| upstream[at(p, c)] * cells[at(p, c)], positions)).collect();
        let through_mean = over(&|c| slopes[c] * lengths[c], channels) / mean.powi(2) / channels as f64;
        for c in 0..channels {
            let scale = 1.0 + weight[c] * lengths[c] / mean;
            for p in 0..positions {
                let (x, g) = (cells[at(p, c)], upstream[at(p, c)]);
                output[at(p, c)] = x * scale + bias[c];
                of_cells[at(p, c)] = g * scale + (slopes[c] / mean - through_mean) * x / lengths[c];
                of_weight[c] += g * x * lengths[c] / mean;
                of_bias[c] += g;
            }
        }
    }
    [output, of_cells, of_weight, of_bias]
}

/// Output, and the gradients of cells, weight and bias.
type Found<B> = (FloatTensor<B>, (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>));

type Form<B> = fn(FloatTensor<B>, [FloatTensor<B>; 2], FloatTensor<B>) -> Found<B>;

/// The backend's own form.
fn own<B: ResponseNorm>(
    cells: FloatTensor<B>,
    [weight, bias]: [FloatTensor<B>; 2],
    upstream: FloatTensor<B>,
) -> Found<B> {
    let output = B::response_norm(cells.clone(), weight.clone(), bias, EPSILON as f32);
    (output, B::response_norm_gradient(cells, weight, upstream, EPSILON as f32))
}

fn assert_defined<B: Backend>(device: &Device, shape: [usize; 3], storage: DType, form: Form<B>)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let [batch, positions, channels] = shape;
    let [cells, upstream] = [1, 2].map(|seed| rounded(&numbers(seed, batch * positions * channels), device, storage));
    let [weight, bias] = [3, 4].map(|seed| numbers(seed, channels));
    let expected = definition([&cells, &upstream], [&weight, &bias], shape);
    let [cells, upstream] = [cells, upstream].map(|map| primitive_of::<B, 3>(&map, shape, device, storage));
    let vectors = [weight, bias].map(|vector| primitive_of::<B, 1>(&vector, [channels], device, DType::F32));
    let (output, (of_cells, of_weight, of_bias)) = form(cells, vectors, upstream);
    assert_eq!([output.dtype(), of_cells.dtype(), of_weight.dtype()], [storage, storage, DType::F32]);
    let maps = [output, of_cells].map(host::<B, 3>);
    let vectors = [of_weight, of_bias].map(host::<B, 1>);
    for (part, found) in maps.into_iter().chain(vectors).enumerate() {
        let tolerance = if part < 2 { TOLERANCE + rounding(storage) } else { TOLERANCE };
        assert_near(&format!("{part} of {shape:?} in {storage:?}"), &found, &expected[part], tolerance);
    }
}

fn assert_defined_everywhere<B: Backend>(device: &Device, halves: &[DType], many: usize, form: Form<B>)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    // One position; odd channels; many positions.
    for shape in [[1, 1, 8], [3, 49, 33], [2, many, 24]] {
        assert_defined::<B>(device, shape, DType::F32, form);
    }
    for &storage in halves {
        assert_defined::<B>(device, [3, 49, 33], storage, form);
    }
}

#[test]
fn the_definition_holds_on_the_cpu() {
    assert_defined_everywhere::<Flex>(&Device::flex(), &[DType::BF16, DType::F16], MANY, own::<Flex>);
}

/// Over fewer positions: Burn's sums add one number after the other in f32 on the CPU, and thousands of them are rounded by more than the bound.
#[test]
fn the_definition_holds_in_a_backends_own_operations() {
    assert_defined_everywhere::<Flex>(
        &Device::flex(),
        &[DType::BF16, DType::F16],
        300,
        |cells, [weight, bias], upstream| {
            let output = composed::forward::<Flex>(cells.clone(), weight.clone(), bias, EPSILON as f32);
            (output, composed::gradient::<Flex>(cells, weight, upstream, EPSILON as f32))
        },
    );
}

/// WebGPU has no bf16.
#[cfg(feature = "wgpu")]
#[test]
fn the_definition_holds_on_software_vulkan() {
    let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    assert_defined_everywhere::<Wgpu>(&device, &[DType::F16], MANY, own::<Wgpu>);
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a card: `scripts/gpu_report.sh OUT` runs it there. bf16 runs nowhere else"]
fn the_definition_holds_on_cuda() {
    assert_defined_everywhere::<Cuda>(&Device::cuda(0), &[DType::BF16, DType::F16], MANY, own::<Cuda>);
}

/// timm's [`GlobalResponseNorm`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/layers/grn.py), step by step.
fn step_by_step(cells: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<3> {
    let lengths = (cells.clone() * cells.clone()).sum_dim(1).sqrt();
    let responses = lengths.clone() / (lengths.mean_dim(2) + epsilon);
    cells.clone() + (cells * responses) * weight.unsqueeze() + bias.unsqueeze()
}

type Operation = fn(Tensor<3>, Tensor<1>, Tensor<1>, f64) -> Tensor<3>;

/// Output, and the gradients of cells, weight and bias.
fn run(cells: &Tensor<3>, vectors: &[Tensor<1>; 2], operation: Operation) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let cells = Tensor::<3>::from_data(cells.to_data(), &device).require_grad();
    let [weight, bias] =
        vectors.each_ref().map(|vector| Tensor::<1>::from_data(vector.to_data(), &device).require_grad());
    let output = operation(cells.clone(), weight.clone(), bias.clone(), 1e-6);
    // Squared, so that each number of the output has a gradient of its own.
    let tape = (output.clone() * output.clone()).sum().backward();
    let found = [
        output.into_data(),
        cells.grad(&tape).unwrap().into_data(),
        weight.grad(&tape).unwrap().into_data(),
        bias.grad(&tape).unwrap().into_data(),
    ];
    found.map(|data| data.iter::<f32>().collect()).to_vec()
}

fn draw() -> (Tensor<3>, [Tensor<1>; 2]) {
    let device = Device::flex();
    let cells = Tensor::random([3, 10, 6], Distribution::Normal(0.0, 1.0), &device);
    (cells, [0, 1].map(|_| Tensor::random([6], Distribution::Normal(0.0, 1.0), &device)))
}

#[test]
fn in_one_operation_it_is_what_it_is_step_by_step() {
    let (cells, vectors) = draw();
    let (found, expected) = (run(&cells, &vectors, response_norm), run(&cells, &vectors, step_by_step));
    for (found, expected) in found.iter().zip(&expected) {
        let largest = expected.iter().map(|value| value.abs()).fold(0.0, f32::max);
        for (found, expected) in found.iter().zip(expected) {
            // Sums of up to thirty products in f32.
            assert!((found - expected).abs() < 1e-5 * largest, "{found} {expected}");
        }
    }
}

#[test]
fn a_channel_of_zeros_has_a_gradient() {
    let (cells, vectors) = draw();
    let cells = cells.slice_fill([0..3, 0..10, 2..3], 0.0);
    let found = run(&cells, &vectors, response_norm);
    assert!(found.iter().flatten().all(|value| value.is_finite()));
    assert!(run(&cells, &vectors, step_by_step)[1].iter().any(|value| value.is_nan()), "the guard is not needed");
}

#[test]
fn half_precision_maps_come_back_in_their_own_type() {
    let (cells, [weight, bias]) = draw();
    let expected = response_norm(cells.clone(), weight.clone(), bias.clone(), 1e-6);
    let found = response_norm(cells.cast(DType::BF16), weight, bias, 1e-6);
    assert_eq!(found.dtype(), DType::BF16);
    let difference = (found.cast(DType::F32) - expected).abs().max().into_scalar::<f32>();
    // bf16 has 8 bits: cells of up to four, scaled by up to three, three roundings.
    assert!(difference < 0.1, "{difference}");
}
