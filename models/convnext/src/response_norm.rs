use burn::module::{Module, Param};
use burn::tensor::Tensor;
use vision_nn::{Initializer, response_norm};

/// timm's default.
const EPSILON: f64 = 1e-6;

/// Global response normalisation: channels of a sample compete by their length over the whole map.
///
/// Woo et al., "ConvNeXt V2", 2023, <https://arxiv.org/abs/2301.00808>; parameter names as in timm's
/// [`grn.py`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/layers/grn.py). The paper's `gamma` is the weight.
#[derive(Module, Debug)]
pub struct GlobalResponseNorm {
    /// How much a channel's response scales it, `[C]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[C]`.
    pub bias: Param<Tensor<1>>,
}

impl GlobalResponseNorm {
    /// A layer over `channels` that changes nothing yet: weight and bias are zero, and the input is added.
    pub fn init(channels: usize, init: &mut Initializer) -> Self {
        Self { weight: init.constant([channels], 0.0), bias: init.constant([channels], 0.0) }
    }

    /// Scales each channel by its response.
    ///
    /// # Shapes
    /// - `cells` and output: `[B, H W, C]`
    pub fn forward(&self, cells: Tensor<3>) -> Tensor<3> {
        response_norm(cells, self.weight.val(), self.bias.val(), EPSILON)
    }
}
