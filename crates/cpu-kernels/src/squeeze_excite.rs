//! Squeeze and excitation (Hu et al., 2018) with SiLU between its two layers and a sigmoid behind, over channels-last maps.
//!
//! Nothing is kept for the gradient but the map: what the small layers make of it is made again.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::exponential::{sigmoid, silu_slope};
use crate::output::in_tasks;
use crate::sums::total_of;

/// Positions that are summed before their sum is added to the others': long sums stay accurate.
const POSITIONS: usize = 128;

/// The weights of a layer of `reduced` numbers between.
#[derive(Debug, Clone, Copy)]
pub struct SqueezeExcite<'a> {
    /// `[R, C]`
    pub reduce: &'a [f32],
    /// `[R]`
    pub reduce_bias: &'a [f32],
    /// `[C, R]`
    pub expand: &'a [f32],
    /// `[C]`
    pub expand_bias: &'a [f32],
}

/// What [`SqueezeExcite::gradient`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct SqueezeExciteGradient {
    /// `[B, P, C]`
    pub map: Vec<f32>,
    /// `[R, C]`
    pub reduce: Vec<f32>,
    /// `[R]`
    pub reduce_bias: Vec<f32>,
    /// `[C, R]`
    pub expand: Vec<f32>,
    /// `[C]`
    pub expand_bias: Vec<f32>,
}

/// What one sample's layers hold.
struct Sample {
    /// `[C]`
    means: Vec<f32>,
    /// Before SiLU, `[R]`.
    reduced: Vec<f32>,
    /// `[C]`
    gates: Vec<f32>,
}

/// Gradients of what one sample's layers hold.
struct SampleGradient {
    sample: Sample,
    /// Before the sigmoid, `[C]`.
    expanded: Vec<f32>,
    /// Before SiLU, `[R]`.
    reduced: Vec<f32>,
}

impl SqueezeExcite<'_> {
    /// The map with its channels weighed; one task a sample.
    ///
    /// # Shapes
    /// - `map` and result: `[B, P, C]`, `positions` is P
    pub fn forward(&self, map: &[f32], positions: usize) -> Vec<f32> {
        let task = positions * self.channels();
        in_tasks(map.len(), task, |index, output| {
            let map = &map[index * task..][..task];
            let sample = self.look(map);
            weigh(map, &sample.gates, None, output);
        })
    }

    /// The gradients of [`forward`](Self::forward). Samples are added in their order.
    ///
    /// # Shapes
    /// - `map`, `gradient`: `[B, P, C]`
    pub fn gradient(&self, map: &[f32], gradient: &[f32], positions: usize) -> SqueezeExciteGradient {
        let task = positions * self.channels();
        let samples: Vec<SampleGradient> = map
            .par_chunks(task)
            .zip(gradient.par_chunks(task))
            .map(|(map, gradient)| self.through_layers(map, gradient))
            .collect();
        let share = 1.0 / positions as f32;
        let of_map = in_tasks(map.len(), task, |index, output| {
            let sample = &samples[index];
            let of_means =
                turned_product(self.reduce, &sample.reduced).into_iter().map(|slope| slope * share).collect();
            weigh(&gradient[index * task..][..task], &sample.sample.gates, Some(of_means), output);
        });
        let sum = |vector: fn(&SampleGradient) -> &Vec<f32>| {
            let all: Vec<Vec<f32>> = samples.iter().map(|sample| vector(sample).clone()).collect();
            total_of(&all, all.first().map_or(0, Vec::len))
        };
        SqueezeExciteGradient {
            map: of_map,
            reduce: outer_sum(&samples, |sample| (&sample.reduced, sample.sample.means.clone())),
            reduce_bias: sum(|sample| &sample.reduced),
            expand: outer_sum(&samples, |sample| (&sample.expanded, silu(&sample.sample.reduced))),
            expand_bias: sum(|sample| &sample.expanded),
        }
    }

    fn channels(&self) -> usize {
        self.expand_bias.len()
    }

    fn look(&self, map: &[f32]) -> Sample {
        let positions = map.len() / self.channels();
        let mut means = sum_of_products(map, None, self.channels());
        means.iter_mut().for_each(|mean| *mean /= positions as f32);
        let reduced = product(self.reduce, &means, self.reduce_bias);
        let mut gates = product(self.expand, &silu(&reduced), self.expand_bias);
        gates.iter_mut().for_each(|gate| *gate = sigmoid(*gate));
        Sample { means, reduced, gates }
    }

    fn through_layers(&self, map: &[f32], gradient: &[f32]) -> SampleGradient {
        let sample = self.look(map);
        let mut expanded = sum_of_products(map, Some(gradient), self.channels());
        expanded.iter_mut().zip(&sample.gates).for_each(|(slope, gate)| *slope *= gate * (1.0 - gate));
        let mut reduced = turned_product(self.expand, &expanded);
        reduced.iter_mut().zip(&sample.reduced).for_each(|(slope, reduced)| *slope *= silu_slope(*reduced));
        SampleGradient { sample, expanded, reduced }
    }
}

