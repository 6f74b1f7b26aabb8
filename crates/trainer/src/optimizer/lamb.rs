use burn::tensor::Tensor;

use super::{Slots, Turn, towards};
use crate::gradients::sum_of_squares;

const MOMENT_1: &str = "moment_1";
const MOMENT_2: &str = "moment_2";

/// LAMB's constants; the defaults are timm's.
///
/// You and others, "Large Batch Optimization for Deep Learning", 2020;
/// [timm's](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/optim/lamb.py). As there, the layer's trust ratio is taken of
/// decayed weights alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LambOptions {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Added to the update, times the weight. Vectors are not decayed.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm, by LAMB itself.
    pub max_gradient_norm: f64,
}

impl Default for LambOptions {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-6, weight_decay: 0.01, max_gradient_norm: 1.0 }
    }
}

impl LambOptions {
    pub(super) fn slots(elements: usize) -> Vec<(&'static str, usize)> {
        vec![(MOMENT_1, elements), (MOMENT_2, elements)]
    }

    pub(super) fn turn(&self, turn: Turn<'_>, state: &mut Slots) -> Tensor<1> {
        let Turn { weight, gradient, learning_rate, weight_decay, step, gradient_norm, .. } = turn;
        let gradient = gradient.div_scalar((gradient_norm / self.max_gradient_norm).max(1.0));
        let [beta_1, beta_2] = [self.beta_1, self.beta_2].map(f64::from);
        let mut moment = |slot, value: Tensor<1>, beta| {
            let moment = match state.remove(slot) {
                Some(moment) => towards(moment, value, 1.0 - beta),
                None => value.mul_scalar(1.0 - beta),
            };
            state.insert(slot, moment.clone());
            moment
        };
        let first = moment(MOMENT_1, gradient.clone(), beta_1);
        let second = moment(MOMENT_2, gradient.square(), beta_2);
        let [unbiased_1, unbiased_2] = [beta_1, beta_2].map(|beta| 1.0 - beta.powf(step as f64));
        let root = second.sqrt().div_scalar(unbiased_2.sqrt()).add_scalar(self.epsilon);
        let update = first.div_scalar(unbiased_1) / root;
        let update = match weight_decay {
            0.0 => update,
            decay => with_trust(update + weight.clone().mul_scalar(decay), &weight),
        };
        weight - update.mul_scalar(learning_rate)
    }
}

/// The update, as long as the weight is: times the ratio of their norms, where neither is zero. Reads nothing from the device.
fn with_trust(update: Tensor<1>, weight: &Tensor<1>) -> Tensor<1> {
    let weight_norm = sum_of_squares(weight).sqrt(); // [1]
    let update_norm = sum_of_squares(&update).sqrt(); // [1]
    let ratio = weight_norm.clone() / update_norm.clone();
    let ratio = ratio.mask_fill(weight_norm.equal_scalar(0.0), 1.0).mask_fill(update_norm.equal_scalar(0.0), 1.0);
    update * ratio
}
