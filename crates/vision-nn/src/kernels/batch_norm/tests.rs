//! Every form of the operations against their definition in f64.

use burn::backend::{DispatchKindConversion, DispatchTensor, TensorMetadata};
use burn::tensor::{DType, Device};

use super::*;
use crate::kernels::choice::{Site, Way, with_choice};
use crate::kernels::test_definition::{assert_near, host, numbers, primitive_of, rounded, rounding};

const EPSILON: f64 = 1e-3;

/// Half precision is summed in f32 too. Both are held to this.
const TOLERANCE: f64 = 1e-5;

/// Rows and vectors in f64.
struct Definition {
    rows: Vec<f64>,
    upstream: Vec<f64>,
    weight: Vec<f64>,
    bias: Vec<f64>,
    /// Of the batch, or given.
    mean: Vec<f64>,
    variance: Vec<f64>,
    activation: Activation,
    of_batch: bool,
}

impl Definition {
    /// Mean and biased variance.
    fn moments(rows: &[f64], channels: usize) -> [Vec<f64>; 2] {
        let count = (rows.len() / channels) as f64;
        let of = |channel: usize| rows.iter().skip(channel).step_by(channels);
        let mean: Vec<f64> = (0..channels).map(|channel| of(channel).sum::<f64>() / count).collect();
        let squares = |channel: usize| of(channel).map(|x| (x - mean[channel]).powi(2)).sum::<f64>();
        let variance = (0..channels).map(|channel| squares(channel) / count).collect();
        [mean, variance]
    }

    /// The activation and its slope.
    fn activated(&self, z: f64) -> [f64; 2] {
        let sigmoid = 1.0 / (1.0 + (-z).exp());
        match self.activation {
            Activation::Identity => [z, 1.0],
            Activation::Relu => [z.max(0.0), f64::from(z > 0.0)],
            Activation::Silu => [z * sigmoid, sigmoid + z * sigmoid * (1.0 - sigmoid)],
        }
    }

    /// Output, and the gradients of rows, weight and bias.
    fn apply(&self) -> [Vec<f64>; 4] {
        let channels = self.weight.len();
        let [mut output, mut of_rows] = [0, 1].map(|_| vec![0.0; self.rows.len()]);
        let [mut of_weight, mut of_bias] = [0, 1].map(|_| vec![0.0; channels]);
        for channel in 0..channels {
            let deviation = (self.variance[channel] + EPSILON).sqrt();
            let places = || (channel..self.rows.len()).step_by(channels);
            let normal = |at: usize| (self.rows[at] - self.mean[channel]) / deviation;
            let mut before = vec![0.0; self.rows.len()];
            for at in places() {
                let [value, slope] = self.activated(normal(at) * self.weight[channel] + self.bias[channel]);
                output[at] = value;
                before[at] = self.upstream[at] * slope;
            }
            of_weight[channel] = places().map(|at| before[at] * normal(at)).sum();
            of_bias[channel] = places().map(|at| before[at]).sum();
            let count = if self.of_batch { places().count() as f64 } else { f64::INFINITY };
            for at in places() {
                let inner = before[at] - of_bias[channel] / count - normal(at) * of_weight[channel] / count;
                of_rows[at] = self.weight[channel] / deviation * inner;
            }
        }
        [output, of_rows, of_weight, of_bias]
    }
}

fn assert_defined<B: Backend + FusedBatchNorm>(
    device: &Device,
    shape: [usize; 2],
    storage: DType,
    (activation, of_batch): (Activation, bool),
) where
    DispatchTensor: DispatchKindConversion<B>,
{
    let [count, channels] = shape;
    // Off zero, as maps are.
    let rows: Vec<f64> = numbers(1, count * channels).iter().map(|number| number + 0.7).collect();
    let [rows, upstream] = [rows, numbers(2, count * channels)].map(|map| rounded(&map, device, storage));
    let [weight, bias] = [3, 4].map(|seed| numbers(seed, channels));
    let [mean, variance] = match of_batch {
        true => Definition::moments(&rows, channels),
        false => [numbers(5, channels), numbers(6, channels).iter().map(|number| number + 1.5).collect()],
    };
    let what = format!("{shape:?} in {storage:?}, {activation:?}, of batch {of_batch}");
    let [rows_in, upstream_in] = [&rows, &upstream].map(|map| primitive_of::<B, 2>(map, shape, device, storage));
    let vector = |numbers: &[f64]| primitive_of::<B, 1>(numbers, [channels], device, DType::F32);
    let moments = match of_batch {
        true => B::fused_moments(rows_in.clone()),
        false => (vector(&mean), vector(&variance)),
    };
    assert_near(&format!("mean of {what}"), &host::<B, 1>(moments.0.clone()), &mean, TOLERANCE);
    assert_near(&format!("variance of {what}"), &host::<B, 1>(moments.1.clone()), &variance, TOLERANCE);

    let form = NormForm { epsilon: EPSILON as f32, activation, of_batch };
    let (weight_in, bias_in) = (vector(&weight), vector(&bias));
    let output = B::fused_batch_norm(
        rows_in.clone(),
        weight_in.clone(),
        bias_in.clone(),
        moments.0.clone(),
        moments.1.clone(),
        form,
    );
    let found = B::fused_batch_norm_gradient(rows_in, weight_in, bias_in, moments.0, moments.1, upstream_in, form);
    assert_eq!([output.dtype(), found.0.dtype(), found.1.dtype()], [storage, storage, DType::F32]);
    let expected = Definition { rows, upstream, weight, bias, mean, variance, activation, of_batch }.apply();
    let maps = [output, found.0].map(host::<B, 2>);
    let vectors = [found.1, found.2].map(host::<B, 1>);
    for (part, found) in maps.into_iter().chain(vectors).enumerate() {
        let tolerance = if part < 2 { TOLERANCE + rounding(storage) } else { TOLERANCE };
        assert_near(&format!("{part} of {what}"), &found, &expected[part], tolerance);
    }
}

