//! Global response normalisation of channels-last maps (Woo et al., "ConvNeXt V2", 2023), keeping nothing for the backward pass but its input.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::output::in_tasks;
use crate::sums::total_of;

/// Positions that are summed before their sum is added to the others': long sums stay accurate.
const POSITIONS: usize = 128;

/// The scale `1 + weight n` of each channel of each sample, and a shift; `n` is the channel's length over all positions, divided by the mean of the sample's
/// lengths and epsilon. Every slice is `[C]`.
#[derive(Debug, Clone, Copy)]
pub struct ResponseNorm<'a> {
    /// What the response counts for.
    pub weight: &'a [f32],
    /// Shift.
    pub bias: &'a [f32],
    /// Added to the mean length.
    pub epsilon: f32,
}

/// What [`ResponseNorm::gradient`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseNormGradient {
    /// `[B, P, C]`
    pub map: Vec<f32>,
    /// `[C]`
    pub weight: Vec<f32>,
    /// `[C]`
    pub bias: Vec<f32>,
}

/// What is known of a sample once its lengths are.
struct Sample {
    /// `[C]`
    lengths: Vec<f32>,
    /// One over the mean length and epsilon.
    inverse_mean: f32,
    /// `[C]`
    responses: Vec<f32>,
}

/// What a sample's gradient is made by.
struct SampleGradient {
    /// `1 + weight n`, `[C]`.
    scale: Vec<f32>,
    /// What the map is multiplied by, `[C]`.
    slope: Vec<f32>,
    /// `[C]`
    weight: Vec<f32>,
    /// `[C]`
    bias: Vec<f32>,
}

impl ResponseNorm<'_> {
    /// Normalises a map; one task a sample.
    ///
    /// # Shapes
    /// - `map` and result: `[B, P, C]`, `positions` is P
    pub fn forward(&self, map: &[f32], positions: usize) -> Vec<f32> {
        let task = positions * self.weight.len();
        in_tasks(map.len(), task, |index, output| {
            let map = &map[index * task..][..output.len()];
            let scale = self.scale(&self.look(map));
            scale_and_shift(map, &scale, self.bias, output);
        })
    }

    /// The gradients of [`forward`](Self::forward). Samples are added in their order.
    ///
    /// # Shapes
    /// - `map`, `gradient`: `[B, P, C]`
    pub fn gradient(&self, map: &[f32], gradient: &[f32], positions: usize) -> ResponseNormGradient {
        let channels = self.weight.len();
        let task = (positions * channels).max(1);
        let samples: Vec<SampleGradient> = map
            .par_chunks(task)
            .zip(gradient.par_chunks(task))
            .map(|(map, gradient)| self.through_lengths(map, gradient))
            .collect();
        let of_map = in_tasks(map.len(), task, |index, output| {
            let part = index * task..index * task + output.len();
            blend(&gradient[part.clone()], &samples[index].scale, &map[part], &samples[index].slope, output);
        });
        let sum = |vector: fn(&SampleGradient) -> &Vec<f32>| {
            total_of(&samples.iter().map(|sample| vector(sample).clone()).collect::<Vec<_>>(), channels)
        };
        ResponseNormGradient { map: of_map, weight: sum(|sample| &sample.weight), bias: sum(|sample| &sample.bias) }
    }

    fn look(&self, map: &[f32]) -> Sample {
        let channels = self.weight.len();
        let [squares, ..] = sums(map, map, channels);
        let lengths: Vec<f32> = squares.iter().map(|sum| sum.sqrt()).collect();
        let mean = lengths.iter().map(|length| f64::from(*length)).sum::<f64>() / channels as f64;
        let inverse_mean = 1.0 / (mean as f32 + self.epsilon);
        let responses = lengths.iter().map(|length| length * inverse_mean).collect();
        Sample { lengths, inverse_mean, responses }
    }

    fn scale(&self, sample: &Sample) -> Vec<f32> {
        sample.responses.iter().zip(self.weight).map(|(response, weight)| response.mul_add(*weight, 1.0)).collect()
    }

    /// With lengths `g`, their mean with epsilon `m`, responses `n = g / m` and `s` the sum of gradient times cell over a channel's positions: the response's
    /// gradient is `weight s`, and the length's `weight s / m` less the mean over channels of `weight s n / m`; the length of a cell `x` grows by `x / g`.
    fn through_lengths(&self, map: &[f32], gradient: &[f32]) -> SampleGradient {
        let channels = self.weight.len();
        let sample = self.look(map);
        let [_, products, bias] = sums(map, gradient, channels);
        let of_response: Vec<f32> = products.iter().zip(self.weight).map(|(sum, weight)| sum * weight).collect();
        let of_both = of_response.iter().zip(&sample.responses);
        let shared = of_both.map(|(slope, response)| f64::from(slope * response)).sum::<f64>() / channels as f64;
        let of_length = |slope: f32| (slope - shared as f32) * sample.inverse_mean;
        // Where a length is zero so is every cell of it: any finite slope will do.
        let slope = of_response
            .iter()
            .zip(&sample.lengths)
            .map(|(slope, length)| of_length(*slope) / length.max(f32::MIN_POSITIVE.sqrt()))
            .collect();
        let weight = products.iter().zip(&sample.responses).map(|(sum, response)| sum * response).collect();
        SampleGradient { scale: self.scale(&sample), slope, weight, bias }
    }
}

