//! The end of a residual branch in one pass: layer scale, stochastic depth, and the sum with what the branch was made of.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::output::in_tasks;
use crate::sums::total_of;

/// Numbers a task.
const TASK: usize = 1 << 14;

/// `map + branch * scale * factor`, with a scale for each channel and a factor for each sample.
#[derive(Debug, Clone, Copy)]
pub struct Residual<'a> {
    /// `[C]`; none is 1 everywhere.
    pub scale: Option<&'a [f32]>,
    /// `[B]`; none is 1 everywhere.
    pub factors: Option<&'a [f32]>,
    /// C.
    pub channels: usize,
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
            output.copy_from_slice(&map[start..][..output.len()]);
            add_task(&branch[start..][..output.len()], rows, output);
        })
    }

    /// The gradient of the branch. That of the map is `gradient` itself.
    ///
    /// # Shapes
    /// - `gradient` and result: `[B, .., C]`
    pub fn branch_gradient(&self, gradient: &[f32]) -> Vec<f32> {
        let task = self.task_length();
        in_tasks(gradient.len(), task, |index, output| {
            let start = index * task;
            let rows = Rows { first: start / self.channels, all: gradient.len() / self.channels, residual: self };
            add_task(&gradient[start..][..output.len()], rows, output);
        })
    }

    /// The gradient of the scale: sums over rows of `gradient * branch * factor`. Rows are summed in tasks of a fixed size and in their order.
    ///
    /// # Shapes
    /// - `branch`, `gradient`: `[B, .., C]`
    /// - result: `[C]`
    pub fn scale_gradient(&self, branch: &[f32], gradient: &[f32]) -> Vec<f32> {
        let task = self.task_length();
        let inputs = branch.par_chunks(task).zip(gradient.par_chunks(task)).enumerate();
        let partial: Vec<Vec<f32>> = inputs
            .map(|(index, (branch, gradient_part))| {
                let first = index * task / self.channels;
                let rows = Rows { first, all: gradient.len() / self.channels, residual: self };
                product_task(branch, gradient_part, rows)
            })
            .collect();
        total_of(&partial, self.channels)
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

/// `output += input * scale * factor`
#[multiversion(targets = "simd")]
fn add_task(input: &[f32], rows: Rows<'_>, output: &mut [f32]) {
    let channels = rows.residual.channels;
    for (row, (output, input)) in output.chunks_exact_mut(channels).zip(input.chunks_exact(channels)).enumerate() {
        let factor = rows.factor(row);
        match rows.residual.scale {
            Some(scale) => {
                for ((output, input), scale) in output.iter_mut().zip(input).zip(scale) {
                    *output = (input * scale).mul_add(factor, *output);
                }
            }
            None => output.iter_mut().zip(input).for_each(|(output, input)| *output = input.mul_add(factor, *output)),
        }
    }
}

#[multiversion(targets = "simd")]
fn product_task(branch: &[f32], gradient: &[f32], rows: Rows<'_>) -> Vec<f32> {
    let channels = rows.residual.channels;
    let mut sums = vec![0.0f32; channels];
    for (row, (branch, gradient)) in branch.chunks_exact(channels).zip(gradient.chunks_exact(channels)).enumerate() {
        let factor = rows.factor(row);
        for ((sum, branch), gradient) in sums.iter_mut().zip(branch).zip(gradient) {
            *sum = (branch * gradient).mul_add(factor, *sum);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    #[test]
    fn the_sum_and_its_gradients_follow_the_definition() {
        for [batch, positions, channels] in [[1, 1, 1], [3, 7, 5], [4, 300, 33], [2, 1, 40_000]] {
            let count = batch * positions * channels;
            let [map, branch, gradient] = [1, 2, 3].map(|seed| numbers(count, seed));
            let (scale, factors) = (numbers(channels, 4), numbers(batch, 5));
            for (scale, factors) in
                [(Some(&scale), Some(&factors)), (None, Some(&factors)), (Some(&scale), None), (None, None)]
            {
                let of = Residual { scale: scale.map(Vec::as_slice), factors: factors.map(Vec::as_slice), channels };
                let factor = |at: usize| factors.map_or(1.0, |factors| f64::from(factors[at / (positions * channels)]));
                let weight = |at: usize| scale.map_or(1.0, |scale| f64::from(scale[at % channels])) * factor(at);
                let (sum, of_branch) = (of.forward(&map, &branch), of.branch_gradient(&gradient));
                let mut of_scale = vec![0.0; channels];
                for at in 0..count {
                    let [map, branch, gradient] = [&map, &branch, &gradient].map(|values| f64::from(values[at]));
                    assert!((f64::from(sum[at]) - (map + branch * weight(at))).abs() < 1e-6);
                    assert!((f64::from(of_branch[at]) - gradient * weight(at)).abs() < 1e-6);
                    of_scale[at % channels] += gradient * branch * factor(at);
                }
                for (found, expected) in of.scale_gradient(&branch, &gradient).iter().zip(of_scale) {
                    // A thousand products below one in f32.
                    assert!((f64::from(*found) - expected).abs() < 3e-5, "{found} is not {expected}");
                }
            }
        }
    }
}
