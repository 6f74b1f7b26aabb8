//! Every form of the operation against its definition in f64.

use burn::backend::{Backend, DispatchKindConversion, DispatchTensor, TensorMetadata};
use burn::tensor::{DType, Device, Tensor, TensorData, bf16, f16};

use super::plan::{map_shape, output_shape, parameter_forms};
use super::*;
use crate::kernels::choice::{Site, Way, asked_by, with_choice};
use crate::kernels::test_tensors;

/// Half an unit in the last place of a type, relative to a number: what storing it may change.
fn rounding(storage: DType) -> f64 {
    match storage {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 0.0,
    }
}

/// Numbers without a pattern in -0.6 to 1, as `storage` holds them: their sums do not cancel.
fn numbers(count: usize, seed: usize, storage: DType) -> Vec<f32> {
    let of = |place: usize| (((place + 977 * seed) as f64 * 78.233).sin() * 0.8 + 0.2) as f32;
    (0..count).map(of).map(|number| rounded(number, storage)).collect()
}

fn rounded(number: f32, storage: DType) -> f32 {
    match storage {
        DType::BF16 => bf16::from_f32(number).to_f32(),
        DType::F16 => f16::from_f32(number).to_f32(),
        _ => number,
    }
}

/// What goes in, in f32 that `storage` holds exactly.
struct Given {
    windows: StridedDepthwise,
    storage: DType,
    map: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    gradient: Vec<f32>,
}

impl Given {
    fn draw(windows: StridedDepthwise, storage: DType) -> Self {
        let shape = windows.shape;
        let taps = shape.channels * shape.kernel * shape.kernel;
        let maps = [map_shape(&windows), output_shape(&windows)].map(|shape| shape.num_elements());
        let [map, gradient] = [0, 1].map(|which| numbers(maps[which], 1 + which, storage));
        let [weight, bias] = [numbers(taps, 3, DType::F32), numbers(shape.channels, 4, DType::F32)];
        Self { windows, storage, map, weight, bias, gradient }
    }

    /// Output and the gradients of map, weight and bias, by the definition.
    fn defined(&self) -> [Vec<f64>; 4] {
        let DepthwiseShape { batch, height, width, channels, kernel } = self.windows.shape;
        let [rows, columns] = self.windows.output;
        let bias = |place: usize| f64::from(self.bias[place % channels]);
        let mut output: Vec<f64> = (0..self.gradient.len()).map(bias).collect();
        let (mut of_map, mut of_weight) = (vec![0.0; self.map.len()], vec![0.0; self.weight.len()]);
        let mut of_bias = vec![0.0; channels];
        for place in 0..batch * rows * columns {
            let (image, y, x) = (place / (rows * columns), place / columns % rows, place % columns);
            for tap in 0..kernel * kernel {
                let row = (y * self.windows.stride + tap / kernel).wrapping_sub(self.windows.before[0]);
                let column = (x * self.windows.stride + tap % kernel).wrapping_sub(self.windows.before[1]);
                if row >= height || column >= width {
                    continue;
                }
                for channel in 0..channels {
                    let (out, tap) = (place * channels + channel, channel * kernel * kernel + tap);
                    let cell = ((image * height + row) * width + column) * channels + channel;
                    let (map, weight) = (f64::from(self.map[cell]), f64::from(self.weight[tap]));
                    output[out] += map * weight;
                    of_map[cell] += f64::from(self.gradient[out]) * weight;
                    of_weight[tap] += f64::from(self.gradient[out]) * map;
                }
            }
            for (of_bias, gradient) in of_bias.iter_mut().zip(&self.gradient[place * channels..]) {
                *of_bias += f64::from(*gradient);
            }
        }
        [output, of_map, of_weight, of_bias]
    }

    /// Map, weight, bias and gradient.
    fn tensors<B: Backend>(&self, device: &Device) -> [FloatTensor<B>; 4]
    where
        DispatchTensor: DispatchKindConversion<B>,
    {
        let (windows, [weight, bias]) = (&self.windows, parameter_forms(&self.windows));
        let form = |shape| (shape, self.storage);
        let forms = [form(map_shape(windows)), weight, bias, form(output_shape(windows))];
        let numbers = [&self.map, &self.weight, &self.bias, &self.gradient];
        let mut of = numbers.into_iter().zip(forms).map(|(numbers, (shape, dtype))| {
            let data = TensorData::new(numbers.clone(), shape.clone());
            match shape.num_dims() {
                1 => primitive::<B, 1>(Tensor::from_data(data, (device, dtype))),
                _ => primitive::<B, 4>(Tensor::from_data(data, (device, dtype))),
            }
        });
        [(); 4].map(|()| of.next().expect("there are four"))
    }

