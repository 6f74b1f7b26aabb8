//! The end of a residual branch in one pass: the bias of its last layer, layer scale, stochastic depth, and the sum with what the branch was made of.

use multiversion::multiversion;

use crate::output::{in_tasks, in_tasks_with};
use crate::sums::total_of;

/// Numbers a task.
const TASK: usize = 1 << 14;

/// `map + (branch + bias) * scale * factor`, with a bias and a scale for each channel and a factor for each sample.
#[derive(Debug, Clone, Copy)]
pub struct Residual<'a> {
    /// None is a bias of 0 and a scale of 1 everywhere.
    pub scaling: Option<Scaling<'a>>,
    /// `[B]`; none is 1 everywhere.
    pub factors: Option<&'a [f32]>,
    /// C.
    pub channels: usize,
}

/// What each channel of a branch goes through, bias first.
#[derive(Debug, Clone, Copy)]
pub struct Scaling<'a> {
    /// `[C]`
    pub bias: &'a [f32],
    /// `[C]`
    pub scale: &'a [f32],
}

impl Residual<'_> {
    /// The sum.
    ///
    /// # Shapes
    /// - `map`, `branch` and result: `[B, .., C]`
    pub fn forward(&self, map: &[f32], branch: &[f32]) -> Vec<f32> {
        let task = self.task_length();
        in_tasks(map.len(), task, |index, output| {
            let start = index * task;
            let rows = Rows { first: start / self.channels, all: map.len() / self.channels, residual: self };
            let [map, branch] = [map, branch].map(|numbers| &numbers[start..][..output.len()]);
            add_task([map, branch], rows, output);
        })
    }

    /// The gradient of the branch alone. That of the map is `gradient` itself.
    ///
    /// # Shapes
    /// - `gradient` and result: `[B, .., C]`
    pub fn branch_gradient(&self, gradient: &[f32]) -> Vec<f32> {
        let task = self.task_length();
        in_tasks(gradient.len(), task, |index, output| {
            let start = index * task;
            let rows = Rows { first: start / self.channels, all: gradient.len() / self.channels, residual: self };
            slope_task(&gradient[start..][..output.len()], rows, output);
        })
    }

    /// The gradient of the branch, and those of bias and scale: sums over rows of `gradient * scale * factor` and of
    /// `gradient * (branch + bias) * factor`. Rows are summed in tasks of a fixed size and in their order. None where the branch is not scaled.
    ///
    /// # Shapes
    /// - `branch`, `gradient` and first result: `[B, .., C]`
    /// - second results: `[C]`
    pub fn gradients(&self, branch: &[f32], gradient: &[f32]) -> Option<(Vec<f32>, [Vec<f32>; 2])> {
        let (task, scaling) = (self.task_length(), self.scaling?);
        let (of_branch, partial) = in_tasks_with(gradient.len(), task, |index, output| {
            let start = index * task;
            let rows = Rows { first: start / self.channels, all: gradient.len() / self.channels, residual: self };
            let [branch, gradient] = [branch, gradient].map(|map| &map[start..][..output.len()]);
            gradients_task([branch, gradient], scaling, rows, output)
        });
        let (slopes, products): (Vec<_>, Vec<_>) = partial.into_iter().map(<(_, _)>::from).unzip();
        let mut of_bias = total_of(&slopes, self.channels);
        of_bias.iter_mut().zip(scaling.scale).for_each(|(sum, scale)| *sum *= scale);
        Some((of_branch, [of_bias, total_of(&products, self.channels)]))
    }

    fn task_length(&self) -> usize {
        (TASK / self.channels.max(1)).max(1) * self.channels.max(1)
    }
}

/// Where a task's rows are among all.
#[derive(Clone, Copy)]
struct Rows<'a> {
    first: usize,
    all: usize,
    residual: &'a Residual<'a>,
}

impl Rows<'_> {
    /// Of the sample that a row of the task belongs to.
    #[inline(always)]
    fn factor(&self, row: usize) -> f32 {
        self.residual.factors.map_or(1.0, |factors| factors[(self.first + row) * factors.len() / self.all])
    }
}

/// `output = map + (branch + bias) * scale * factor`
#[multiversion(targets = "simd")]
fn add_task([map, branch]: [&[f32]; 2], rows: Rows<'_>, output: &mut [f32]) {
    let channels = rows.residual.channels;
    let inputs = map.chunks_exact(channels).zip(branch.chunks_exact(channels));
    for (row, (output, (map, branch))) in output.chunks_exact_mut(channels).zip(inputs).enumerate() {
        let factor = rows.factor(row);
        let inputs = output.iter_mut().zip(map).zip(branch);
        match rows.residual.scaling {
            Some(Scaling { bias, scale }) => {
                for ((((output, map), branch), bias), scale) in inputs.zip(bias).zip(scale) {
                    *output = ((branch + bias) * scale).mul_add(factor, *map);
                }
            }
            None => inputs.for_each(|((output, map), branch)| *output = map + branch * factor),
        }
    }
}

