//! Every form of the operation against its definition in f64.

use burn::backend::{Backend, DispatchKindConversion, DispatchTensor};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};

use super::passes::ResidualPasses;
use super::*;
use crate::kernels::test_tensors;

/// Half an unit in the last place of a type, relative to a number.
fn rounding(storage: DType) -> f64 {
    match storage {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 0.0,
    }
}

/// Numbers without a pattern in -0.6 to 1: their sums do not cancel.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|place| (((place + 977 * seed) as f64 * 78.233).sin() * 0.8 + 0.2) as f32).collect()
}

/// The numbers as `storage` holds them, and their tensor.
fn stored<B: Backend, const D: usize>(
    numbers: Vec<f32>,
    shape: [usize; D],
    (device, storage): (&Device, DType),
) -> (Vec<f64>, FloatTensor<B>)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let tensor = stored_as(Tensor::<D>::from_data(TensorData::new(numbers, shape), device), storage);
    (host(&tensor), primitive::<B, D>(tensor))
}

fn host<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

fn assert_near(what: &str, found: &[f64], expected: &[f64], storage: DType) {
    if !test_tensors::numbers_count() {
        return;
    }
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f64, |largest, number| largest.max(number.abs()));
    for (found, expected) in found.iter().zip(expected) {
        let allowed = 1e-5 * largest + rounding(storage) * expected.abs();
        assert!((found - expected).abs() <= allowed, "{what}: {found} is not {expected}");
    }
}

fn assert_defined<B: Backend + ResidualPasses>(device: &Device, shape: [usize; 4], has: [bool; 2], storage: DType)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let [batch, height, width, channels] = shape;
    let count = batch * height * width * channels;
    let [has_scale, has_factors] = has;
    let (map, map_tensor) = stored::<B, 4>(numbers(1, count), shape, (device, storage));
    let (branch, branch_tensor) = stored::<B, 4>(numbers(2, count), shape, (device, storage));
    let (upstream, upstream_tensor) = stored::<B, 4>(numbers(3, count), shape, (device, storage));
    let (scale, scale_tensor) = stored::<B, 1>(numbers(4, channels), [channels], (device, DType::F32));
    let (bias, bias_tensor) = stored::<B, 1>(numbers(5, channels), [channels], (device, DType::F32));
    let kept = (0..batch).map(|sample| if sample % 3 == 1 { 0.0 } else { 1.25 }).collect();
    let (factors, factors_tensor) = stored::<B, 1>(kept, [batch], (device, DType::F32));
    let scale_at = |place: usize| if has_scale { scale[place % channels] } else { 1.0 };
    let bias_at = |place: usize| if has_scale { bias[place % channels] } else { 0.0 };
    let factor_at = |place: usize| if has_factors { factors[place / (height * width * channels)] } else { 1.0 };
    let mut of_vectors = [vec![0.0; channels], vec![0.0; channels]];
    for place in 0..count {
        let slope = upstream[place] * factor_at(place);
        of_vectors[0][place % channels] += slope * scale_at(place);
        of_vectors[1][place % channels] += slope * (branch[place] + bias_at(place));
    }
    let value_at = |place: usize| (branch[place] + bias_at(place)) * scale_at(place) * factor_at(place);
    let sum: Vec<f64> = (0..count).map(|place| map[place] + value_at(place)).collect();
    let of_branch: Vec<f64> = (0..count).map(|place| upstream[place] * scale_at(place) * factor_at(place)).collect();

    let what = format!("{shape:?} with scale and factors {has:?} in {storage:?}");
    let scale = has_scale.then_some([bias_tensor, scale_tensor]);
    let factors = has_factors.then_some(factors_tensor);
    let found = B::residual_sum(map_tensor, branch_tensor.clone(), scale.clone(), factors.clone());
    assert_eq!(found.dtype(), storage);
    assert_near(&format!("sum of {what}"), &host(&Tensor::<4>::from_primitive::<B>(found)), &sum, storage);
    let (found, _) = B::residual_gradients(None, scale.clone(), factors.clone(), upstream_tensor.clone());
    let alone = host(&Tensor::<4>::from_primitive::<B>(found));
    let branch = has_scale.then_some(branch_tensor);
    let (found, found_of_vectors) = B::residual_gradients(branch, scale, factors, upstream_tensor);
    let found = host(&Tensor::<4>::from_primitive::<B>(found));
    assert_eq!(found, alone, "{what}");
    assert_near(&format!("branch of {what}"), &found, &of_branch, storage);
    assert_eq!(found_of_vectors.is_some(), has_scale);
    for (found, (name, expected)) in
        found_of_vectors.into_iter().flatten().zip(["bias", "scale"].into_iter().zip(of_vectors))
    {
        assert_eq!(found.dtype(), DType::F32);
        let found = host(&Tensor::<1>::from_primitive::<B>(found));
        assert_near(&format!("{name} of {what}"), &found, &expected, DType::F32);
    }
}

fn assert_defined_everywhere<B: Backend + ResidualPasses>(device: &Device, storages: &[DType])
where
    DispatchTensor: DispatchKindConversion<B>,
{
    for &storage in storages {
        // Odd sizes, one pixel, channels that fill no vector, and more rows than there are chunks.
        for shape in [[2, 3, 5, 24], [1, 1, 1, 1], [3, 7, 5, 33], [5, 1, 1, 96], [4, 40, 41, 50]] {
            for has in [[true, true], [true, false], [false, true]] {
                assert_defined::<B>(device, shape, has, storage);
            }
        }
    }
}

