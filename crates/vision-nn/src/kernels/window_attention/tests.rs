//! Every form of the operation against its definition in f64.

use burn::backend::{DispatchKindConversion, DispatchTensor};
use burn::tensor::Device;

use super::*;
use crate::kernels::test_definition::{assert_near, host, numbers, primitive_of, rounded, rounding};

const TOLERANCE: f64 = 1e-5;

/// What goes in, in f64.
struct Definition {
    windows: WindowAttention,
    projected: Vec<f64>,
    bias: Vec<f64>,
    upstream: Vec<f64>,
}

/// Output, and the gradients of projections and bias.
#[derive(Default)]
struct Found {
    output: Vec<f64>,
    of_projected: Vec<f64>,
    of_bias: Vec<f64>,
}

impl Definition {
    fn apply(&self) -> Found {
        let mut found = Found {
            output: vec![0.0; self.upstream.len()],
            of_projected: vec![0.0; self.projected.len()],
            of_bias: vec![0.0; self.bias.len()],
        };
        for window in 0..plan::count(&self.windows) {
            let places: Vec<[usize; 3]> =
                (0..plan::tokens(&self.windows)).map(|token| self.place(window, token)).collect();
            for head in 0..self.windows.heads {
                self.head(&places, head, &mut found);
            }
        }
        found
    }

    /// Which position of all images a token is, and its row and column in the rolled map.
    fn place(&self, window: usize, token: usize) -> [usize; 3] {
        let WindowAttention { grid: [height, width], window: [rows, columns], shift, .. } = self.windows;
        let (across, of_image) = (width / columns, height / rows * (width / columns));
        let row = window % of_image / across * rows + token / columns;
        let column = window % of_image % across * columns + token % columns;
        let position = (window / of_image * height + (row + shift[0]) % height) * width + (column + shift[1]) % width;
        [position, row, column]
    }

    /// Whether the roll alone has brought two tokens together.
    fn is_blocked(&self, one: [usize; 3], other: [usize; 3]) -> bool {
        let beyond =
            |place: [usize; 3], axis: usize| place[axis + 1] >= self.windows.grid[axis] - self.windows.shift[axis];
        (0..2).any(|axis| beyond(one, axis) != beyond(other, axis))
    }

    fn head(&self, places: &[[usize; 3]], head: usize, found: &mut Found) {
        let (tokens, width) = (places.len(), self.windows.head_width);
        let channels = self.windows.heads * width;
        let at = |token: usize, part: usize, d: usize| (places[token][0] * 3 + part) * channels + head * width + d;
        let of_output = |token: usize, d: usize| places[token][0] * channels + head * width + d;
        let scale = (width as f64).powf(-0.5);
        let sum = |term: &dyn Fn(usize) -> f64| (0..width).map(term).sum::<f64>();
        for query in 0..tokens {
            let row = (head * tokens + query) * tokens;
            let scores: Vec<f64> = (0..tokens)
                .map(|key| {
                    let product = sum(&|d| self.projected[at(query, 0, d)] * self.projected[at(key, 1, d)]);
                    let masked = if self.is_blocked(places[query], places[key]) { -100.0 } else { 0.0 };
                    product * scale + self.bias[row + key] + masked
                })
                .collect();
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let whole: f64 = scores.iter().map(|score| (score - highest).exp()).sum();
            let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp() / whole).collect();
            let slopes: Vec<f64> = (0..tokens)
                .map(|key| sum(&|d| self.upstream[of_output(query, d)] * self.projected[at(key, 2, d)]))
                .collect();
            let mean: f64 = weights.iter().zip(&slopes).map(|(weight, slope)| weight * slope).sum();
            for key in 0..tokens {
                let of_score = weights[key] * (slopes[key] - mean);
                found.of_bias[row + key] += of_score;
                for d in 0..width {
                    found.output[of_output(query, d)] += weights[key] * self.projected[at(key, 2, d)];
                    found.of_projected[at(query, 0, d)] += of_score * scale * self.projected[at(key, 1, d)];
                    found.of_projected[at(key, 1, d)] += of_score * scale * self.projected[at(query, 0, d)];
                    found.of_projected[at(key, 2, d)] += weights[key] * self.upstream[of_output(query, d)];
                }
            }
        }
    }
}

