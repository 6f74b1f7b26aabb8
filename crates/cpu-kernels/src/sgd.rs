//! One step of stochastic gradient descent in one pass over weights, gradient and velocity.
//!
//! Sutskever and others, "On the importance of initialization and momentum in deep learning", 2013; of the forms that momentum has, PyTorch's.

use multiversion::multiversion;

use crate::parameters::{Moved, move_all};

/// The constants of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Length of the step.
    pub learning_rate: f64,
    /// Share of the velocity that a step keeps.
    pub momentum: f64,
    /// Whether the gradient is looked at where the velocity leads to.
    pub nesterov: bool,
    /// Added to the gradient, times the weight.
    pub weight_decay: f64,
}

impl SgdStep {
    /// Whether a step leaves something to the next.
    pub fn keeps_velocity(&self) -> bool {
        self.momentum != 0.0
    }

    fn constants(&self) -> Constants {
        Constants {
            learning_rate: self.learning_rate as f32,
            momentum: self.momentum as f32,
            nesterov: self.nesterov,
            weight_decay: self.weight_decay as f32,
        }
    }
}

/// Moves all parameters by their gradients times `factor`, with a velocity each or, without momentum, none; averages keep `decay` of themselves. Each
/// number is read and written once. Every product and every sum is rounded, as if each were done of whole tensors. A velocity begins at zero: its first
/// value is the gradient.
///
/// # Panics
/// When a parameter's slices differ in length.
pub fn sgd_of_all<const KEPT: usize>(parameters: Vec<Moved<'_, SgdStep, KEPT>>, factor: f64, decay: f64) {
    const { assert!(KEPT <= 1, "a velocity or nothing") };
    let factor = factor as f32;
    move_all(parameters, decay, SgdStep::constants, |piece| {
        let Moved { weights, gradient, kept, step, .. } = piece;
        match kept.first_mut() {
            Some(velocities) => task(step, factor, weights, gradient, velocities),
            None => task_without_momentum(step, factor, weights, gradient),
        }
    });
}

#[derive(Clone, Copy)]
struct Constants {
    learning_rate: f32,
    momentum: f32,
    nesterov: bool,
    weight_decay: f32,
}

#[multiversion(targets = "simd")]
fn task(constants: &Constants, factor: f32, weights: &mut [f32], gradient: &[f32], velocities: &mut [f32]) {
    let &Constants { learning_rate, momentum, nesterov, weight_decay } = constants;
    let count = weights.len();
    let (gradient, velocities) = (&gradient[..count], &mut velocities[..count]);
    for at in 0..count {
        let slope = gradient[at] * factor + weights[at] * weight_decay;
        let velocity = velocities[at] * momentum + slope;
        velocities[at] = velocity;
        let direction = if nesterov { slope + velocity * momentum } else { velocity };
        weights[at] -= direction * learning_rate;
    }
}

#[multiversion(targets = "simd")]
fn task_without_momentum(constants: &Constants, factor: f32, weights: &mut [f32], gradient: &[f32]) {
    let &Constants { learning_rate, weight_decay, .. } = constants;
    for (weight, slope) in weights.iter_mut().zip(gradient) {
        let slope = slope * factor + *weight * weight_decay;
        *weight -= slope * learning_rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    /// PyTorch's rule in f64: weight and velocity after a step. The first velocity is the gradient.
    fn moved_exactly([weight, velocity]: [f64; 2], slope: f64, rule: &SgdStep, is_first: bool) -> [f64; 2] {
        let slope = slope + rule.weight_decay * weight;
        let velocity = if is_first { slope } else { rule.momentum * velocity + slope };
        let direction = if rule.nesterov { slope + rule.momentum * velocity } else { velocity };
        [weight - rule.learning_rate * direction, velocity]
    }

    fn assert_follows<const KEPT: usize>(momentum: f64, nesterov: bool) {
        // More than two tasks, and no whole number of vectors.
        let count = 40_001;
        let rule = SgdStep { learning_rate: 1e-2, momentum, nesterov, weight_decay: 0.05 };
        assert_eq!(rule.keeps_velocity(), KEPT == 1);
        let mut weights = numbers(count, 1);
        let mut velocities: [Vec<f32>; KEPT] = std::array::from_fn(|_| vec![0.0; count]);
        let mut expected: Vec<[f64; 2]> = weights.iter().map(|weight| [f64::from(*weight), 0.0]).collect();
        for step in 1..=4 {
            let gradient = numbers(count, 10 + step);
            let kept = velocities.each_mut().map(|velocities| &mut velocities[..]);
            let moved = Moved { weights: &mut weights, gradient: &gradient, kept, average: None, step: rule };
            sgd_of_all(vec![moved], 0.5, 0.0);
            for (exact, slope) in expected.iter_mut().zip(&gradient) {
                *exact = moved_exactly(*exact, 0.5 * f64::from(*slope), &rule, step == 1);
            }
        }
        for (at, [weight, velocity]) in expected.into_iter().enumerate() {
            // Four steps of a handful of roundings, of weights around 1 and velocities up to 2.
            assert!((f64::from(weights[at]) - weight).abs() < 1e-6, "{} is not {weight}", weights[at]);
            for velocities in &velocities {
                assert!((f64::from(velocities[at]) - velocity).abs() < 1e-6, "{} is not {velocity}", velocities[at]);
            }
        }
    }

    #[test]
    fn steps_follow_the_definition() {
        assert_follows::<1>(0.9, true);
        assert_follows::<1>(0.9, false);
        assert_follows::<0>(0.0, true);
    }
}
