//! One step of AdamW in one pass over weights, gradient and moments.
//!
//! Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.

use multiversion::multiversion;

use crate::parameters::{Moved, move_all};

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

/// Moves all parameters by their gradients times `factor`, with two moments each; averages keep `decay` of themselves. Each number is read and written
/// once.
///
/// # Panics
/// When a parameter's slices differ in length.
pub fn adamw_of_all(parameters: Vec<Moved<'_, AdamWStep, 2>>, factor: f64, decay: f64) {
    let factor = factor as f32;
    move_all(parameters, decay, AdamWStep::constants, |piece| {
        let Moved { weights, gradient, kept: [first, second], step, .. } = piece;
        task(step, factor, weights, gradient, first, second);
    });
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
            let kept = [&mut first[..], &mut second[..]];
            let moved = Moved { weights: &mut weights, gradient: &gradient, kept, average: None, step: rule };
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