fn definition(windows: WindowAttention, device: &Device, storage: DType) -> Definition {
    let tokens = plan::tokens(&windows);
    let count = plan::output_shape(&windows).num_elements();
    // Scores of several units, so that weights are far from equal.
    let projected: Vec<f64> = numbers(1, 3 * count).iter().map(|number| 3.0 * number).collect();
    Definition {
        windows,
        projected: rounded(&projected, device, storage),
        bias: numbers(2, windows.heads * tokens * tokens),
        upstream: rounded(&numbers(3, count), device, storage),
    }
}

fn assert_defined<B: Backend + FusedWindowAttention>(device: &Device, windows: WindowAttention, storage: DType)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let definition = definition(windows, device, storage);
    let expected = definition.apply();
    let WindowAttention { batch, grid: [height, width], heads, head_width, .. } = windows;
    let (channels, tokens) = (heads * head_width, plan::tokens(&windows));
    let shape = |channels| [batch, height, width, channels];
    let projected = primitive_of::<B, 4>(&definition.projected, shape(3 * channels), device, storage);
    let bias = primitive_of::<B, 3>(&definition.bias, [heads, tokens, tokens], device, DType::F32);
    let upstream = primitive_of::<B, 4>(&definition.upstream, shape(channels), device, storage);
    let output = B::fused_window_attention(projected.clone(), bias.clone(), windows);
    let (of_projected, of_bias) = B::fused_window_attention_gradient(projected, bias, upstream, windows);
    assert_eq!([output.dtype(), of_projected.dtype(), of_bias.dtype()], [storage, storage, DType::F32]);
    let (what, stored) = (format!("{windows:?} in {storage:?}"), TOLERANCE + rounding(storage));
    assert_near(&format!("output of {what}"), &host::<B, 4>(output), &expected.output, stored);
    assert_near(&format!("projections of {what}"), &host::<B, 4>(of_projected), &expected.of_projected, stored);
    assert_near(&format!("bias of {what}"), &host::<B, 3>(of_bias), &expected.of_bias, TOLERANCE);
}

/// Swin's windows and heads, rolled and not; a window that is the map; oblong ones with a roll along one axis; one token.
fn forms() -> [WindowAttention; 6] {
    let form = |batch, grid, window, shift, heads, head_width| WindowAttention {
        batch,
        grid,
        window,
        shift,
        heads,
        head_width,
    };
    [
        form(2, [14, 14], [7, 7], [3, 3], 2, 32),
        form(1, [24, 12], [12, 12], [6, 0], 1, 32),
        form(3, [7, 7], [7, 7], [0, 0], 3, 32),
        form(2, [6, 8], [3, 4], [1, 2], 2, 8),
        form(2, [2, 3], [1, 1], [0, 0], 2, 4),
        form(5, [8, 8], [4, 4], [2, 2], 2, 64),
    ]
}

fn assert_defined_everywhere<B: Backend + FusedWindowAttention>(device: &Device, halves: &[DType])
where
    DispatchTensor: DispatchKindConversion<B>,
{
    for windows in forms() {
        assert!(plan::cards_take(&windows), "{windows:?}");
        assert_defined::<B>(device, windows, DType::F32);
    }
    for &storage in halves {
        assert_defined::<B>(device, forms()[0], storage);
        assert_defined::<B>(device, forms()[3], storage);
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
    assert_several_windows_a_part(&device);
}

/// More windows than the gradients of the bias have parts.
#[cfg(feature = "wgpu")]
fn assert_several_windows_a_part(device: &Device) {
    let windows =
        WindowAttention { batch: 9, grid: [24, 12], window: [12, 12], shift: [0, 0], heads: 32, head_width: 4 };
    assert!(plan::Parts::of(&windows).windows_each > 1);
    assert_defined::<Wgpu>(device, windows, DType::F32);
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a card: `scripts/gpu_report.sh OUT` runs it there. bf16 runs nowhere else"]
fn the_definition_holds_on_cuda() {
    assert_defined_everywhere::<Cuda>(&Device::cuda(0), &[DType::BF16, DType::F16]);
}
