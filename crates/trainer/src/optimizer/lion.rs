use burn::tensor::Tensor;

use super::{Slots, Turn, towards};

const MOMENTUM: &str = "momentum";

/// Lion's constants; the defaults are timm's.
///
/// Chen and others, "Symbolic Discovery of Optimization Algorithms", 2023;
/// [timm's](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/optim/lion.py). It wants a learning rate a third to a tenth
/// of AdamW's (timm's default is 1e-4), and more weight decay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LionOptions {
    /// Share of the momentum in the direction of a step.
    pub beta_1: f32,
    /// Decay of the momentum.
    pub beta_2: f32,
    /// Decoupled decay, times the learning rate. Vectors are not decayed.
    pub weight_decay: f32,
}

impl Default for LionOptions {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.99, weight_decay: 0.0 }
    }
}

impl LionOptions {
    pub(super) fn slots(elements: usize) -> Vec<(&'static str, usize)> {
        vec![(MOMENTUM, elements)]
    }

    pub(super) fn turn(&self, turn: Turn<'_>, state: &mut Slots) -> Tensor<1> {
        let before = state.remove(MOMENTUM);
        let [direction, momentum] = [self.beta_1, self.beta_2].map(|beta| match &before {
            Some(momentum) => towards(momentum.clone(), turn.gradient.clone(), 1.0 - f64::from(beta)),
            None => turn.gradient.clone().mul_scalar(1.0 - f64::from(beta)),
        });
        state.insert(MOMENTUM, momentum);
        turn.decayed_weight_less(direction.sign(), 1.0)
    }
}
