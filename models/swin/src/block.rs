use burn::module::Module;
use burn::tensor::Tensor;
use vision_nn::{DropPath, Initializer, LayerNorm, Linear, Pass};

use crate::model::{NORM_EPSILON, WEIGHT_STD};
use crate::{WindowAttention, WindowLayout};

/// The MLP's hidden width over its outer width.
pub(crate) const MLP_RATIO: usize = 4;

/// Two residual branches, each after a norm: attention within windows, and an MLP with GELU.
#[derive(Module, Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: WindowAttention,
    drop_path1: DropPath,
    norm2: LayerNorm,
    mlp: Mlp,
    drop_path2: DropPath,
}

impl Block {
    /// A block over `channels`, which `heads` divides, for windows of the layout's size.
    pub fn init(channels: usize, heads: usize, layout: WindowLayout, drop_path: f32, init: &mut Initializer) -> Self {
        Self {
            norm1: LayerNorm::init(channels, NORM_EPSILON, init),
            attn: WindowAttention::init(channels, heads, layout, init),
            drop_path1: DropPath::new(drop_path),
            norm2: LayerNorm::init(channels, NORM_EPSILON, init),
            mlp: Mlp {
                fc1: Linear::init(channels, MLP_RATIO * channels, WEIGHT_STD, init),
                fc2: Linear::init(MLP_RATIO * channels, channels, WEIGHT_STD, init),
            },
            drop_path2: DropPath::new(drop_path),
        }
    }

    /// Refines a feature map, cut as `layout` says.
    ///
    /// # Shapes
    /// - `map` and output: `[B, H, W, C]`
    pub fn forward(&self, map: Tensor<4>, layout: WindowLayout, pass: &mut Pass) -> Tensor<4> {
        let [batch, height, width, channels] = map.dims();
        let branch = self.attn.over_map(self.norm1.forward(map.clone()), layout); // [B, H, W, C]
        let map = self.drop_path1.add(map, branch, None, pass);

        let rows = self.norm2.forward(map.clone()).reshape([batch * height * width, channels]); // [B*H*W, C]
        let branch = self.mlp.forward(rows).reshape([batch, height, width, channels]); // [B, H, W, C]
        self.drop_path2.add(map, branch, None, pass)
    }
}

/// Two projections with a GELU between, of which only what goes into it is kept for the backward pass.
#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// # Shapes
    /// - `rows` and output: `[B*H*W, C]`; `[B*H*W, 4 C]` between
    fn forward(&self, rows: Tensor<2>) -> Tensor<2> {
        self.fc2.forward_gelu(self.fc1.forward(rows))
    }
}