/// The sums over positions of each channel: of squares, of products with `other`, and of `other`.
#[multiversion(targets = "simd")]
fn sums(map: &[f32], other: &[f32], channels: usize) -> [Vec<f32>; 3] {
    let mut total = [0, 1, 2].map(|_| vec![0.0f32; channels]);
    let mut part = total.clone();
    let size = POSITIONS * channels;
    for (map, other) in map.chunks(size.max(1)).zip(other.chunks(size.max(1))) {
        part.iter_mut().for_each(|sums| sums.fill(0.0));
        let [squares, products, others] = &mut part;
        for (row, other) in map.chunks_exact(channels).zip(other.chunks_exact(channels)) {
            for c in 0..channels {
                squares[c] = row[c].mul_add(row[c], squares[c]);
                products[c] = row[c].mul_add(other[c], products[c]);
                others[c] += other[c];
            }
        }
        for (total, part) in total.iter_mut().zip(&part) {
            total.iter_mut().zip(part).for_each(|(total, sum)| *total += sum);
        }
    }
    total
}

#[multiversion(targets = "simd")]
fn scale_and_shift(map: &[f32], scale: &[f32], bias: &[f32], output: &mut [f32]) {
    let channels = scale.len();
    for (output, row) in output.chunks_exact_mut(channels).zip(map.chunks_exact(channels)) {
        for c in 0..channels {
            output[c] = row[c].mul_add(scale[c], bias[c]);
        }
    }
}

/// `output = first * by_first + second * by_second`
#[multiversion(targets = "simd")]
fn blend(first: &[f32], by_first: &[f32], second: &[f32], by_second: &[f32], output: &mut [f32]) {
    let channels = by_first.len();
    let maps = first.chunks_exact(channels).zip(second.chunks_exact(channels));
    for (output, (first, second)) in output.chunks_exact_mut(channels).zip(maps) {
        for c in 0..channels {
            output[c] = first[c].mul_add(by_first[c], second[c] * by_second[c]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    const EPSILON: f64 = 1e-6;

    /// The output in f64.
    fn reference([map, weight, bias]: &[Vec<f64>; 3], positions: usize) -> Vec<f64> {
        let channels = weight.len();
        let mut output = Vec::with_capacity(map.len());
        for sample in map.chunks_exact(positions * channels) {
            let length = |c: usize| sample.iter().skip(c).step_by(channels).map(|x| x * x).sum::<f64>().sqrt();
            let lengths: Vec<f64> = (0..channels).map(length).collect();
            let mean = lengths.iter().sum::<f64>() / channels as f64 + EPSILON;
            output.extend(sample.iter().enumerate().map(|(at, x)| {
                let c = at % channels;
                x * (1.0 + weight[c] * lengths[c] / mean) + bias[c]
            }));
        }
        output
    }

    #[test]
    fn maps_and_gradients_follow_the_definition() {
        for [batch, positions, channels] in [[1, 1, 1], [2, 5, 3], [2, 300, 4]] {
            let count = batch * positions * channels;
            let inputs = [numbers(count, 1), numbers(channels, 2), numbers(channels, 3)];
            let upstream = numbers(count, 4);
            let norm = ResponseNorm { weight: &inputs[1], bias: &inputs[2], epsilon: EPSILON as f32 };
            let output = norm.forward(&inputs[0], positions);
            let in_f64 = inputs.each_ref().map(|numbers| numbers.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>());
            for (found, expected) in output.iter().zip(reference(&in_f64, positions)) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} is not {expected}");
            }
            let found = norm.gradient(&inputs[0], &upstream, positions);
            for (which, found) in [found.map, found.weight, found.bias].iter().enumerate() {
                for (at, found) in found.iter().enumerate().step_by(7) {
                    let moved = |by: f64| -> f64 {
                        let mut inputs = in_f64.clone();
                        inputs[which][at] += by;
                        let outputs = reference(&inputs, positions);
                        outputs.iter().zip(&upstream).map(|(output, slope)| output * f64::from(*slope)).sum()
                    };
                    let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    // Rounding of the differences of sums of some dozen, over the step.
                    assert!((slope - f64::from(*found)).abs() < 2e-5, "{which} {at}: {slope} {found}");
                }
            }
        }
    }
}
