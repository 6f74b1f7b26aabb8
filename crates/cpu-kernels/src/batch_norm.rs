//! Batch normalisation over rows, with an activation behind it where one follows, keeping nothing for the backward pass but its input.
//!
//! Ioffe and Szegedy, "Batch Normalization", 2015; SiLU is `z σ(z)` (Hendrycks and Gimpel, 2016).

use multiversion::multiversion;
use rayon::prelude::*;

use crate::activation::Activation;
use crate::output::{in_tasks, in_tasks_with};

/// Numbers a task.
const TASK: usize = 1 << 15;

/// Mean and variance of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// `[C]`
    pub mean: Vec<f32>,
    /// Sum of squared deviations over their number, `[C]`.
    pub variance: Vec<f32>,
}

/// What [`BatchNorm::gradient`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormGradient {
    /// `[N, C]`
    pub input: Vec<f32>,
    /// `[C]`
    pub weight: Vec<f32>,
    /// `[C]`
    pub bias: Vec<f32>,
}

/// The normalisation `z = (x - mean) / sqrt(variance + epsilon) * weight + bias` of each channel; every slice is `[C]`.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// Subtracted.
    pub mean: &'a [f32],
    /// Divided by, under the root.
    pub variance: &'a [f32],
    /// Scale.
    pub weight: &'a [f32],
    /// Shift.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
    /// What follows.
    pub activation: Activation,
}

/// Mean and variance over rows, in one pass over memory. Rows are summed in tasks of a fixed size and in their order.
///
/// # Shapes
/// - `rows`: `[N, C]`
pub fn moments(rows: &[f32], channels: usize) -> Moments {
    let partial: Vec<[Vec<f32>; 2]> =
        rows.par_chunks(task_length(channels)).map(|rows| moments_task(rows, channels)).collect();
    let mut mean = vec![0.0f64; channels];
    let mut squares = vec![0.0f64; channels];
    let mut seen = 0.0;
    // Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
    for ([task_mean, task_squares], rows) in partial.iter().zip(rows.chunks(task_length(channels))) {
        let count = (rows.len() / channels) as f64;
        let share = count / (seen + count);
        add_moments([&mut mean, &mut squares], [task_mean, task_squares], share, seen * share);
        seen += count;
    }
    let variance = squares.into_iter().map(|sum| (sum / seen) as f32).collect();
    Moments { mean: mean.into_iter().map(|mean| mean as f32).collect(), variance }
}

/// Adds a task's mean and squares to those of the tasks before: `share` is what part of all rows until now are its own.
#[multiversion(targets = "simd")]
fn add_moments([mean, squares]: [&mut [f64]; 2], of_task: [&[f32]; 2], share: f64, share_of_seen: f64) {
    let of_task = of_task[0].iter().zip(of_task[1]);
    for ((mean, squares), (task_mean, task_squares)) in mean.iter_mut().zip(squares).zip(of_task) {
        let apart = f64::from(*task_mean) - *mean;
        *mean += apart * share;
        *squares += f64::from(*task_squares) + apart * apart * share_of_seen;
    }
}

/// A task's mean, and its sum of squared deviations from that.
#[multiversion(targets = "simd")]
fn moments_task(rows: &[f32], channels: usize) -> [Vec<f32>; 2] {
    // Summed from the first row on: where the mean is far from zero, only the deviations are rounded.
    let first = &rows[..channels];
    let mut mean = vec![0.0f32; channels];
    for row in rows.chunks_exact(channels) {
        for ((sum, x), first) in mean.iter_mut().zip(row).zip(first) {
            *sum += x - first;
        }
    }
    let count = (rows.len() / channels) as f32;
    mean.iter_mut().zip(first).for_each(|(sum, first)| *sum = *sum / count + first);
    let mut squares = vec![0.0f32; channels];
    for row in rows.chunks_exact(channels) {
        for ((sum, x), mean) in squares.iter_mut().zip(row).zip(&mean) {
            *sum = (x - mean).mul_add(x - mean, *sum);
        }
    }
    [mean, squares]
}