/// The sum over positions of each channel, of the map or of its product with another.
#[multiversion(targets = "simd")]
fn sum_of_products(map: &[f32], other: Option<&[f32]>, channels: usize) -> Vec<f32> {
    let mut total = vec![0.0f32; channels];
    let mut sums = vec![0.0f32; channels];
    let part = POSITIONS * channels;
    for (index, map) in map.chunks(part).enumerate() {
        sums.fill(0.0);
        match other.map(|other| &other[index * part..][..map.len()]) {
            None => {
                for row in map.chunks_exact(channels) {
                    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
            }
            Some(other) => {
                for (row, other) in map.chunks_exact(channels).zip(other.chunks_exact(channels)) {
                    for ((sum, value), other) in sums.iter_mut().zip(row).zip(other) {
                        *sum = value.mul_add(*other, *sum);
                    }
                }
            }
        }
        total.iter_mut().zip(&sums).for_each(|(total, sum)| *total += sum);
    }
    total
}

/// `input * gates`, and `shift` more.
#[multiversion(targets = "simd")]
fn weigh(input: &[f32], gates: &[f32], shift: Option<Vec<f32>>, output: &mut [f32]) {
    let channels = gates.len();
    let shift = shift.unwrap_or_else(|| vec![0.0; channels]);
    for (output, input) in output.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
        for ((output, input), (gate, shift)) in output.iter_mut().zip(input).zip(gates.iter().zip(&shift)) {
            *output = input.mul_add(*gate, *shift);
        }
    }
}

/// `matrix · vector + bias`
#[multiversion(targets = "simd")]
fn product(matrix: &[f32], vector: &[f32], bias: &[f32]) -> Vec<f32> {
    /// Enough for additions not to wait for each other.
    const LANES: usize = 16;
    let dot = |row: &[f32]| -> f32 {
        let mut lanes = [0.0f32; LANES];
        let ((row, row_rest), (vector, vector_rest)) = (row.as_chunks::<LANES>(), vector.as_chunks::<LANES>());
        for (row, vector) in row.iter().zip(vector) {
            for lane in 0..LANES {
                lanes[lane] = row[lane].mul_add(vector[lane], lanes[lane]);
            }
        }
        let rest: f32 = row_rest.iter().zip(vector_rest).map(|(row, vector)| row * vector).sum();
        lanes.iter().sum::<f32>() + rest
    };
    matrix.chunks_exact(vector.len()).zip(bias).map(|(row, bias)| dot(row) + bias).collect()
}

/// `matrixᵀ · vector`
#[multiversion(targets = "simd")]
fn turned_product(matrix: &[f32], vector: &[f32]) -> Vec<f32> {
    let columns = matrix.len() / vector.len();
    let mut sums = vec![0.0f32; columns];
    for (row, factor) in matrix.chunks_exact(columns).zip(vector) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum = value.mul_add(*factor, *sum));
    }
    sums
}

/// The sum over samples of the products of each number of one vector with each of another, row by row.
fn outer_sum<'a>(
    samples: &'a [SampleGradient],
    vectors: impl Fn(&'a SampleGradient) -> (&'a Vec<f32>, Vec<f32>),
) -> Vec<f32> {
    let mut total = Vec::new();
    for (rows, columns) in samples.iter().map(vectors) {
        total.resize(rows.len() * columns.len(), 0.0);
        add_outer(rows, &columns, &mut total);
    }
    total
}

