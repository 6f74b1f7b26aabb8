//! Every form of the operation against its definition in f64.

use burn::backend::{Backend, DispatchKindConversion, DispatchTensor};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData, bf16, f16};

use super::*;

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
            for channel in 0..channels {
                of_bias[channel] += f64::from(self.gradient[place * channels + channel]);
            }
        }
        [output, of_map, of_weight, of_bias]
    }

    /// The same by the operation on a backend.
    fn found<B: Backend + Depthwise>(&self, device: &Device) -> [Vec<f64>; 4]
    where
        DispatchTensor: DispatchKindConversion<B>,
    {
        let windows = self.windows;
        let tensor = |numbers: &[f32], shape: Shape, dtype| {
            let data = TensorData::new(numbers.to_vec(), shape.clone());
            match shape.num_dims() {
                1 => primitive::<B, 1>(Tensor::from_data(data, (device, dtype))),
                _ => primitive::<B, 4>(Tensor::from_data(data, (device, dtype))),
            }
        };
        let map = tensor(&self.map, map_shape(&windows), self.storage);
        let gradient = tensor(&self.gradient, output_shape(&windows), self.storage);
        let (channels, kernel) = (windows.shape.channels, windows.shape.kernel);
        let weight = tensor(&self.weight, Shape::new([channels, 1, kernel, kernel]), DType::F32);
        let bias = tensor(&self.bias, Shape::new([channels]), DType::F32);
        let plain = B::depthwise(map.clone(), weight.clone(), windows);
        let output = B::biased_depthwise(map.clone(), weight.clone(), bias, windows);
        let of_map = B::depthwise_map_gradient(weight.clone(), gradient.clone(), windows);
        let alone = B::depthwise_weight_gradient(map.clone(), weight.clone(), gradient.clone(), windows);
        let (of_weight, of_bias) = B::depthwise_parameter_gradients(map, weight, gradient, windows);
        let read = |tensor: Tensor<4>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
        let [plain, output, of_map, alone, of_weight] =
            [plain, output, of_map, alone, of_weight].map(|tensor| Tensor::<4>::from_primitive::<B>(tensor));
        assert_eq!([plain.dtype(), output.dtype(), of_map.dtype()], [self.storage; 3]);
        assert_eq!([alone.dtype(), of_weight.dtype()], [DType::F32; 2]);
        let (plain, output, of_weight) = (read(plain), read(output), read(of_weight));
        assert_eq!(read(alone), of_weight);
        for (place, (plain, output)) in plain.iter().zip(&output).enumerate() {
            // Two roundings of numbers up to some 20, and one of f32.
            let bias = f64::from(self.bias[place % channels]);
            let allowed = 2.0 * rounding(self.storage) * (plain.abs() + output.abs()) + 1e-5;
            assert!((plain + bias - output).abs() <= allowed, "{plain} + {bias} is not {output}");
        }
        let of_bias = Tensor::<1>::from_primitive::<B>(of_bias).into_data().iter::<f64>().collect();
        [output, read(of_map), of_weight, of_bias]
    }

    /// Maps as near as their type can be, and all within 1e-5 of the largest number beside that.
    fn check<B: Backend + Depthwise>(&self, device: &Device)
    where
        DispatchTensor: DispatchKindConversion<B>,
    {
        let (found, defined) = (self.found::<B>(device), self.defined());
        for (which, (found, defined)) in found.iter().zip(&defined).enumerate() {
            assert_eq!(found.len(), defined.len());
            let storage = if which < 2 { rounding(self.storage) } else { 0.0 };
            let largest = defined.iter().fold(1e-3f64, |largest, number| largest.max(number.abs()));
            for (found, defined) in found.iter().zip(defined) {
                // The smallest step of f16 is 2^-24; bf16 has the range of f32.
                let allowed = 1e-5 * largest + storage * defined.abs() + 2f64.powi(-24);
                let off = (found - defined).abs();
                assert!(off <= allowed, "{which} of {:?} in {:?}: {found}, {defined}", self.windows, self.storage);
            }
        }
    }
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

#[test]
fn the_cpu_follows_the_definition() {
    for storage in [DType::F32, DType::BF16, DType::F16] {
        for windows in cases() {
            Given::draw(windows, storage).check::<Flex>(&Device::flex());
        }
    }
}

#[cfg(feature = "wgpu")]
mod on_vulkan {
    use burn::tensor::DeviceKind;

    use super::*;

    /// One test, because kernels are compiled once a process. bf16 is in no WebGPU.
    #[test]
    fn the_kernels_follow_the_definition() {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        assert!(!device.supports_dtype(DType::BF16));
        let storages = [DType::F32, DType::F16].into_iter().filter(|storage| device.supports_dtype(*storage));
        for storage in storages {
            for windows in cases() {
                Given::draw(windows, storage).check::<Wgpu>(&device);
            }
        }
    }
}