    /// Output and gradients by the operation on a backend.
    fn found<B: Backend + Depthwise>(&self, device: &Device) -> [Vec<f64>; 4]
    where
        DispatchTensor: DispatchKindConversion<B>,
    {
        let windows = self.windows;
        let [map, weight, bias, gradient] = self.tensors::<B>(device);
        let plain = B::depthwise(map.clone(), weight.clone(), windows);
        let output = B::biased_depthwise(map.clone(), weight.clone(), bias, windows);
        let of_map = B::depthwise_map_gradient(weight.clone(), gradient.clone(), windows);
        let alone = B::depthwise_weight_gradient(map.clone(), weight.clone(), gradient.clone(), windows);
        let (of_weight, of_bias) = B::depthwise_parameter_gradients(map, weight, gradient, windows);
        assert_eq!([plain.dtype(), output.dtype(), of_map.dtype()], [self.storage; 3]);
        assert_eq!([alone.dtype(), of_weight.dtype(), of_bias.dtype()], [DType::F32; 3]);
        let found = [output, of_map, of_weight, of_bias].map(read::<B>);
        assert_eq!(read::<B>(alone), found[2]);
        for (place, (plain, output)) in read::<B>(plain).into_iter().zip(&found[0]).enumerate() {
            let bias = f64::from(self.bias[place % self.bias.len()]);
            // Each is rounded once to its type, and both come of sums up to some 30 in f32.
            let allowed = rounding(self.storage) * (plain.abs() + output.abs()) + 1e-4;
            assert!((plain + bias - output).abs() <= allowed, "{plain} + {bias} is not {output}");
        }
        found
    }

    /// The same by Burn's own operations.
    fn composed<B: Backend>(&self, device: &Device) -> [Vec<f64>; 4]
    where
        DispatchTensor: DispatchKindConversion<B>,
    {
        let [map, weight, bias, gradient] = self.tensors::<B>(device);
        let output = composed::forward::<B>(map.clone(), weight.clone(), Some(bias), &self.windows);
        let of_map = composed::map_gradient::<B>(weight.clone(), gradient.clone(), &self.windows);
        let of_bias = sum_over_positions::<B>(gradient.clone());
        let of_weight = composed::weight_gradient::<B>(map, weight, gradient, &self.windows);
        [output, of_map, of_weight, of_bias].map(read::<B>)
    }

    /// Maps as near as their type can be, and all within 1e-5 of the largest number beside that.
    fn check(&self, found: &[Vec<f64>; 4]) {
        if !test_tensors::numbers_count() {
            return;
        }
        for (which, (found, defined)) in found.iter().zip(&self.defined()).enumerate() {
            assert_eq!(found.len(), defined.len());
            let storage = if which < 2 { rounding(self.storage) } else { 0.0 };
            let largest = defined.iter().fold(1e-3f64, |largest, number| largest.max(number.abs()));
            for (found, defined) in found.iter().zip(defined) {
                let allowed = 1e-5 * largest + storage * defined.abs();
                let off = (found - defined).abs();
                assert!(off <= allowed, "{which} of {:?} in {:?}: {found}, {defined}", self.windows, self.storage);
            }
        }
    }
}

fn read<B: Backend>(tensor: FloatTensor<B>) -> Vec<f64>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let data = match tensor.shape().num_dims() {
        1 => Tensor::<1>::from_primitive::<B>(tensor).into_data(),
        _ => Tensor::<4>::from_primitive::<B>(tensor).into_data(),
    };
    data.iter::<f64>().collect()
}

