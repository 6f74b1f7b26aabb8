use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::{Initializer, layer_norm};

/// Layer normalisation over the last axis, with PyTorch's parameter names.
///
/// Ba, Kiros and Hinton, "Layer Normalization", 2016. On a feature map the last axis is the channel: callers permute to channels-last first.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale, `[C]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[C]`.
    pub bias: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    /// A layer over `channels` with scale 1 and shift 0.
    pub fn init(channels: usize, epsilon: f64, init: &mut Initializer) -> Self {
        Self { weight: init.constant([channels], 1.0), bias: init.constant([channels], 0.0), epsilon }
    }

    /// Normalises each position.
    ///
    /// # Shapes
    /// - `input` and output: `[.., C]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        layer_norm(input, self.weight.val(), self.bias.val(), self.epsilon)
    }
}
