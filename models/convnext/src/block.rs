use burn::module::{Module, Param};
use burn::tensor::Tensor;
use vision_nn::{DepthwiseConv2d, DropPath, Initializer, LayerNorm, Pass, Projection, gelu};

use crate::model::{NORM_EPSILON, WEIGHT_STD};

/// Initial layer scale: residual branches start almost closed (Touvron et al., CaiT, 2021; timm's `ls_init_value`).
const LAYER_SCALE_INIT: f32 = 1e-6;

/// Side of the depthwise kernel.
const KERNEL: usize = 7;

/// The MLP's hidden width over its outer width.
const EXPANSION: usize = 4;

/// One residual block: depthwise 7x7, norm, MLP with GELU, layer scale.
#[derive(Module, Debug)]
pub struct Block {
    conv_dw: DepthwiseConv2d,
    norm: LayerNorm,
    mlp: Mlp,
    gamma: Param<Tensor<1>>,
    drop_path: DropPath,
}

impl Block {
    /// A block over `channels`; `pointwise` as in [`ConvNextConfig::pointwise_mlp`](crate::ConvNextConfig::pointwise_mlp).
    pub fn init(channels: usize, pointwise: bool, drop_path: f32, init: &mut Initializer) -> Self {
        Self {
            conv_dw: DepthwiseConv2d::init(channels, KERNEL, WEIGHT_STD, init),
            norm: LayerNorm::init(channels, NORM_EPSILON, init),
            mlp: Mlp {
                fc1: Projection::init(channels, EXPANSION * channels, pointwise, WEIGHT_STD, init),
                fc2: Projection::init(EXPANSION * channels, channels, pointwise, WEIGHT_STD, init),
            },
            gamma: init.layer_scale(channels, LAYER_SCALE_INIT),
            drop_path: DropPath::new(drop_path),
        }
    }

    /// Refines a feature map.
    ///
    /// # Shapes
    /// - `map` and output: `[B, H, W, C]`
    pub fn forward(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let [batch, height, width, channels] = map.dims();
        let branch = self.norm.forward(self.conv_dw.forward(map.clone())); // [B, H, W, C]
        let rows = branch.reshape([batch * height * width, channels]); // [N, C]
        let branch = self.mlp.forward(rows).reshape([batch, height, width, channels]); // [B, H, W, C]
        self.drop_path.add(map, branch, Some(self.gamma.val()), pass)
    }
}

/// Two projections with a GELU between.
#[derive(Module, Debug)]
struct Mlp {
    fc1: Projection,
    fc2: Projection,
}

impl Mlp {
    /// # Shapes
    /// - `rows` and output: `[N, C]`; `[N, 4 C]` between
    fn forward(&self, rows: Tensor<2>) -> Tensor<2> {
        self.fc2.forward(gelu(self.fc1.forward(rows)))
    }
}
