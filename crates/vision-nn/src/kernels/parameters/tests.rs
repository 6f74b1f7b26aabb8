//! Passes over lists of tensors against their definition in f64.

use burn::tensor::{Device, Element, Tensor, TensorData, bf16, f16};

use super::*;
use crate::kernels::test_tensors;

/// More than one launch takes, of lengths around those of a cube and of its share of numbers.
const LENGTHS: [usize; 12] = [1, 7, 255, 256, 257, 4095, 4096, 4097, 12_289, 3, 96, 768];
const TENSORS: usize = 150;

/// What averages keep of themselves, and what gradients are multiplied by.
const DECAY: f64 = 0.9;
const FACTOR: f64 = 0.25;

/// Numbers between -1 and 1 that look random.
fn numbers(seed: usize) -> Vec<Vec<f64>> {
    let number = |place: usize| ((place * 7919 + seed * 104_729 + 1) as f64 * 0.618_033_988_749_895).fract();
    let of_tensor = |tensor: usize| {
        let count = LENGTHS[tensor % LENGTHS.len()];
        (0..count).map(|place| f64::from((2.0 * number(place + 31 * tensor) - 1.0) as f32)).collect()
    };
    (0..TENSORS).map(of_tensor).collect()
}

fn tensors(numbers: &[Vec<f64>], device: &Device) -> Vec<Tensor<1>> {
    let tensor = |numbers: &Vec<f64>| {
        let numbers: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
        let shape = [numbers.len()];
        Tensor::from_data(TensorData::new(numbers, shape), device)
    };
    numbers.iter().map(tensor).collect()
}

fn host(tensor: &Tensor<1>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

fn assert_near(what: &str, found: &Tensor<1>, expected: &[f64]) {
    let found = host(found);
    if !test_tensors::numbers_count() {
        return;
    }
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f64, |largest, number| largest.max(number.abs()));
    let off = found.iter().zip(expected).fold(0.0f64, |off, (one, other)| off.max((one - other).abs()));
    assert!(off <= 1e-5 * largest, "{what}: {off} of {largest}");
}

/// A parameter in f64.
struct Exact {
    weights: Vec<f64>,
    /// What the rule keeps.
    kept: Vec<Vec<f64>>,
    averages: Vec<f64>,
}

/// Moves a parameter by a gradient, and then its average.
fn move_exactly(parameter: &mut Exact, gradient: &[f64], steps: &Steps, tensor: usize) {
    for (place, slope) in gradient.iter().map(|slope| slope * FACTOR).enumerate() {
        match steps {
            Steps::AdamW(steps) => adamw_exactly(parameter, place, slope, &steps[tensor]),
            Steps::Sgd(steps) => sgd_exactly(parameter, place, slope, &steps[tensor]),
        }
        parameter.averages[place] = DECAY * parameter.averages[place] + (1.0 - DECAY) * parameter.weights[place];
    }
}

fn adamw_exactly(Exact { weights, kept, .. }: &mut Exact, place: usize, slope: f64, step: &AdamWStep) {
    let [firsts, seconds] = &mut kept[..] else { panic!("two moments") };
    firsts[place] = step.beta_1 * firsts[place] + (1.0 - step.beta_1) * slope;
    seconds[place] = step.beta_2 * seconds[place] + (1.0 - step.beta_2) * slope * slope;
    let warm = |moment: f64, beta: f64| moment / (1.0 - beta.powf(step.step as f64));
    let direction = warm(firsts[place], step.beta_1) / (warm(seconds[place], step.beta_2).sqrt() + step.epsilon);
    weights[place] -= step.learning_rate * (step.weight_decay * weights[place] + direction);
}

fn sgd_exactly(Exact { weights, kept, .. }: &mut Exact, place: usize, slope: f64, step: &SgdStep) {
    let slope = slope + step.weight_decay * weights[place];
    let direction = match &mut kept[..] {
        [velocities] => {
            velocities[place] = step.momentum * velocities[place] + slope;
            if step.nesterov { slope + step.momentum * velocities[place] } else { velocities[place] }
        }
        _ => slope,
    };
    weights[place] -= step.learning_rate * direction;
}

/// Learning rate and weight decay of a parameter.
fn settings(tensor: usize) -> (f64, f64) {
    (1e-2 * (1 + tensor % 3) as f64, if tensor.is_multiple_of(2) { 0.05 } else { 0.0 })
}

fn adamw_steps(step: u64) -> Steps {
    let of_parameter = |tensor| {
        let (learning_rate, weight_decay) = settings(tensor);
        AdamWStep { learning_rate, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay, step }
    };
    Steps::AdamW((0..TENSORS).map(of_parameter).collect())
}

fn sgd_steps(momentum: f64, nesterov: bool) -> Steps {
    let of_parameter = |tensor| {
        let (learning_rate, weight_decay) = settings(tensor);
        SgdStep { learning_rate, momentum, nesterov, weight_decay }
    };
    Steps::Sgd((0..TENSORS).map(of_parameter).collect())
}

