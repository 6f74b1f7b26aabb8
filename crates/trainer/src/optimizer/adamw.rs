use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::Tensor;
use vision_nn::{AdamWStep, adamw, has_adamw};

use super::{Slots, Turn};

const MOMENT_1: &str = "moment_1";
const MOMENT_2: &str = "moment_2";

/// AdamW's constants; the defaults are PyTorch's.
///
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019. The rule itself is Burn's, applied to flat tensors, for it is
/// elementwise; where lists of tensors are taken, it is one pass over all parameters, and one over each on the CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled decay, times the learning rate. Norms, biases and other vectors are not decayed.
    pub weight_decay: f32,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

impl AdamWOptions {
    pub(super) fn slots(elements: usize) -> Vec<(&'static str, usize)> {
        vec![(MOMENT_1, elements), (MOMENT_2, elements)]
    }

    pub(super) fn turn(&self, turn: Turn<'_>, state: &mut Slots) -> Tensor<1> {
        let moments = state.remove(MOMENT_1).zip(state.remove(MOMENT_2));
        if has_adamw(&turn.weight) {
            return self.in_one_pass(turn, moments, state);
        }
        let time = usize::try_from(turn.step - 1).unwrap_or(usize::MAX);
        let before = moments.map(|(first, second)| AdamWState::new(AdaptiveMomentumState::new(time, first, second)));
        let rule = self.rule(turn.weight_decay);
        let (weight, after) = rule.step(turn.learning_rate, turn.weight, turn.gradient, before);
        if let Some(AdamWState { momentum }) = after {
            state.extend([(MOMENT_1, momentum.moment_1), (MOMENT_2, momentum.moment_2)]);
        }
        weight
    }

    /// What Burn's rule does in a dozen passes over memory, where there is one for it.
    fn in_one_pass(&self, turn: Turn<'_>, moments: Option<(Tensor<1>, Tensor<1>)>, state: &mut Slots) -> Tensor<1> {
        let step = self.constants(turn.learning_rate, turn.weight_decay, turn.step);
        let (weight, [first, second]) = adamw(turn.weight, turn.gradient, moments.map(<[_; 2]>::from), step);
        state.extend([(MOMENT_1, first), (MOMENT_2, second)]);
        weight
    }

    /// Those of step number `step`.
    pub(super) fn constants(&self, learning_rate: f64, weight_decay: f32, step: u64) -> AdamWStep {
        AdamWStep {
            learning_rate,
            beta_1: f64::from(self.beta_1),
            beta_2: f64::from(self.beta_2),
            epsilon: f64::from(self.epsilon),
            weight_decay: f64::from(weight_decay),
            step,
        }
    }

    fn rule(&self, weight_decay: f32) -> AdamW {
        let config = AdamWConfig::new().with_beta_1(self.beta_1).with_beta_2(self.beta_2);
        config.with_epsilon(self.epsilon).with_weight_decay(weight_decay).build()
    }
}