fn assert_defined_everywhere<B: Backend + FusedBatchNorm>(device: &Device, halves: &[DType])
where
    DispatchTensor: DispatchKindConversion<B>,
{
    use Activation::{Identity, Relu, Silu};
    // One row; odd channels, and more than a tile has; more rows than one chunk, and than a chunk has for one of many tiles. Not two rows, whose moments
    // leave next to nothing of their gradients: what is left is rounding, on every device.
    for shape in [[1, 3], [5, 1], [33, 130], [700, 24], [20, 2500], [40_000, 8], [300, 1001]] {
        assert_defined::<B>(device, shape, DType::F32, (Silu, true));
    }
    for form in [(Identity, true), (Relu, true), (Silu, false), (Identity, false), (Relu, false)] {
        assert_defined::<B>(device, [700, 24], DType::F32, form);
    }
    for &storage in halves {
        for form in [(Silu, true), (Relu, true), (Silu, false)] {
            assert_defined::<B>(device, [700, 24], storage, form);
            assert_defined::<B>(device, [33, 130], storage, form);
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
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a card: `scripts/gpu_report.sh OUT` runs it there. bf16 runs nowhere else"]
fn the_definition_holds_on_cuda() {
    assert_defined_everywhere::<Cuda>(&Device::cuda(0), &[DType::BF16, DType::F16]);
}

/// What a backend without kernels runs, on the CPU.
#[test]
fn the_definition_holds_in_a_backends_own_operations() {
    use Activation::{Identity, Relu, Silu};
    let device = Device::flex();
    let shape = [60, 6];
    let [rows, upstream] = [1, 2].map(|seed| numbers(seed, 360));
    let [weight, bias] = [3, 4].map(|seed| numbers(seed, 6));
    let [mean, variance] = Definition::moments(&rows, 6);
    let [rows_in, upstream_in] = [&rows, &upstream].map(|map| primitive_of::<Flex, 2>(map, shape, &device, DType::F32));
    let (found_mean, found_variance) = composed::moments::<Flex>(rows_in.clone());
    assert_near("mean", &host::<Flex, 1>(found_mean), &mean, TOLERANCE);
    assert_near("variance", &host::<Flex, 1>(found_variance), &variance, TOLERANCE);
    for (activation, of_batch) in [Identity, Relu, Silu].into_iter().flat_map(|one| [(one, true), (one, false)]) {
        let form = NormForm { epsilon: EPSILON as f32, activation, of_batch };
        let vectors =
            [&weight, &bias, &mean, &variance].map(|vector| primitive_of::<Flex, 1>(vector, [6], &device, DType::F32));
        let output = composed::forward::<Flex>(rows_in.clone(), vectors.clone(), form);
        let found = composed::gradient::<Flex>(rows_in.clone(), vectors, upstream_in.clone(), form);
        let definition = Definition {
            rows: rows.clone(),
            upstream: upstream.clone(),
            weight: weight.clone(),
            bias: bias.clone(),
            mean: mean.clone(),
            variance: variance.clone(),
            activation,
            of_batch,
        };
        let [of_output, of_rows, of_weight, of_bias] = definition.apply();
        assert_near("output", &host::<Flex, 2>(output), &of_output, TOLERANCE);
        assert_near("rows", &host::<Flex, 2>(found.0), &of_rows, TOLERANCE);
        assert_near("weight", &host::<Flex, 1>(found.1), &of_weight, TOLERANCE);
        assert_near("bias", &host::<Flex, 1>(found.2), &of_bias, TOLERANCE);
    }
}

#[test]
fn where_burns_own_operations_are_chosen_the_cpu_runs_them() {
    let device = Device::flex();
    let form = NormForm { epsilon: EPSILON as f32, activation: Activation::Silu, of_batch: true };
    let map = |seed| primitive_of::<Flex, 2>(&numbers(seed, 360), [60, 6], &device, DType::F32);
    let vector = |seed| primitive_of::<Flex, 1>(&numbers(seed, 6), [6], &device, DType::F32);
    let site = Site { operation: Operation::BatchNorm, storage: DType::F32, shape: vec![6] };
    let (moments, output, found) = with_choice(&site, Way::Burns, || {
        let moments = Flex::fused_moments(map(1));
        let (mean, variance) = moments.clone();
        let output = Flex::fused_batch_norm(map(1), vector(3), vector(4), mean.clone(), variance.clone(), form);
        (moments, output, Flex::fused_batch_norm_gradient(map(1), vector(3), vector(4), mean, variance, map(2), form))
    });
    let (mean, variance) = composed::moments::<Flex>(map(1));
    let vectors = [vector(3), vector(4), mean.clone(), variance.clone()];
    let expected = composed::gradient::<Flex>(map(1), vectors.clone(), map(2), form);
    // The same operations in the same order.
    assert_eq!(host::<Flex, 1>(moments.0), host::<Flex, 1>(mean));
    assert_eq!(host::<Flex, 1>(moments.1), host::<Flex, 1>(variance));
    assert_eq!(host::<Flex, 2>(output), host::<Flex, 2>(composed::forward::<Flex>(map(1), vectors, form)));
    assert_eq!(host::<Flex, 2>(found.0), host::<Flex, 2>(expected.0));
    assert_eq!(host::<Flex, 1>(found.1), host::<Flex, 1>(expected.1));
    assert_eq!(host::<Flex, 1>(found.2), host::<Flex, 1>(expected.2));
}