#[test]
fn the_definition_holds_on_the_cpu() {
    assert_defined_everywhere::<Flex>(&Device::flex(), &[DType::F32, DType::BF16, DType::F16]);
    // Half precision would stop counting at the 256th of these rows.
    assert_defined::<Flex>(&Device::flex(), [8, 224, 224, 3], [true, true], DType::BF16);
}

/// WebGPU has no bf16.
#[cfg(feature = "wgpu")]
#[test]
fn the_definition_holds_on_software_vulkan() {
    let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    assert_defined_everywhere::<Wgpu>(&device, &[DType::F32, DType::F16]);
    // More rows than there are chunks of them.
    assert_defined::<Wgpu>(&device, [8, 224, 224, 3], [true, true], DType::F32);
    assert_defined::<Wgpu>(&device, [2, 3, 2, 140_000], [true, true], DType::F32);
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a card: `scripts/gpu_report.sh OUT` runs it there"]
fn the_definition_holds_on_cuda() {
    let device = Device::cuda(0);
    assert_defined_everywhere::<Cuda>(&device, &[DType::F32, DType::BF16, DType::F16]);
    assert_defined::<Cuda>(&device, [8, 224, 224, 3], [true, true], DType::BF16);
}

type Operation = fn(Tensor<4>, Tensor<4>, Option<BranchScale>, Factors) -> Tensor<4>;

/// Output, and the gradients of map, branch and, where they are there, bias and scale.
fn run(given: &[Tensor<4>; 3], scale: Option<&[Tensor<1>; 2]>, factors: &Factors, operation: Operation) -> Vec<f32> {
    let device = Device::flex().autodiff();
    let [map, branch, upstream] = given.each_ref().map(|tensor| Tensor::<4>::from_data(tensor.to_data(), &device));
    let (map, branch) = (map.require_grad(), branch.require_grad());
    let leaf = |vector: &Tensor<1>| Tensor::<1>::from_data(vector.to_data(), &device).require_grad();
    let vectors = scale.map(|vectors| vectors.each_ref().map(leaf));
    let scale = vectors.clone().map(|[bias, scale]| BranchScale { bias, scale });
    let output = operation(map.clone(), branch.clone(), scale, factors.clone());
    let tape = (output.clone() * upstream).sum().backward();
    let maps = [output.inner(), map.grad(&tape).unwrap(), branch.grad(&tape).unwrap()];
    let of_vectors = vectors.into_iter().flatten().map(|vector| vector.grad(&tape).unwrap().into_data());
    let all = maps.into_iter().map(Tensor::into_data).chain(of_vectors);
    all.flat_map(|data| data.iter::<f32>().collect::<Vec<_>>()).collect()
}

#[test]
fn output_and_gradients_are_those_of_burns_operations() {
    let device = Device::flex();
    let random = || Tensor::<4>::random([3, 2, 5, 7], Distribution::Normal(0.0, 1.0), &device);
    let given = [random(), random(), random()];
    let vectors = [(); 2].map(|()| Tensor::<1>::random([7], Distribution::Normal(0.0, 1.0), &device));
    for scale in [Some(&vectors), None] {
        for factors in [Some(Arc::from([1.25, 0.0, 1.25])), None] {
            let ours = run(&given, scale, &factors, residual);
            let burns = run(&given, scale, &factors, composed);
            assert_eq!(ours.len(), burns.len());
            for (ours, burns) in ours.into_iter().zip(burns) {
                // At most thirty products of order two in f32.
                assert!((ours - burns).abs() < 2e-5, "{ours} is not {burns}");
            }
        }
    }
}

#[test]
fn frozen_vectors_leave_the_others_their_gradients() {
    let device = Device::flex().autodiff();
    let of = |values: [f32; 2]| Tensor::<1>::from_floats(values, &device);
    for [bias_learns, scale_learns] in [[false, false], [true, false], [false, true]] {
        let map = Tensor::<4>::ones([2, 1, 1, 2], &device).require_grad();
        let branch = Tensor::<4>::ones([2, 1, 1, 2], &device).require_grad();
        let (bias, scale) = (of([1.0, -3.0]), of([2.0, 3.0]));
        let bias = if bias_learns { bias.require_grad() } else { bias };
        let scale = if scale_learns { scale.require_grad() } else { scale };
        let vectors = BranchScale { bias: bias.clone(), scale: scale.clone() };
        let factors = Some(Arc::from([0.0, 2.0]));
        let tape = residual(map.clone(), branch.clone(), Some(vectors), factors).sum().backward();
        assert_eq!(host(&branch.grad(&tape).unwrap()), [0.0, 0.0, 4.0, 6.0]);
        assert_eq!(host(&map.grad(&tape).unwrap()), [1.0; 4]);
        assert_eq!(bias.grad(&tape).map(|found| host(&found)), bias_learns.then(|| vec![4.0, 6.0]));
        assert_eq!(scale.grad(&tape).map(|found| host(&found)), scale_learns.then(|| vec![4.0, -4.0]));
    }
}