impl BatchNorm<'_> {
    /// Normalises rows.
    ///
    /// # Shapes
    /// - `rows` and result: `[N, C]`
    pub fn forward(&self, rows: &[f32]) -> Vec<f32> {
        let scale = self.scale();
        let task = task_length(self.weight.len());
        in_tasks(rows.len(), task, |index, output| {
            forward_task(&rows[index * task..][..output.len()], self, &scale, output);
        })
    }

    /// The gradients of [`forward`](Self::forward). With `of_batch`, mean and variance are taken as those of `rows`, and the
    /// gradient goes through them too; without, they are constants.
    ///
    /// # Shapes
    /// - `rows`, `gradient`: `[N, C]`
    pub fn gradient(&self, rows: &[f32], gradient: &[f32], of_batch: bool) -> BatchNormGradient {
        let channels = self.weight.len();
        let scale = self.scale();
        let task = task_length(channels);
        let (mut input, partial) = in_tasks_with(rows.len(), task, |index, output| {
            let part = index * task..index * task + output.len();
            before_norm_task(&rows[part.clone()], &gradient[part], self, &scale, output)
        });
        let [bias, products] = [0, 1].map(|which| sum_of(&partial, which, channels));
        let inverse = self.inverse_deviation();
        let weight: Vec<f32> =
            products.iter().zip(&inverse).map(|(sum, inverse)| (sum * f64::from(*inverse)) as f32).collect();
        let bias: Vec<f32> = bias.into_iter().map(|sum| sum as f32).collect();
        // dx = scale (dz - mean(dz) - x̂ mean(dz x̂)); without the batch's own moments, dx = scale dz.
        let share = if of_batch { 1.0 / (rows.len() / channels) as f32 } else { 0.0 };
        let mean_bias: Vec<f32> = bias.iter().map(|sum| sum * share).collect();
        let slope: Vec<f32> = weight.iter().zip(&inverse).map(|(sum, inverse)| sum * inverse * share).collect();
        input
            .par_chunks_mut(task)
            .zip(rows.par_chunks(task))
            .for_each(|(output, rows)| through_moments_task(rows, self.mean, &scale, &mean_bias, &slope, output));
        BatchNormGradient { input, weight, bias }
    }

    fn inverse_deviation(&self) -> Vec<f32> {
        self.variance.iter().map(|variance| 1.0 / (variance + self.epsilon).sqrt()).collect()
    }

    fn scale(&self) -> Vec<f32> {
        self.inverse_deviation().iter().zip(self.weight).map(|(inverse, weight)| inverse * weight).collect()
    }
}

#[multiversion(targets = "simd")]
fn forward_task(rows: &[f32], norm: &BatchNorm<'_>, scale: &[f32], output: &mut [f32]) {
    let channels = scale.len();
    let (mean, bias) = (&norm.mean[..channels], &norm.bias[..channels]);
    for (output, row) in output.chunks_exact_mut(channels).zip(rows.chunks_exact(channels)) {
        for c in 0..channels {
            output[c] = (row[c] - mean[c]).mul_add(scale[c], bias[c]);
        }
    }
    norm.activation.apply(output);
}

/// The gradient at the norm's output, dz, to `output`; the sums over rows of dz and of dz (x - mean).
#[multiversion(targets = "simd")]
fn before_norm_task(
    rows: &[f32],
    gradient: &[f32],
    norm: &BatchNorm<'_>,
    scale: &[f32],
    output: &mut [f32],
) -> [Vec<f32>; 2] {
    let channels = scale.len();
    let (mean, bias) = (&norm.mean[..channels], &norm.bias[..channels]);
    let (mut sums, mut products) = (vec![0.0f32; channels], vec![0.0f32; channels]);
    let inputs = rows.chunks_exact(channels).zip(gradient.chunks_exact(channels));
    for (output, (row, gradient)) in output.chunks_exact_mut(channels).zip(inputs) {
        for c in 0..channels {
            output[c] = (row[c] - mean[c]).mul_add(scale[c], bias[c]);
        }
        norm.activation.replace_by_slopes(output);
        for c in 0..channels {
            output[c] *= gradient[c];
        }
        for c in 0..channels {
            sums[c] += output[c];
            products[c] = output[c].mul_add(row[c] - mean[c], products[c]);
        }
    }
    [sums, products]
}

/// `output = scale (output - mean_bias - (x - mean) slope)`
#[multiversion(targets = "simd")]
fn through_moments_task(
    rows: &[f32],
    mean: &[f32],
    scale: &[f32],
    mean_bias: &[f32],
    slope: &[f32],
    output: &mut [f32],
) {
    let channels = scale.len();
    let (mean, mean_bias, slope) = (&mean[..channels], &mean_bias[..channels], &slope[..channels]);
    for (output, row) in output.chunks_exact_mut(channels).zip(rows.chunks_exact(channels)) {
        for c in 0..channels {
            output[c] = scale[c] * (mean[c] - row[c]).mul_add(slope[c], output[c] - mean_bias[c]);
        }
    }
}

/// Adds the tasks' sums in their order, in f64.
fn sum_of(partial: &[[Vec<f32>; 2]], which: usize, channels: usize) -> Vec<f64> {
    let mut total = vec![0.0f64; channels];
    for sums in partial {
        total.iter_mut().zip(&sums[which]).for_each(|(total, sum)| *total += f64::from(*sum));
    }
    total
}

