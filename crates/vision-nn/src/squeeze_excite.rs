use burn::module::Module;
use burn::tensor::Tensor;

use crate::kernels::squeeze_excite;
use crate::{Initializer, Pointwise};

/// Squeeze and excitation: weighs each channel of a map by what two small layers make of the channels' means.
///
/// Hu et al., "Squeeze-and-Excitation Networks", 2018; with SiLU between and a sigmoid behind, as in EfficientNet (timm's
/// [`SqueezeExcite`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/_efficientnet_blocks.py#L43)).
#[derive(Module, Debug)]
pub struct SqueezeExcite {
    /// To fewer channels.
    pub conv_reduce: Pointwise,
    /// And back.
    pub conv_expand: Pointwise,
}

impl SqueezeExcite {
    /// A layer over `channels` with `reduced` between, initialised as the EfficientNet reference does.
    pub fn init(channels: usize, reduced: usize, init: &mut Initializer) -> Self {
        let mut layer = |from: usize, to: usize| Pointwise {
            weight: init.convolution([to, from, 1, 1], 1),
            bias: init.constant([to], 0.0),
        };
        Self { conv_reduce: layer(channels, reduced), conv_expand: layer(reduced, channels) }
    }

    /// Weighs channels.
    ///
    /// # Shapes
    /// - `map` and output: `[B, H, W, C]`
    pub fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = map.dims();
        let cells = map.reshape([batch, height * width, channels]); // [B, HW, C]
        squeeze_excite(cells, &self.conv_reduce, &self.conv_expand).reshape([batch, height, width, channels])
    }
}
