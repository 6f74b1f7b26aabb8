//! Kernels for CubeCL devices, held to sums in f64 on a device that needs no card: Mesa's software Vulkan by way of WebGPU.
//!
//!     cargo test -p vision-nn --features wgpu --test norms_on_vulkan

#![cfg(feature = "wgpu")]

use burn::tensor::{DType, Device, DeviceKind, Tensor, TensorData};
use vision_nn::{layer_norm, stored_as};

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

fn assert_layer_norm(device: &Device, [rows, channels]: [usize; 2], storage: DType, tolerances: [f64; 4]) {
    let tracked = device.clone().autodiff();
    let rounded = |seed| host(tensor(&numbers(seed, rows * channels), [rows, channels], device, storage));
    let (input, upstream) = (rounded(1), rounded(2));
    let (weight, bias) = (numbers(3, channels), numbers(4, channels));
    let expected = layer_norm_in_f64(&input, &weight, &bias, &upstream);

    let map = tensor(&input, [rows, channels], &tracked, storage).detach().require_grad();
    let [scale, offset] =
        [&weight, &bias].map(|parameter| tensor(parameter, [channels], &tracked, DType::F32).detach().require_grad());
    let output = layer_norm(map.clone(), scale.clone(), offset.clone(), EPSILON);
    assert_eq!(output.dtype(), storage);
    // In f32 from here on, so that the loss itself rounds nothing; the gradient is rounded as it goes back.
    let upstream = tensor(&upstream, [rows, channels], &tracked, DType::F32);
    let tape = (stored_as(output.clone(), DType::F32) * upstream).sum().backward();
    let found = [
        host(output.inner()),
        host(map.grad(&tape).expect("the map is a leaf")),
        host(scale.grad(&tape).expect("the weight is a leaf")),
        host(offset.grad(&tape).expect("the bias is a leaf")),
    ];
    for (part, name) in ["output", "input", "weight", "bias"].into_iter().enumerate() {
        let what = format!("{name} of {rows} rows of {channels} in {storage:?}");
        assert_near(&what, &found[part], &expected[part], tolerances[part]);
    }
}

#[test]
fn layer_norm_is_what_f64_gives() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    for shape in [[1, 1], [1, 96], [3, 7], [130, 33], [5, 100], [70, 768], [3, 2048], [5000, 24]] {
        assert_layer_norm(&device, shape, DType::F32, [1e-5; 4]);
    }
    // Half a unit in the last of the eleven bits of fp16; sums of weight and bias see only the inputs' rounding, which is not an error here.
    for shape in [[1, 96], [130, 33], [70, 768]] {
        assert_layer_norm(&device, shape, DType::F16, [5e-4, 5e-4, 1e-5, 1e-5]);
    }
}

#[test]
fn rows_longer_than_the_kernels_take_are_normalised_by_burns_operations() {
    assert_layer_norm(&Device::wgpu(DeviceKind::DefaultDevice), [3, 2500], DType::F32, [1e-5; 4]);
}

#[test]
fn views_are_normalised_as_what_they_show() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let map = tensor(&numbers(1, 2 * 12 * 5), [2, 12, 5], &device, DType::F32);
    let [weight, bias] = [3, 4].map(|seed| tensor(&numbers(seed, 12), [12], &device, DType::F32));
    let of_view = layer_norm(map.clone().swap_dims(1, 2), weight.clone(), bias.clone(), EPSILON);
    let of_copy = Tensor::<3>::from_data(map.swap_dims(1, 2).into_data(), &device);
    let expected = host(layer_norm(of_copy, weight, bias, EPSILON));
    assert_near("view", &host(of_view), &expected, 0.0);
}
