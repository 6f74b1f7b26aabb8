use burn::module::Module;
use burn::tensor::{Tensor, activation};

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
        if let Some(weighed) = squeeze_excite(&cells, &self.conv_reduce, &self.conv_expand) {
            return weighed.reshape([batch, height, width, channels]);
        }
        self.composed(cells).reshape([batch, height, width, channels])
    }

    /// # Shapes
    /// - `cells` and output: `[B, HW, C]`
    fn composed(&self, cells: Tensor<3>) -> Tensor<3> {
        let [batch, _, channels] = cells.dims();
        let means = cells.clone().mean_dim(1).reshape([batch, channels]); // [B, C]
        let reduced = activation::silu(self.conv_reduce.forward(means)); // [B, reduced]
        let gates = activation::sigmoid(self.conv_expand.forward(reduced)); // [B, C]
        cells * gates.reshape([batch, 1, channels]) // [B, HW, C]
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::Initialization;

    #[test]
    fn with_and_without_the_fused_operation_it_is_the_same() {
        let device = Device::flex().autodiff();
        let layer = SqueezeExcite::init(7, 3, &mut Initializer::new(1, Initialization::Reference, &device));
        let cells = Tensor::<3>::random([2, 12, 7], Distribution::Normal(0.5, 1.0), &device);
        let upstream = Tensor::<3>::random([2, 12, 7], Distribution::Normal(0.0, 1.0), &device);
        let run = |form: &dyn Fn(Tensor<3>) -> Tensor<3>| -> Vec<f32> {
            let cells = cells.clone().require_grad();
            let output = form(cells.clone());
            let tape = (output.clone() * upstream.clone()).sum().backward();
            let SqueezeExcite { conv_reduce, conv_expand } = &layer;
            let found = [
                output.into_data(),
                cells.grad(&tape).unwrap().into_data(),
                conv_reduce.weight.val().grad(&tape).unwrap().into_data(),
                conv_reduce.bias.val().grad(&tape).unwrap().into_data(),
                conv_expand.weight.val().grad(&tape).unwrap().into_data(),
                conv_expand.bias.val().grad(&tape).unwrap().into_data(),
            ];
            found.iter().flat_map(|data| data.iter::<f32>().collect::<Vec<_>>()).collect()
        };
        let fused = run(&|cells| layer.forward(cells.reshape([2, 3, 4, 7])).reshape([2, 12, 7]));
        let composed = run(&|cells| layer.composed(cells));
        assert_eq!(fused.len(), composed.len());
        for (fused, composed) in fused.into_iter().zip(composed) {
            // Sums of some dozen numbers of order one, in f32.
            assert!((fused - composed).abs() < 1e-5, "{fused} is not {composed}");
        }
    }
}
