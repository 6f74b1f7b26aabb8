//! Every form of the operation against its definition in f64.

use burn::backend::{DispatchKindConversion, DispatchTensor, TensorMetadata};
use burn::tensor::{DType, Device};

use super::*;
use crate::kernels::test_definition::{assert_near, host, numbers, primitive_of, rounded, rounding};

const TOLERANCE: f64 = 1e-5;

/// On a card's tensor cores, products of f32 take their factors with 10 bits of fraction (TF32): Burn tries these first where there are some, from
/// compute capability 8.0 on. Two factors that are rounded to the nearest put a product off by up to 2^-10, and of the gradients' products up to four follow
/// one another: both layers, back through the second, and the sum over samples.
#[cfg(feature = "cuda")]
const TENSOR_CORES: f64 = 4.0 / 1024.0;

/// Map, weights and upstream in f64.
struct Definition {
    /// B, P, C, R.
    sizes: [usize; 4],
    map: Vec<f64>,
    /// Reduce, its bias, expand, its bias.
    weights: [Vec<f64>; 4],
    upstream: Vec<f64>,
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

impl Definition {
    fn new(sizes: [usize; 4], device: &Device, storage: DType) -> Self {
        let [batch, positions, channels, reduced] = sizes;
        let map: Vec<f64> = numbers(1, batch * positions * channels).iter().map(|x| x + 0.4).collect();
        let counts = [reduced * channels, reduced, channels * reduced, channels];
        let mut seed = 1;
        let weights = counts.map(|count| {
            seed += 1;
            numbers(seed, count)
        });
        let upstream = rounded(&numbers(9, map.len()), device, storage);
        Self { sizes, map: rounded(&map, device, storage), weights, upstream }
    }