fn task_length(channels: usize) -> usize {
    (TASK / channels.max(1)).max(1) * channels.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    const EPSILON: f32 = 1e-3;

    /// Mean and biased variance of a channel, in f64.
    fn moments_of(rows: &[f64], channels: usize, c: usize) -> (f64, f64) {
        let values: Vec<f64> = rows.iter().skip(c).step_by(channels).copied().collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64)
    }

    /// The layer in f64, by its own moments or by those given.
    fn reference([rows, weight, bias]: &[Vec<f64>; 3], fixed: Option<&Moments>, activation: Activation) -> Vec<f64> {
        let channels = weight.len();
        let mut output = vec![0.0; rows.len()];
        for c in 0..channels {
            let (mean, variance) = match fixed {
                Some(moments) => (f64::from(moments.mean[c]), f64::from(moments.variance[c])),
                None => moments_of(rows, channels, c),
            };
            for at in (c..rows.len()).step_by(channels) {
                let z = (rows[at] - mean) / (variance + f64::from(EPSILON)).sqrt() * weight[c] + bias[c];
                output[at] = match activation {
                    Activation::Identity => z,
                    Activation::Relu => z.max(0.0),
                    Activation::Silu => z / (1.0 + (-z).exp()),
                };
            }
        }
        output
    }

    fn in_f64(numbers: &[f32]) -> Vec<f64> {
        numbers.iter().map(|number| f64::from(*number)).collect()
    }

    fn norm<'a>(moments: &'a Moments, weight: &'a [f32], bias: &'a [f32], activation: Activation) -> BatchNorm<'a> {
        BatchNorm { mean: &moments.mean, variance: &moments.variance, weight, bias, epsilon: EPSILON, activation }
    }

    #[test]
    fn moments_follow_the_definition_far_from_zero_too() {
        for (rows, channels) in [(1, 3), (5, 1), (1000, 17), (3, 9000)] {
            let rows: Vec<f32> = numbers(rows * channels, 1).iter().map(|x| 30.0 + x).collect();
            let found = moments(&rows, channels);
            for c in 0..channels {
                let (mean, variance) = moments_of(&in_f64(&rows), channels, c);
                assert!((f64::from(found.mean[c]) - mean).abs() < 1e-5, "mean {mean}, found {}", found.mean[c]);
                assert!((f64::from(found.variance[c]) - variance).abs() < 1e-5, "{variance}, {}", found.variance[c]);
            }
        }
    }

    #[test]
    fn rows_follow_the_definition() {
        use Activation::{Identity, Relu, Silu};
        for (rows, channels, activation) in [(2, 1, Identity), (700, 40, Silu), (9, 17, Relu), (3, 9000, Silu)] {
            let (input, weight, bias) = (numbers(rows * channels, 1), numbers(channels, 2), numbers(channels, 3));
            let output = norm(&moments(&input, channels), &weight, &bias, activation).forward(&input);
            let inputs = [&input, &weight, &bias].map(|numbers| in_f64(numbers));
            for (found, expected) in output.iter().zip(reference(&inputs, None, activation)) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} is not {expected}");
            }
        }
    }

    #[test]
    fn gradients_are_those_of_differences_in_f64() {
        let (rows, channels) = (7, 5);
        let [input, upstream] = [4, 7].map(|seed| numbers(rows * channels, seed));
        let (weight, bias) = (numbers(channels, 5), numbers(channels, 6));
        let inputs = [&input, &weight, &bias].map(|numbers| in_f64(numbers));
        let forms = [Activation::Identity, Activation::Relu, Activation::Silu].into_iter();
        for (activation, of_batch) in forms.flat_map(|activation| [(activation, true), (activation, false)]) {
            let moments = moments(&input, channels);
            let found = norm(&moments, &weight, &bias, activation).gradient(&input, &upstream, of_batch);
            let fixed = (!of_batch).then_some(&moments);
            for (which, found) in [&found.input, &found.weight, &found.bias].into_iter().enumerate() {
                for (at, found) in found.iter().enumerate() {
                    let step = 1e-6;
                    let moved = |by: f64| -> f64 {
                        let mut inputs = inputs.clone();
                        inputs[which][at] += by;
                        let outputs = reference(&inputs, fixed, activation);
                        outputs.iter().zip(&upstream).map(|(output, slope)| output * f64::from(*slope)).sum()
                    };
                    let slope = (moved(step) - moved(-step)) / (2.0 * step);
                    // Rounding of the differences is of order 1e-16 / step, and numbers are of order one.
                    assert!((slope - f64::from(*found)).abs() < 1e-5, "slope {slope}, found {found}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        let (input, weight) = (numbers(4000 * 40, 1), numbers(40, 2));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let moments = moments(&input, 40);
                let gradient = norm(&moments, &weight, &weight, Activation::Silu).gradient(&input, &input, true);
                (moments, gradient)
            })
        };
        assert_eq!(run(1), run(3));
    }
}
