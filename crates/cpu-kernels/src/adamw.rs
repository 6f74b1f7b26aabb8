//! One step of AdamW in one pass over weights, gradient and moments.
//!
//! Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.

use multiversion::multiversion;
use rayon::prelude::*;

/// Numbers a task.
const TASK: usize = 1 << 14;

/// The constants of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Length of the step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay, times the learning rate.
    pub weight_decay: f64,
    /// Steps so far, this one included: both moments begin at zero, and are divided by what that takes from them.
    pub step: u64,
}

/// A parameter that takes a step, all slices of one length.
#[derive(Debug)]
pub struct Moved<'a> {
    /// What moves.
    pub weights: &'a mut [f32],
    /// By what.
    pub gradient: &'a [f32],
    /// The two moments.
    pub moments: [&'a mut [f32]; 2],
    /// The moving average of the weights, where there is one.
    pub average: Option<&'a mut [f32]>,
    /// This parameter's constants.
    pub step: AdamWStep,
}

/// Moves all parameters by their gradients times `factor`; averages keep `decay` of themselves. Each number is read and written once.
///
/// # Panics
/// When a parameter's slices differ in length.
pub fn adamw_of_all(parameters: Vec<Moved<'_>>, factor: f64, decay: f64) {
    let factor = factor as f32;
    let shares = [decay as f32, (1.0 - decay) as f32];
    parameters.into_par_iter().flat_map(pieces).for_each(|mut piece| {
        piece.move_weights(factor);
        if let Some(average) = piece.average {
            blend_task(average, piece.weights, shares);
        }
    });
}

/// `own * kept + other * share` in the place of `own`, for each pair of slices.
///
/// # Panics
/// When a pair differs in length.
pub fn blend_all(pairs: Vec<(&mut [f32], &[f32])>, kept: f64, share: f64) {
    let shares = [kept as f32, share as f32];
    pairs.into_par_iter().for_each(|(own, other)| {
        assert_eq!(own.len(), other.len(), "a pair of one length");
        own.par_chunks_mut(TASK).zip(other.par_chunks(TASK)).for_each(|(own, other)| blend_task(own, other, shares));
    });
}

/// Multiplies every number.
pub fn scale_all(slices: Vec<&mut [f32]>, factor: f64) {
    let factor = factor as f32;
    slices.into_par_iter().for_each(|slice| {
        slice.par_chunks_mut(TASK).for_each(|part| part.iter_mut().for_each(|number| *number *= factor));
    });
}

/// A stretch of a parameter that one task moves.
struct Piece<'a> {
    constants: Constants,
    weights: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    average: Option<&'a mut [f32]>,
}

impl Piece<'_> {
    fn move_weights(&mut self, factor: f32) {
        task(&self.constants, factor, self.weights, self.gradient, self.first, self.second);
    }
}

fn pieces(parameter: Moved<'_>) -> impl ParallelIterator<Item = Piece<'_>> {
    let Moved { weights, gradient, moments: [first, second], average, step } = parameter;
    let count = weights.len();
    let others = [gradient.len(), first.len(), second.len()].into_iter().chain(average.as_ref().map(|all| all.len()));
    assert!(others.into_iter().all(|length| length == count), "slices of {count} numbers");
    let constants = step.constants();
    let averages: Vec<Option<&mut [f32]>> = match average {
        Some(average) => average.chunks_mut(TASK).map(Some).collect(),
        None => (0..count.div_ceil(TASK)).map(|_| None).collect(),
    };
    let slices = weights.par_chunks_mut(TASK).zip(gradient.par_chunks(TASK));
    let moments = first.par_chunks_mut(TASK).zip(second.par_chunks_mut(TASK));
    slices.zip(moments).zip(averages).map(move |(((weights, gradient), (first, second)), average)| Piece {
        constants,
        weights,
        gradient,
        first,
        second,
        average,
    })
}

impl AdamWStep {
    fn constants(&self) -> Constants {
        let warmth = |beta: f64| 1.0 - beta.powf(self.step as f64);
        Constants {
            kept: (1.0 - self.learning_rate * self.weight_decay) as f32,
            length: (self.learning_rate / warmth(self.beta_1)) as f32,
            beta: [self.beta_1 as f32, self.beta_2 as f32],
            share: [(1.0 - self.beta_1) as f32, (1.0 - self.beta_2) as f32],
            warmth: (1.0 / warmth(self.beta_2)) as f32,
            epsilon: self.epsilon as f32,
        }
    }
}

#[derive(Clone, Copy)]
struct Constants {
    kept: f32,
    length: f32,
    beta: [f32; 2],
    share: [f32; 2],
    warmth: f32,
    epsilon: f32,
}

#[multiversion(targets = "simd")]
fn task(
    constants: &Constants,
    factor: f32,
    weights: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let &Constants { kept, length, beta, share, warmth, epsilon } = constants;
    let count = weights.len();
    let (gradient, first, second) = (&gradient[..count], &mut first[..count], &mut second[..count]);
    for at in 0..count {
        let slope = gradient[at] * factor;
        first[at] = beta[0].mul_add(first[at], share[0] * slope);
        second[at] = beta[1].mul_add(second[at], share[1] * slope * slope);
        let root = (second[at] * warmth).sqrt() + epsilon;
        weights[at] = kept.mul_add(weights[at], -length * first[at] / root);
    }
}

#[multiversion(targets = "simd")]
fn blend_task(own: &mut [f32], other: &[f32], [kept, share]: [f32; 2]) {
    own.iter_mut().zip(other).for_each(|(own, other)| *own = kept.mul_add(*own, share * other));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    #[test]
    fn steps_follow_the_paper() {
        let count = 40_001;
        let mut weights = numbers(count, 1);
        let mut moments = [vec![0.0; count], vec![0.0; count]];
        let mut expected: Vec<[f64; 3]> = weights.iter().map(|weight| [f64::from(*weight), 0.0, 0.0]).collect();
        for step in 1..=4 {
            let rule =
                AdamWStep { learning_rate: 1e-2, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.05, step };
            let gradient = numbers(count, 10 + step as u32);
            let [first, second] = &mut moments;
            let moments = [&mut first[..], &mut second[..]];
            let moved = Moved { weights: &mut weights, gradient: &gradient, moments, average: None, step: rule };
            adamw_of_all(vec![moved], 1.0, 0.0);
            for ([weight, first, second], slope) in
                expected.iter_mut().zip(gradient.iter().map(|slope| f64::from(*slope)))
            {
                *first = 0.9 * *first + 0.1 * slope;
                *second = 0.999 * *second + 0.001 * slope * slope;
                let corrected =
                    [*first / (1.0 - 0.9f64.powi(step as i32)), *second / (1.0 - 0.999f64.powi(step as i32))];
                *weight = *weight * (1.0 - 1e-2 * 0.05) - 1e-2 * corrected[0] / (corrected[1].sqrt() + 1e-8);
            }
        }
        for (at, [weight, first, second]) in expected.into_iter().enumerate() {
            let found = [weights[at], moments[0][at], moments[1][at]].map(f64::from);
            assert!((found[0] - weight).abs() < 1e-6, "{} is not {weight}", found[0]);
            assert!((found[1] - first).abs() < 1e-6 && (found[2] - second).abs() < 1e-8);
        }
    }
}