#[multiversion(targets = "simd")]
fn add_outer(rows: &[f32], columns: &[f32], total: &mut [f32]) {
    for (total, row) in total.chunks_exact_mut(columns.len()).zip(rows) {
        total.iter_mut().zip(columns).for_each(|(total, column)| *total = row.mul_add(*column, *total));
    }
}

fn silu(numbers: &[f32]) -> Vec<f32> {
    numbers.iter().map(|number| number * sigmoid(*number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    /// The layer in f64.
    fn reference(values: &[Vec<f32>; 5], [batch, positions, channels, reduced]: [usize; 4]) -> Vec<f64> {
        let [map, reduce, reduce_bias, expand, expand_bias] =
            values.each_ref().map(|values| move |at: usize| f64::from(values[at]));
        let mut output = Vec::with_capacity(batch * positions * channels);
        for sample in 0..batch {
            let at = |position: usize, channel: usize| map((sample * positions + position) * channels + channel);
            let means: Vec<f64> = (0..channels)
                .map(|channel| (0..positions).map(|position| at(position, channel)).sum::<f64>() / positions as f64)
                .collect();
            let between: Vec<f64> = (0..reduced)
                .map(|row| {
                    let z =
                        reduce_bias(row) + (0..channels).map(|c| reduce(row * channels + c) * means[c]).sum::<f64>();
                    z / (1.0 + (-z).exp())
                })
                .collect();
            let gate = |channel: usize| {
                let z = expand_bias(channel)
                    + (0..reduced).map(|row| expand(channel * reduced + row) * between[row]).sum::<f64>();
                1.0 / (1.0 + (-z).exp())
            };
            let gates: Vec<f64> = (0..channels).map(gate).collect();
            output.extend(
                (0..positions)
                    .flat_map(|position| (0..channels).map(move |c| (position, c)))
                    .map(|(position, c)| at(position, c) * gates[c]),
            );
        }
        output
    }

    fn values([batch, positions, channels, reduced]: [usize; 4]) -> [Vec<f32>; 5] {
        let map = numbers(batch * positions * channels, 1).iter().map(|x| x + 0.5).collect();
        [map, numbers(reduced * channels, 2), numbers(reduced, 3), numbers(channels * reduced, 4), numbers(channels, 5)]
    }

    fn layer(values: &[Vec<f32>; 5]) -> SqueezeExcite<'_> {
        SqueezeExcite { reduce: &values[1], reduce_bias: &values[2], expand: &values[3], expand_bias: &values[4] }
    }

    #[test]
    fn maps_follow_the_definition() {
        for shape in [[1, 1, 1, 1], [3, 300, 17, 4], [2, 49, 40, 33]] {
            let values = values(shape);
            let found = layer(&values).forward(&values[0], shape[1]);
            for (found, expected) in found.iter().zip(reference(&values, shape)) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} is not {expected}");
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences_in_f64() {
        let shape = [2, 3, 5, 2];
        let values = values(shape);
        let upstream = numbers(values[0].len(), 6);
        let found = layer(&values).gradient(&values[0], &upstream, shape[1]);
        let loss = |values: &[Vec<f32>; 5]| -> f64 {
            reference(values, shape).iter().zip(&upstream).map(|(output, slope)| output * f64::from(*slope)).sum()
        };
        let found = [found.map, found.reduce, found.reduce_bias, found.expand, found.expand_bias];
        for (which, found) in found.iter().enumerate() {
            assert_eq!(found.len(), values[which].len());
            for (at, found) in found.iter().enumerate() {
                let step = 1e-3f32;
                let moved = |by: f32| {
                    let mut values = values.clone();
                    values[which][at] += by;
                    loss(&values)
                };
                // What f32 makes of the step itself is divided by.
                let (up, down) = (values[which][at] + step, values[which][at] - step);
                let slope = (moved(step) - moved(-step)) / (f64::from(up) - f64::from(down));
                // The step's own error is of order step² times the third derivative.
                assert!((slope - f64::from(*found)).abs() < 1e-5, "slope {slope}, found {found}");
            }
        }
    }
}
