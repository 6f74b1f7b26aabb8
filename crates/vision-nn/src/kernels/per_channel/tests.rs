//! Every form of the operations against its definition in f64.

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "wgpu")]
use burn::backend::Wgpu;
use burn::backend::{DispatchKindConversion, DispatchTensor};
use burn::tensor::Device;

use super::*;
use crate::kernels::test_definition::{assert_near, host, numbers, primitive_of, rounded, rounding};

const TOLERANCE: f64 = 1e-5;

/// `[B, K, C]`
fn sums_in_f64(map: &[f64], other: &[f64], [batch, positions, channels]: [usize; 3], summed: Summed) -> Vec<f64> {
    let mut sums = vec![0.0; batch * summed.count() * channels];
    for sample in 0..batch {
        for at in 0..positions * channels {
            let place = sample * positions * channels + at;
            let (x, g) = (map[place], other[place]);
            let terms = match summed {
                Summed::Cells => vec![x],
                Summed::Squares => vec![x * x],
                Summed::CellsAndProducts => vec![x, x * g],
                Summed::SquaresProductsAndOther => vec![x * x, x * g, g],
            };
            for (which, term) in terms.into_iter().enumerate() {
                sums[(sample * summed.count() + which) * channels + at % channels] += term;
            }
        }
    }
    sums
}

fn assert_defined<B: PerChannel>(device: &Device, shape: [usize; 3], storage: DType)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let [batch, positions, channels] = shape;
    let [map, other] = [1, 2].map(|seed| {
        let numbers: Vec<f64> = numbers(seed, batch * positions * channels).iter().map(|x| x + 0.3).collect();
        rounded(&numbers, device, storage)
    });
    let [factors, others] = [3, 4].map(|seed| numbers(seed, batch * channels));
    let stored = |numbers: &[f64]| primitive_of::<B, 3>(numbers, shape, device, storage);
    let of_sample = |numbers: &[f64]| primitive_of::<B, 2>(numbers, [batch, channels], device, DType::F32);
    for summed in [Summed::Cells, Summed::Squares, Summed::CellsAndProducts, Summed::SquaresProductsAndOther] {
        let found = host::<B, 3>(B::channel_sums([stored(&map), stored(&other)], summed));
        let what = format!("{summed:?} of {shape:?} in {storage:?}");
        assert_near(&what, &found, &sums_in_f64(&map, &other, shape, summed), TOLERANCE);
    }
    let weighed = |map: &[f64], factors: &[f64]| Weighed::<B> { map: stored(map), factors: of_sample(factors) };
    let expect = |value: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        (0..map.len()).map(|at| value(at, at / (positions * channels) * channels + at % channels)).collect()
    };
    let shift = primitive_of::<B, 2>(&others[..channels], [1, channels], device, DType::F32);
    let found = [
        B::weighed(weighed(&map, &factors)),
        B::weighed_and_shifted(weighed(&map, &factors), of_sample(&others)),
        B::weighed_and_shifted(weighed(&map, &factors), shift),
        B::blended(weighed(&map, &factors), weighed(&other, &others)),
    ];
    let expected = [
        expect(&|at, of| map[at] * factors[of]),
        expect(&|at, of| map[at] * factors[of] + others[of]),
        expect(&|at, of| map[at] * factors[of] + others[of % channels]),
        expect(&|at, of| map[at] * factors[of] + other[at] * others[of]),
    ];
    for (part, (found, expected)) in found.into_iter().zip(&expected).enumerate() {
        assert_eq!(found.dtype(), storage);
        let what = format!("blend {part} of {shape:?} in {storage:?}");
        assert_near(&what, &host::<B, 3>(found), expected, TOLERANCE + rounding(storage));
    }
}

fn assert_defined_everywhere<B: PerChannel>(device: &Device, halves: &[DType])
where
    DispatchTensor: DispatchKindConversion<B>,
{
    // One number; odd channels, and more than a tile has; more positions than a chunk has.
    for shape in [[1, 1, 1], [3, 49, 33], [2, 7, 2500], [2, 3000, 24], [70, 9, 8]] {
        assert_defined::<B>(device, shape, DType::F32);
    }
    for &storage in halves {
        assert_defined::<B>(device, [2, 600, 24], storage);
        assert_defined::<B>(device, [3, 49, 33], storage);
    }
}

#[test]
fn the_definition_holds_in_a_backends_own_operations() {
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
