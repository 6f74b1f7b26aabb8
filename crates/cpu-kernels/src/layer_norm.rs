//! Layer normalisation over rows, keeping nothing for the backward pass but its input.

use multiversion::multiversion;

use crate::block::{Block, LANES, total};
use crate::output::{in_tasks, in_tasks_with};

/// Numbers a task.
const TASK: usize = 1 << 13;

/// What [`layer_norm_gradient`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormGradient {
    /// `[N, C]`
    pub input: Vec<f32>,
    /// `[C]`
    pub weight: Vec<f32>,
    /// `[C]`
    pub bias: Vec<f32>,
}

/// Normalises each row to mean 0 and variance 1, then scales and shifts it.
///
/// # Shapes
/// - `rows` and result: `[N, C]`
/// - `weight`, `bias`: `[C]`
pub fn layer_norm(rows: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let channels = weight.len();
    let task = rows_a_task(channels) * channels;
    in_tasks(rows.len(), task, |index, output| {
        forward_task(&rows[index * task..][..output.len()], weight, bias, epsilon, output);
    })
}

/// The gradients of [`layer_norm`]. Rows are summed in tasks of a fixed size and in their order, whatever the number of threads.
///
/// # Shapes
/// - `rows`, `gradient`: `[N, C]`
/// - `weight`: `[C]`
pub fn layer_norm_gradient(rows: &[f32], weight: &[f32], gradient: &[f32], epsilon: f32) -> LayerNormGradient {
    let channels = weight.len();
    let task = rows_a_task(channels) * channels;
    let (input, partial) = in_tasks_with(rows.len(), task, |index, output| {
        let part = index * task..index * task + output.len();
        let mut sums = [vec![0.0; channels], vec![0.0; channels]];
        gradient_task(&rows[part.clone()], weight, &gradient[part], epsilon, output, &mut sums);
        sums
    });
    let mut total = [vec![0.0f32; channels], vec![0.0; channels]];
    for sums in &partial {
        for (total, sums) in total.iter_mut().zip(sums) {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
    }
    let [weight, bias] = total;
    LayerNormGradient { input, weight, bias }
}

#[multiversion(targets = "simd")]
fn forward_task(rows: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, output: &mut [f32]) {
    let channels = weight.len();
    for (output, row) in output.chunks_exact_mut(channels).zip(rows.chunks_exact(channels)) {
        let (mean, scale) = moments(row, epsilon);
        for (((output, &x), &weight), &bias) in output.iter_mut().zip(row).zip(weight).zip(bias) {
            *output = ((x - mean) * scale).mul_add(weight, bias);
        }
    }
}

/// With x̂ the normalised row and h = gradient * weight: `dx = scale (h - mean(h) - x̂ mean(h x̂))`.
#[multiversion(targets = "simd")]
fn gradient_task(
    rows: &[f32],
    weight: &[f32],
    gradient: &[f32],
    epsilon: f32,
    output: &mut [f32],
    sums: &mut [Vec<f32>; 2],
) {
    let channels = weight.len();
    let [of_weight, of_bias] = sums.each_mut().map(|sums| &mut sums[..channels]);
    let rows = rows.chunks_exact(channels).zip(gradient.chunks_exact(channels));
    for (output, (row, gradient)) in output.chunks_exact_mut(channels).zip(rows) {
        let (mean, scale) = moments(row, epsilon);
        let [sum_h, sum_hx] = sums_of_slopes(row, weight, gradient, mean, output);
        let (mean_h, mean_hx) = (sum_h / channels as f32, sum_hx * scale / channels as f32);
        for c in 0..channels {
            let normalised = (row[c] - mean) * scale;
            output[c] = scale * (output[c] - mean_h - normalised * mean_hx);
            of_weight[c] = gradient[c].mul_add(normalised, of_weight[c]);
            of_bias[c] += gradient[c];
        }
    }
}

/// A row's mean, and one over the root of its (biased) variance plus `epsilon`.
#[inline(always)]
fn moments(row: &[f32], epsilon: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = sum(row, |x| x) / count;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// The sums of h, which is written to `slopes`, and of h (x - mean); h = gradient * weight.
#[inline(always)]
fn sums_of_slopes(row: &[f32], weight: &[f32], gradient: &[f32], mean: f32, slopes: &mut [f32]) -> [f32; 2] {
    slopes.iter_mut().zip(gradient).zip(weight).for_each(|((slope, gradient), weight)| *slope = gradient * weight);
    [sum(slopes, |slope| slope), sum_of_two(slopes, row, |slope, x| slope * (x - mean))]
}

#[inline(always)]
fn sum(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    sum_of_two(row, row, |x, _| term(x))
}

/// The sum of what each two numbers make, in [`LANES`] parts of every other block each, so that the additions need not wait for each other.
#[inline(always)]
fn sum_of_two(row: &[f32], other: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let [(blocks, rest), (other_blocks, other_rest)] = [row, other].map(<[f32]>::as_chunks::<LANES>);
    let [(pairs, last), (other_pairs, other_last)] = [blocks, other_blocks].map(<[Block]>::as_chunks::<2>);
    let add = |parts: &mut Block, block: &Block, other: &Block| {
        let numbers = block.iter().zip(other);
        parts.iter_mut().zip(numbers).for_each(|(part, (x, y))| *part += term(*x, *y));
    };
    let [mut even, mut odd] = [[0.0; LANES]; 2];
    for (pair, other) in pairs.iter().zip(other_pairs) {
        add(&mut even, &pair[0], &other[0]);
        add(&mut odd, &pair[1], &other[1]);
    }
    for (block, other) in last.iter().zip(other_last) {
        add(&mut even, block, other);
    }
    even.iter_mut().zip(odd).for_each(|(part, odd)| *part += odd);
    total(even) + rest.iter().zip(other_rest).map(|(x, y)| term(*x, *y)).sum::<f32>()
}

fn rows_a_task(channels: usize) -> usize {
    (TASK / channels.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    const EPSILON: f32 = 1e-6;

    /// The layer in f64, as the paper writes it.
    fn reference(row: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f64> {
        let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let scale = 1.0 / (variance + f64::from(EPSILON)).sqrt();
        (0..row.len()).map(|c| (row[c] - mean) * scale * f64::from(weight[c]) + f64::from(bias[c])).collect()
    }

    #[test]
    fn rows_follow_the_definition() {
        for (rows, channels) in [(1, 1), (3, 5), (700, 40), (2, 320), (9, 17)] {
            let (input, weight, bias) = (numbers(rows * channels, 1), numbers(channels, 2), numbers(channels, 3));
            let output = layer_norm(&input, &weight, &bias, EPSILON);
            for (found, row) in output.chunks(channels).zip(input.chunks(channels)) {
                for (found, expected) in found.iter().zip(reference(row, &weight, &bias)) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences_in_f64() {
        let (rows, channels) = (4, 19);
        let (input, weight, bias) = (numbers(rows * channels, 4), numbers(channels, 5), numbers(channels, 6));
        let upstream = numbers(rows * channels, 7);
        let loss = |input: &[f32], weight: &[f32], bias: &[f32]| -> f64 {
            let outputs = input.chunks(channels).flat_map(|row| reference(row, weight, bias));
            outputs.zip(&upstream).map(|(output, gradient)| output * f64::from(*gradient)).sum()
        };
        let found = layer_norm_gradient(&input, &weight, &upstream, EPSILON);
        let check = |at: usize, found: f32, which: usize| {
            let step = 1e-3f32;
            let moved = |by: f32| {
                let mut values = [input.clone(), weight.clone(), bias.clone()];
                values[which][at] += by;
                loss(&values[0], &values[1], &values[2])
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            // The step's own error is of order step² times the third derivative.
            assert!((slope - f64::from(found)).abs() < 2e-4, "slope {slope}, found {found}");
        };
        (0..rows * channels).for_each(|at| check(at, found.input[at], 0));
        (0..channels).for_each(|at| check(at, found.weight[at], 1));
        (0..channels).for_each(|at| check(at, found.bias[at], 2));
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        let (input, weight) = (numbers(4000 * 40, 1), numbers(40, 2));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| layer_norm_gradient(&input, &weight, &input, EPSILON))
        };
        assert_eq!(run(1), run(3));
    }
}