/// `output = gradient * scale * factor`
#[multiversion(targets = "simd")]
fn slope_task(gradient: &[f32], rows: Rows<'_>, output: &mut [f32]) {
    let channels = rows.residual.channels;
    for (row, (output, gradient)) in output.chunks_exact_mut(channels).zip(gradient.chunks_exact(channels)).enumerate()
    {
        let factor = rows.factor(row);
        match rows.residual.scaling {
            Some(Scaling { scale, .. }) => {
                for ((output, gradient), scale) in output.iter_mut().zip(gradient).zip(scale) {
                    *output = gradient * factor * scale;
                }
            }
            None => output.iter_mut().zip(gradient).for_each(|(output, gradient)| *output = gradient * factor),
        }
    }
}

/// `output = gradient * scale * factor`, and sums over rows of `gradient * factor` and of `gradient * factor * (branch + bias)`.
#[multiversion(targets = "simd")]
fn gradients_task(
    [branch, gradient]: [&[f32]; 2],
    Scaling { bias, scale }: Scaling<'_>,
    rows: Rows<'_>,
    output: &mut [f32],
) -> [Vec<f32>; 2] {
    let channels = rows.residual.channels;
    let [mut slopes, mut products] = [vec![0.0f32; channels], vec![0.0f32; channels]];
    let inputs = branch.chunks_exact(channels).zip(gradient.chunks_exact(channels));
    for (row, (output, (branch, gradient))) in output.chunks_exact_mut(channels).zip(inputs).enumerate() {
        let factor = rows.factor(row);
        let inputs = branch.iter().zip(gradient).zip(bias.iter().zip(scale));
        let sums = slopes.iter_mut().zip(&mut products);
        for ((output, (slopes, products)), ((branch, gradient), (bias, scale))) in
            output.iter_mut().zip(sums).zip(inputs)
        {
            let slope = gradient * factor;
            *output = slope * scale;
            *slopes += slope;
            *products = slope.mul_add(branch + bias, *products);
        }
    }
    [slopes, products]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    #[test]
    fn the_sum_and_its_gradients_follow_the_definition() {
        for [batch, positions, channels] in [[1, 1, 1], [3, 7, 5], [4, 300, 33], [2, 1, 40_000]] {
            for (has_scaling, has_factors) in [(true, true), (false, true), (true, false), (false, false)] {
                assert_defined([batch, positions, channels], has_scaling, has_factors);
            }
        }
    }

    fn assert_defined([batch, positions, channels]: [usize; 3], has_scaling: bool, has_factors: bool) {
        let count = batch * positions * channels;
        let [map, branch, gradient] = [1, 2, 3].map(|seed| numbers(count, seed));
        let (scale, factors, bias) = (numbers(channels, 4), numbers(batch, 5), numbers(channels, 6));
        let scaling = has_scaling.then_some(Scaling { bias: &bias, scale: &scale });
        let of = Residual { scaling, factors: has_factors.then_some(&factors), channels };
        let factor = |at: usize| if has_factors { f64::from(factors[at / (positions * channels)]) } else { 1.0 };
        let scale_at = |at: usize| if has_scaling { f64::from(scale[at % channels]) } else { 1.0 };
        let bias_at = |at: usize| if has_scaling { f64::from(bias[at % channels]) } else { 0.0 };
        let (sum, of_branch) = (of.forward(&map, &branch), of.branch_gradient(&gradient));
        let mut sums = [vec![0.0; channels], vec![0.0; channels]];
        for at in 0..count {
            let [map, branch, gradient] = [&map, &branch, &gradient].map(|values| f64::from(values[at]));
            let value = branch + bias_at(at);
            assert!((f64::from(sum[at]) - (map + value * scale_at(at) * factor(at))).abs() < 1e-6);
            let slope = gradient * scale_at(at) * factor(at);
            assert!((f64::from(of_branch[at]) - slope).abs() < 1e-6);
            sums[0][at % channels] += slope;
            sums[1][at % channels] += gradient * value * factor(at);
        }
        let found = of.gradients(&branch, &gradient);
        assert_eq!(found.is_some(), has_scaling);
        let Some((again, found)) = found else { return };
        for (found, expected) in again.iter().zip(of_branch) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
        for (found, expected) in found.into_iter().zip(sums) {
            for (found, expected) in found.into_iter().zip(expected) {
                // A thousand products below two in f32.
                assert!((f64::from(found) - expected).abs() < 6e-5, "{found} is not {expected}");
            }
        }
    }
}
