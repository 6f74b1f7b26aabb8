use burn::tensor::Tensor;
use vision_nn::SgdStep;

use super::{Slots, Turn};

const MOMENTUM: &str = "momentum";

/// Stochastic gradient descent with Nesterov's momentum: `torch.optim.SGD(momentum=0.9, nesterov=True)`, whose other defaults these are.
///
/// Sutskever and others, "On the importance of initialization and momentum in deep learning", 2013. Where lists of tensors are taken, a step is one pass
/// over all parameters, which on the CPU rounds as the operations here do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdOptions {
    /// Share of the velocity that a step keeps; 0 keeps no state.
    pub momentum: f32,
    /// Whether the gradient is looked at where the velocity leads to.
    pub nesterov: bool,
    /// Added to the gradient, times the weight. Vectors are not decayed.
    pub weight_decay: f32,
}

impl Default for SgdOptions {
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: true, weight_decay: 0.0 }
    }
}

impl SgdOptions {
    pub(super) fn slots(&self, elements: usize) -> Vec<(&'static str, usize)> {
        if self.momentum == 0.0 { Vec::new() } else { vec![(MOMENTUM, elements)] }
    }

    pub(super) fn turn(&self, turn: Turn<'_>, state: &mut Slots) -> Tensor<1> {
        let Turn { weight, gradient, .. } = turn;
        let gradient = match turn.weight_decay {
            0.0 => gradient,
            decay => gradient + weight.clone().mul_scalar(decay),
        };
        let direction = if self.momentum == 0.0 { gradient } else { self.with_momentum(gradient, state) };
        weight - direction.mul_scalar(turn.learning_rate)
    }

    /// Those of a parameter with that rate and decay.
    pub(super) fn constants(&self, learning_rate: f64, weight_decay: f32) -> SgdStep {
        SgdStep {
            learning_rate,
            momentum: f64::from(self.momentum),
            nesterov: self.nesterov,
            weight_decay: f64::from(weight_decay),
        }
    }

    fn with_momentum(&self, gradient: Tensor<1>, state: &mut Slots) -> Tensor<1> {
        let velocity = match state.remove(MOMENTUM) {
            Some(velocity) => velocity.mul_scalar(self.momentum) + gradient.clone(),
            // PyTorch's first velocity is the gradient, undamped.
            None => gradient.clone(),
        };
        state.insert(MOMENTUM, velocity.clone());
        if self.nesterov { gradient + velocity.mul_scalar(self.momentum) } else { velocity }
    }
}