/// Odd sizes, one pixel, channels that fill no vector and channels that do, a larger batch: at every kernel of the models, at stride 1, and at 2
/// with the padding of PyTorch and of TensorFlow.
fn cases() -> Vec<StridedDepthwise> {
    let shapes = [(2, 9, 7, 40), (1, 1, 1, 3), (3, 2, 5, 16), (1, 12, 3, 17), (11, 4, 6, 4), (1, 19, 30, 6)];
    let mut cases = Vec::new();
    for (place, (batch, height, width, channels)) in shapes.into_iter().enumerate() {
        let kernel = [7, 5, 3][place % 3];
        for kernel in [kernel, 10 - kernel].into_iter().take(1 + usize::from(kernel != 5)) {
            let shape = DepthwiseShape { batch, height, width, channels, kernel };
            let sides = [height, width];
            cases.push(StridedDepthwise { shape, stride: 1, before: [kernel / 2; 2], output: sides });
            let symmetric = sides.map(|side| (side - 1) / 2 + 1);
            cases.push(StridedDepthwise { shape, stride: 2, before: [kernel / 2; 2], output: symmetric });
            let same = sides.map(|side| side.div_ceil(2));
            let before = [0, 1].map(|axis| ((same[axis] - 1) * 2 + kernel).saturating_sub(sides[axis]) / 2);
            cases.push(StridedDepthwise { shape, stride: 2, before, output: same });
        }
    }
    cases
}

/// Shapes that nobody chose: the same ones in every run.
fn drawn_cases(count: u64) -> impl Iterator<Item = StridedDepthwise> {
    (0..count).map(|case| {
        let draw = |which: u64, most: u64| (1 + crate::pass::mix(31 * case + which) % most) as usize;
        let [batch, height, width, channels] = [draw(0, 4), draw(1, 21), draw(2, 21), draw(3, 45)];
        let (kernel, stride) = (1 + 2 * draw(4, 3), draw(5, 2));
        let shape = DepthwiseShape { batch, height, width, channels, kernel };
        let sides = [height, width];
        let output = sides.map(|side| side.div_ceil(stride));
        let same = [0, 1].map(|axis| ((output[axis] - 1) * stride + kernel).saturating_sub(sides[axis]) / 2);
        let before = if draw(6, 2) == 1 { [kernel / 2; 2] } else { same };
        StridedDepthwise { shape, stride, before, output }
    })
}

/// 401,408 positions: in half precision a sum of so many stops growing at the 256th or the 2048th.
fn many_positions() -> StridedDepthwise {
    let shape = DepthwiseShape { batch: 8, height: 224, width: 224, channels: 4, kernel: 3 };
    StridedDepthwise { shape, stride: 1, before: [1, 1], output: [224, 224] }
}

#[test]
fn the_cpu_follows_the_definition() {
    for storage in [DType::F32, DType::BF16, DType::F16] {
        for windows in cases() {
            let given = Given::draw(windows, storage);
            given.check(&given.found::<Flex>(&Device::flex()));
        }
    }
    for (windows, storage) in drawn_cases(60).zip([DType::F32, DType::BF16, DType::F16].into_iter().cycle()) {
        let given = Given::draw(windows, storage);
        given.check(&given.found::<Flex>(&Device::flex()));
    }
    let given = Given::draw(many_positions(), DType::BF16);
    given.check(&given.found::<Flex>(&Device::flex()));
}

#[test]
fn a_frozen_weight_leaves_the_map_and_the_bias_their_gradients() {
    let device = Device::flex().autodiff();
    let given = Given::draw(cases()[0], DType::F32);
    let [map, weight, bias, gradient] = given.tensors::<Flex>(&Device::flex());
    let [map, weight, gradient] = [map, weight, gradient].map(Tensor::<4>::from_primitive::<Flex>);
    let bias = Tensor::<1>::from_primitive::<Flex>(bias);
    let [map, weight, upstream] =
        [map, weight, gradient].map(|tensor| Tensor::<4>::from_data(tensor.into_data(), &device));
    let (map, bias) = (map.require_grad(), Tensor::<1>::from_data(bias.into_data(), &device).require_grad());
    let output = depthwise(map.clone(), weight.clone(), Some(bias.clone()), given.windows);
    let tape = (output * upstream).sum().backward();
    assert!(weight.grad(&tape).is_none());
    let [_, of_map, _, of_bias] = given.defined();
    let found = [map.grad(&tape).unwrap().into_data(), bias.grad(&tape).unwrap().into_data()];
    for (found, expected) in found.into_iter().zip([of_map, of_bias]) {
        let largest = expected.iter().fold(0.0f64, |largest, number| largest.max(number.abs()));
        for (found, expected) in found.iter::<f64>().zip(expected) {
            assert!((found - expected).abs() <= 1e-5 * largest, "{found} is not {expected}");
        }
    }
}

#[test]
fn burns_own_operations_follow_the_definition() {
    for windows in cases() {
        let given = Given::draw(windows, DType::F32);
        given.check(&given.composed::<Flex>(&Device::flex()));
    }
    let given = Given::draw(cases()[1], DType::BF16);
    given.check(&given.composed::<Flex>(&Device::flex()));
}