    /// Output, and the gradients of map and weights.
    fn apply(&self) -> [Vec<f64>; 6] {
        let [batch, positions, channels, reduced] = self.sizes;
        let [reduce, reduce_bias, expand, expand_bias] = &self.weights;
        let [mut output, mut of_map] = [0, 1].map(|_| vec![0.0; self.map.len()]);
        let [mut of_reduce, mut of_reduce_bias, mut of_expand, mut of_expand_bias] =
            self.weights.each_ref().map(|weight| vec![0.0; weight.len()]);
        for sample in 0..batch {
            let at = |p: usize, c: usize| (sample * positions + p) * channels + c;
            let over = |term: &dyn Fn(usize) -> f64, count: usize| (0..count).map(term).sum::<f64>();
            let means: Vec<f64> =
                (0..channels).map(|c| over(&|p| self.map[at(p, c)], positions) / positions as f64).collect();
            let z: Vec<f64> = (0..reduced)
                .map(|r| reduce_bias[r] + over(&|c| reduce[r * channels + c] * means[c], channels))
                .collect();
            let gates: Vec<f64> = (0..channels)
                .map(|c| expand_bias[c] + over(&|r| expand[c * reduced + r] * z[r] * sigmoid(z[r]), reduced))
                .map(sigmoid)
                .collect();
            let of_gate_input: Vec<f64> = (0..channels)
                .map(|c| over(&|p| self.upstream[at(p, c)] * self.map[at(p, c)], positions))
                .zip(&gates)
                .map(|(slope, gate)| slope * gate * (1.0 - gate))
                .collect();
            let of_z: Vec<f64> = (0..reduced)
                .map(|r| {
                    let slope = sigmoid(z[r]) * (1.0 + z[r] * (1.0 - sigmoid(z[r])));
                    slope * over(&|c| expand[c * reduced + r] * of_gate_input[c], channels)
                })
                .collect();
            for c in 0..channels {
                let of_mean = over(&|r| reduce[r * channels + c] * of_z[r], reduced);
                of_expand_bias[c] += of_gate_input[c];
                for r in 0..reduced {
                    of_expand[c * reduced + r] += of_gate_input[c] * z[r] * sigmoid(z[r]);
                    of_reduce[r * channels + c] += of_z[r] * means[c];
                }
                for p in 0..positions {
                    output[at(p, c)] = self.map[at(p, c)] * gates[c];
                    of_map[at(p, c)] = self.upstream[at(p, c)] * gates[c] + of_mean / positions as f64;
                }
            }
            of_reduce_bias.iter_mut().zip(&of_z).for_each(|(sum, slope)| *sum += slope);
        }
        [output, of_map, of_reduce, of_reduce_bias, of_expand, of_expand_bias]
    }
}

type Gradients<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

fn assert_found<B: Backend>(
    definition: &Definition,
    device: &Device,
    storage: DType,
    tolerance: f64,
    run: impl Fn(FloatTensor<B>, [FloatTensor<B>; 4], FloatTensor<B>) -> (FloatTensor<B>, Gradients<B>),
) where
    DispatchTensor: DispatchKindConversion<B>,
{
    let [batch, positions, channels, reduced] = definition.sizes;
    let map_of = |map: &[f64]| primitive_of::<B, 3>(map, [batch, positions, channels], device, storage);
    let [reduce, reduce_bias, expand, expand_bias] = &definition.weights;
    let weights = [
        primitive_of::<B, 4>(reduce, [reduced, channels, 1, 1], device, DType::F32),
        primitive_of::<B, 1>(reduce_bias, [reduced], device, DType::F32),
        primitive_of::<B, 4>(expand, [channels, reduced, 1, 1], device, DType::F32),
        primitive_of::<B, 1>(expand_bias, [channels], device, DType::F32),
    ];
    let (output, found) = run(map_of(&definition.map), weights, map_of(&definition.upstream));
    assert_eq!([output.dtype(), found.0.dtype()], [storage; 2]);
    let found = [
        host::<B, 3>(output),
        host::<B, 3>(found.0),
        host::<B, 4>(found.1),
        host::<B, 1>(found.2),
        host::<B, 4>(found.3),
        host::<B, 1>(found.4),
    ];
    for (part, (found, expected)) in found.iter().zip(&definition.apply()).enumerate() {
        let tolerance = if part < 2 { tolerance + rounding(storage) } else { tolerance };
        assert_near(&format!("{part} of {:?} in {storage:?}", definition.sizes), found, expected, tolerance);
    }
}

fn assert_defined<B: Backend + FusedSqueezeExcite>(device: &Device, sizes: [usize; 4], storage: DType, tolerance: f64)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let definition = Definition::new(sizes, device, storage);
    assert_found::<B>(
        &definition,
        device,
        storage,
        tolerance,
        |map, [reduce, reduce_bias, expand, expand_bias], upstream| {
            let output = B::fused_squeeze_excite(
                map.clone(),
                reduce.clone(),
                reduce_bias.clone(),
                expand.clone(),
                expand_bias.clone(),
            );
            (output, B::fused_squeeze_excite_gradient(map, reduce, reduce_bias, expand, expand_bias, upstream))
        },
    );
}

#[test]
fn the_definition_holds_on_the_cpu() {
    for sizes in [[1, 1, 1, 1], [3, 300, 17, 4], [2, 49, 40, 33]] {
        for storage in [DType::F32, DType::BF16, DType::F16] {
            assert_defined::<Flex>(&Device::flex(), sizes, storage, TOLERANCE);
        }
    }
}

#[test]
fn the_definition_holds_in_a_backends_own_operations() {
    let device = Device::flex();
    let definition = Definition::new([3, 30, 17, 4], &device, DType::F32);
    assert_found::<Flex>(&definition, &device, DType::F32, TOLERANCE, |map, weights, upstream| {
        let output = composed::forward::<Flex>(map.clone(), weights.clone());
        (output, composed::gradient::<Flex>(map, weights, upstream).into())
    });
}

/// WebGPU has no bf16. Few shapes: each has products to tune.
#[cfg(feature = "wgpu")]
#[test]
fn the_definition_holds_on_software_vulkan() {
    let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    assert_defined::<Wgpu>(&device, [2, 49, 40, 10], DType::F32, TOLERANCE);
    assert_defined::<Wgpu>(&device, [2, 49, 40, 10], DType::F16, TOLERANCE);
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a card: `scripts/gpu_report.sh OUT` runs it there. bf16 runs nowhere else"]
fn the_definition_holds_on_cuda() {
    for storage in [DType::F32, DType::BF16, DType::F16] {
        assert_defined::<Cuda>(&Device::cuda(0), [3, 300, 17, 4], storage, TENSOR_CORES);
        assert_defined::<Cuda>(&Device::cuda(0), [2, 49, 40, 33], storage, TENSOR_CORES);
    }
}