/// Holds three steps against their definition; `steps` gives the constants of each, by its number from 1.
fn assert_moves(device: &Device, has_averages: bool, steps: impl Fn(u64) -> Steps) {
    let start = numbers(1);
    let slots = steps(1).kept();
    let exactly = |weights: &Vec<f64>| Exact {
        kept: vec![vec![0.0; weights.len()]; slots],
        averages: weights.clone(),
        weights: weights.clone(),
    };
    let mut exact: Vec<Exact> = start.iter().map(exactly).collect();
    let weights = tensors(&start, device);
    let seen = weights.clone();
    let moving = |weight: Tensor<1>| Moving {
        kept: (0..slots).map(|_| weight.zeros_like()).collect(),
        average: has_averages.then(|| weight.clone()),
        weight,
    };
    let mut moving: Vec<Moving> = weights.into_iter().map(moving).collect();
    for step in 1..=3 {
        let (gradients, constants) = (numbers(1 + step as usize), steps(step));
        for (tensor, (parameter, gradient)) in exact.iter_mut().zip(&gradients).enumerate() {
            move_exactly(parameter, gradient, &constants, tensor);
        }
        moving = move_all(moving, tensors(&gradients, device), constants, FACTOR, DECAY);
    }
    for ((found, expected), (seen, start)) in moving.iter().zip(&exact).zip(seen.iter().zip(&start)) {
        assert_near("weight", &found.weight, &expected.weights);
        assert_eq!(found.kept.len(), slots);
        for (found, expected) in found.kept.iter().zip(&expected.kept) {
            assert_near("what is kept", found, expected);
        }
        assert_eq!(found.average.is_some(), has_averages);
        if let Some(average) = &found.average {
            assert_near("average", average, &expected.averages);
        }
        assert_eq!(&host(seen), start, "what others see stays as it is");
    }
}

fn assert_passes(device: &Device) {
    assert!(takes_lists(device));
    for has_averages in [true, false] {
        assert_moves(device, has_averages, adamw_steps);
        assert_moves(device, has_averages, |_| sgd_steps(0.9, true));
        assert_moves(device, has_averages, |_| sgd_steps(0.9, false));
        assert_moves(device, has_averages, |_| sgd_steps(0.0, false));
    }
    assert_sums_and_products(device);
    assert_casts(device, f16::from_f64);
    assert_not_finite_shows(device);
}

#[test]
fn all_parameters_move_as_defined_on_the_cpu() {
    assert_passes(&Device::flex());
    assert_casts(&Device::flex(), bf16::from_f64);
}

#[cfg(feature = "wgpu")]
#[test]
fn all_parameters_move_as_defined_on_software_vulkan() {
    assert_passes(&Device::wgpu(burn::tensor::DeviceKind::DefaultDevice));
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a card: `scripts/gpu_report.sh OUT` runs it there"]
fn all_parameters_move_as_defined_on_cuda() {
    assert_passes(&Device::cuda(0));
    assert_casts(&Device::cuda(0), bf16::from_f64);
}

fn assert_sums_and_products(device: &Device) {
    let (one, other) = (numbers(1), numbers(2));
    let squares = squares_of_all(tensors(&one, device)).expect("there are tensors");
    let expected: f64 = one.iter().flatten().map(|number| number * number).sum();
    let found: f64 = host(&squares).iter().sum();
    assert!((found - expected).abs() <= 1e-6 * expected, "{found} is not {expected}");

    let blended = blend_all(tensors(&one, device), tensors(&other, device), 0.75, 0.5);
    let scaled = scale_all(tensors(&one, device), -3.0);
    for tensor in 0..TENSORS {
        let pairs = one[tensor].iter().zip(&other[tensor]);
        assert_near("blend", &blended[tensor], &pairs.map(|(one, other)| 0.75 * one + 0.5 * other).collect::<Vec<_>>());
        assert_near("scale", &scaled[tensor], &one[tensor].iter().map(|number| -3.0 * number).collect::<Vec<_>>());
    }
    assert!(squares_of_all(Vec::new()).is_none() && scale_all(Vec::new(), 2.0).is_empty());
}

/// To half precision and back, as the storage type rounds.
fn assert_casts<Half: Element + Into<f64>>(device: &Device, round: impl Fn(f64) -> Half) {
    let numbers = numbers(3);
    let half = cast_all(tensors(&numbers, device), Half::dtype());
    let back = cast_all(half.clone(), DType::F32);
    for ((half, back), numbers) in half.iter().zip(&back).zip(&numbers) {
        assert_eq!([half.dtype(), back.dtype()], [Half::dtype(), DType::F32]);
        let expected: Vec<f64> = numbers.iter().map(|&number| round(number).into()).collect();
        assert!(!test_tensors::numbers_count() || [host(half), host(back)] == [(); 2].map(|()| expected.clone()));
    }
    assert!(cast_all(Vec::new(), Half::dtype()).is_empty());
}

fn assert_not_finite_shows(device: &Device) {
    let tensor = |number: f32| Tensor::<1>::from_floats([1.0, number, 2.0], device);
    for number in [f32::INFINITY, f32::NAN] {
        let squares = squares_of_all(vec![tensor(0.5), tensor(number)]).expect("there are tensors");
        assert!(!test_tensors::numbers_count() || !host(&squares).iter().sum::<f64>().is_finite());
    }
}