/// Each form of the operation has one site, and runs there as it is chosen.
#[test]
fn where_burns_own_operations_are_chosen_the_cpu_runs_them() {
    let device = Device::flex();
    for storage in [DType::F32, DType::BF16] {
        let given = Given::draw(cases()[1], storage);
        let asked = asked_by(|| drop(given.found::<Flex>(&device)));
        let [site]: [Site; 1] = asked.into_iter().map(|asked| asked.site).collect::<Vec<_>>().try_into().unwrap();
        let chosen = with_choice(&site, Way::Burns, || given.found::<Flex>(&device));
        // The same operations in the same order.
        assert_eq!(chosen, given.composed::<Flex>(&device));
        given.check(&chosen);
    }
}

#[test]
fn every_parent_on_the_tape_gets_its_gradient() {
    let device = Device::flex().autodiff();
    let given = Given::draw(cases()[2], DType::F32);
    let [map, weight, bias, gradient] = given.tensors::<Flex>(&Device::flex());
    let [map, weight, gradient] = [map, weight, gradient].map(Tensor::<4>::from_primitive::<Flex>);
    let bias = Tensor::<1>::from_primitive::<Flex>(bias);
    let [_, of_map, of_weight, of_bias] = given.defined();
    for has_bias in [true, false] {
        let [map, weight] = [&map, &weight].map(|leaf| Tensor::<4>::from_data(leaf.to_data(), &device).require_grad());
        let bias = has_bias.then(|| Tensor::<1>::from_data(bias.to_data(), &device).require_grad());
        let upstream = Tensor::<4>::from_data(gradient.to_data(), &device);
        let output = depthwise(map.clone(), weight.clone(), bias.clone(), given.windows);
        let tape = (output * upstream).sum().backward();
        let found = [map, weight].map(|leaf| leaf.grad(&tape).unwrap().into_data());
        let bias = bias.map(|bias| bias.grad(&tape).unwrap().into_data());
        let expected = [&of_map, &of_weight].into_iter().chain(has_bias.then_some(&of_bias));
        for (found, expected) in found.into_iter().chain(bias).zip(expected) {
            let largest = expected.iter().fold(0.0f64, |largest, number| largest.max(number.abs()));
            for (found, expected) in found.iter::<f64>().zip(expected) {
                assert!((found - expected).abs() <= 1e-5 * largest, "{found} is not {expected}");
            }
        }
    }
}

#[cfg(feature = "wgpu")]
mod on_vulkan {
    use burn::tensor::DeviceKind;

    use super::*;

    /// On a CubeCL device that needs no card: Mesa's software Vulkan by way of WebGPU. bf16 is in no WebGPU: only a card can check it.
    #[test]
    fn the_kernels_follow_the_definition() {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        assert!(!device.supports_dtype(DType::BF16));
        let check = |windows, storage| {
            let given = Given::draw(windows, storage);
            given.check(&given.found::<Wgpu>(&device));
        };
        cases().into_iter().for_each(|windows| check(windows, DType::F32));
        drawn_cases(12).for_each(|windows| check(windows, DType::F32));
        if device.supports_dtype(DType::F16) {
            // Most of the time goes into compiling: a kernel for each side, stride and width.
            cases().into_iter().step_by(4).for_each(|windows| check(windows, DType::F16));
            check(many_positions(), DType::F16);
        }
    }

    #[test]
    fn what_the_kernels_do_not_cover_is_composed() {
        let shape = DepthwiseShape { batch: 1, height: 7, width: 8, channels: 5, kernel: 3 };
        let given = Given::draw(StridedDepthwise { shape, stride: 3, before: [1, 1], output: [3, 3] }, DType::F32);
        assert!(!plan::covers(&given.windows, DType::F32));
        given.check(&given.found::<Wgpu>(&Device::wgpu(DeviceKind::DefaultDevice)));
    }
}

#[cfg(feature = "cuda")]
mod on_cuda {
    use super::*;

    #[test]
    #[ignore = "needs a card: `scripts/gpu_report.sh` runs it there"]
    fn the_kernels_follow_the_definition() {
        let device = Device::cuda(0);
        for storage in [DType::F32, DType::BF16, DType::F16] {
            for windows in cases().into_iter().chain(drawn_cases(60)).chain([many_positions()]) {
                let given = Given::draw(windows, storage);
                given.check(&given.found::<Cuda>(&device));
            }
        }
    }
}
