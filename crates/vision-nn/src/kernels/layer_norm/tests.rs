//! Every form of the operation against its definition in f64.

use burn::backend::{Backend, DispatchKindConversion, DispatchTensor};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::*;
use crate::pass::stored_as;

const EPSILON: f64 = 1e-6;

/// Numbers between -1 and 1 that look random.
fn numbers(seed: usize, count: usize) -> Vec<f64> {
    let number = |place: usize| ((place * 7919 + seed * 104_729 + 1) as f64 * 0.618_033_988_749_895).fract();
    (0..count).map(|place| f64::from((2.0 * number(place) - 1.0) as f32)).collect()
}

fn tensor<const D: usize>(numbers: &[f64], shape: [usize; D], device: &Device, storage: DType) -> Tensor<D> {
    let numbers: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
    stored_as(Tensor::from_data(TensorData::new(numbers, shape), device), storage)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Against the largest number that is expected.
fn assert_near(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f64, |largest, number| largest.max(number.abs()));
    let off = found.iter().zip(expected).fold(0.0f64, |off, (one, other)| off.max((one - other).abs()));
    assert!(off <= tolerance * largest, "{what}: {off} of {largest}");
}

/// Output, and the gradients of input, weight and bias.
fn layer_norm_in_f64(input: &[f64], weight: &[f64], bias: &[f64], upstream: &[f64]) -> [Vec<f64>; 4] {
    let channels = weight.len();
    let [mut output, mut of_input] = [Vec::new(), Vec::new()];
    let [mut of_weight, mut of_bias] = [vec![0.0; channels], vec![0.0; channels]];
    for (row, upstream) in input.chunks_exact(channels).zip(upstream.chunks_exact(channels)) {
        let mean_of = |numbers: &[f64]| numbers.iter().sum::<f64>() / channels as f64;
        let mean = mean_of(row);
        let variance = mean_of(&row.iter().map(|number| (number - mean).powi(2)).collect::<Vec<_>>());
        let scale = 1.0 / (variance + EPSILON).sqrt();
        let normalised: Vec<f64> = row.iter().map(|number| (number - mean) * scale).collect();
        let weighted: Vec<f64> = upstream.iter().zip(weight).map(|(slope, weight)| slope * weight).collect();
        let share = mean_of(&weighted.iter().zip(&normalised).map(|(slope, place)| slope * place).collect::<Vec<_>>());
        let level = mean_of(&weighted);
        for channel in 0..channels {
            output.push(normalised[channel] * weight[channel] + bias[channel]);
            of_input.push((weighted[channel] - level - normalised[channel] * share) * scale);
            of_weight[channel] += upstream[channel] * normalised[channel];
            of_bias[channel] += upstream[channel];
        }
    }
    [output, of_input, of_weight, of_bias]
}

/// Half an unit in the last place of a type, relative to a number, which may be the largest there is.
fn rounding(storage: DType) -> f64 {
    match storage {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 0.0,
    }
}

fn assert_defined<B: Backend + FusedLayerNorm>(device: &Device, [rows, channels]: [usize; 2], storage: DType)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    // What is stored is what goes in: its rounding is no error.
    let rounded = |seed| host(tensor(&numbers(seed, rows * channels), [rows, channels], device, storage));
    let (input, upstream) = (rounded(1), rounded(2));
    let (weight, bias) = (numbers(3, channels), numbers(4, channels));
    let expected = layer_norm_in_f64(&input, &weight, &bias, &upstream);

    let [input, upstream] =
        [&input, &upstream].map(|map| primitive::<B, 2>(tensor(map, [rows, channels], device, storage)));
    let [weight, bias] =
        [&weight, &bias].map(|parameter| primitive::<B, 1>(tensor(parameter, [channels], device, DType::F32)));
    let output = B::fused_layer_norm(input.clone(), weight.clone(), bias, EPSILON as f32);
    let (of_input, of_weight, of_bias) = B::fused_layer_norm_gradient(input, weight, upstream, EPSILON as f32);
    assert_eq!([output.dtype(), of_input.dtype()], [storage; 2]);
    assert_eq!([of_weight.dtype(), of_bias.dtype()], [DType::F32; 2]);
    let maps = [output, of_input].map(|map| host(Tensor::<2>::from_primitive::<B>(map)));
    let parameters = [of_weight, of_bias].map(|parameter| host(Tensor::<1>::from_primitive::<B>(parameter)));
    for (part, found) in maps.into_iter().chain(parameters).enumerate() {
        let what = format!("{part} of {rows} rows of {channels} in {storage:?}");
        let tolerance = if part < 2 { 1e-5 + rounding(storage) } else { 1e-5 };
        assert_near(&what, &found, &expected[part], tolerance);
    }
}

fn assert_defined_everywhere<B: Backend + FusedLayerNorm>(device: &Device, halves: &[DType])
where
    DispatchTensor: DispatchKindConversion<B>,
{
    // Rows of odd lengths, and longer than a card's kernels take; one row, and more than the cubes of a launch have lines for.
    for shape in [[1, 3], [1, 96], [3, 7], [130, 33], [5, 100], [70, 768], [3, 2048], [3, 2500], [40_000, 24]] {
        assert_defined::<B>(device, shape, DType::F32);
    }
    for &storage in halves {
        for shape in [[1, 96], [130, 33], [70, 768]] {
            assert_defined::<B>(device, shape, storage);
        }
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
    views_are_normalised_as_what_they_show(&device);
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a card: `scripts/gpu_report.sh OUT` runs it there. Sums over planes and bf16 run nowhere else"]
fn the_definition_holds_on_cuda() {
    let device = Device::cuda(0);
    assert_defined_everywhere::<Cuda>(&device, &[DType::BF16, DType::F16]);
    views_are_normalised_as_what_they_show(&device);
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn views_are_normalised_as_what_they_show(device: &Device) {
    let map = tensor(&numbers(1, 2 * 12 * 5), [2, 12, 5], device, DType::F32);
    let [weight, bias] = [3, 4].map(|seed| tensor(&numbers(seed, 12), [12], device, DType::F32));
    let of_view = layer_norm(map.clone().swap_dims(1, 2), weight.clone(), bias.clone(), EPSILON);
    let of_copy = Tensor::<3>::from_data(map.swap_dims(1, 2).into_data(), device);
    assert_near("view", &host(of_view), &host(layer_norm(of_copy, weight.clone(), bias.clone(), EPSILON)), 0.0);
    // A part of longer rows: a card reads them where they are.
    let rows = tensor(&numbers(1, 6 * 40), [6, 40], device, DType::F32);
    let part = rows.narrow(1, 8, 12);
    let of_copy = Tensor::<2>::from_data(part.to_data(), device);
    let of_part = layer_norm(part, weight.clone(), bias.clone(), EPSILON);
    assert_near("part", &host(of_part), &host(layer_norm(of_copy, weight, bias, EPSILON)), 0.0);
}

#[test]
fn a_card_takes_the_rows_that_its_shared_memory_holds() {
    let takes = |channels, shared_bytes| cards_take(&Shape::new([3, channels]), shared_bytes);
    // What every WebGPU has, which 2048 channels are too many for; and what every CUDA card has.
    assert!(takes(1920, 16 << 10) && !takes(2048, 16 << 10));
    assert!(takes(2048, 48 << 10) && !takes(2049, 48 << 10));
    assert!(!cards_take(&Shape::new([0, 8]), 48 << 10));
}
