use burn::module::{Module, Param};
use burn::tensor::Tensor;
use vision_nn::{BranchScale, DepthwiseConv2d, DropPath, Initializer, LayerNorm, Pass, Projection, gelu};

use crate::GlobalResponseNorm;
use crate::model::{NORM_EPSILON, WEIGHT_STD};

/// Initial layer scale: residual branches start almost closed (Touvron et al., CaiT, 2021; timm's `ls_init_value`).
const LAYER_SCALE_INIT: f32 = 1e-6;

/// Side of the depthwise kernel.
pub(crate) const KERNEL: usize = 7;

/// The MLP's hidden width over its outer width.
pub(crate) const EXPANSION: usize = 4;

/// How a block's MLP is made and its branch scaled: as in [`ConvNextConfig`](crate::ConvNextConfig).
#[derive(Debug, Clone, Copy)]
pub struct BlockForm {
    /// Whether projections are stored as 1x1 convolutions.
    pub pointwise_mlp: bool,
    /// Whether it normalises responses, in place of layer scale.
    pub response_norm: bool,
}

/// One residual block: depthwise 7x7, norm, MLP with GELU, layer scale; in V2, global response norm in the MLP and no layer scale.
#[derive(Module, Debug)]
pub struct Block {
    conv_dw: DepthwiseConv2d,
    norm: LayerNorm,
    mlp: Mlp,
    gamma: Option<Param<Tensor<1>>>,
    drop_path: DropPath,
}

impl Block {
    /// A block over `channels`.
    pub fn init(channels: usize, form: BlockForm, drop_path: f32, init: &mut Initializer) -> Self {
        Self {
            conv_dw: DepthwiseConv2d::init(channels, KERNEL, WEIGHT_STD, init),
            norm: LayerNorm::init(channels, NORM_EPSILON, init),
            mlp: Mlp::init(channels, form, init),
            gamma: (!form.response_norm).then(|| init.layer_scale(channels, LAYER_SCALE_INIT)),
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
        let (rows, scale) = match &self.gamma {
            Some(gamma) => self.mlp.forward_to_scale(rows, gamma), // [N, C]
            None => (self.mlp.forward(rows, batch), None),         // [N, C]
        };
        self.drop_path.add(map, rows.reshape([batch, height, width, channels]), scale, pass) // [B, H, W, C]
    }
}

/// Two projections with a GELU between, and in V2 a global response norm behind that.
#[derive(Module, Debug)]
struct Mlp {
    fc1: Projection,
    grn: Option<GlobalResponseNorm>,
    fc2: Projection,
}

impl Mlp {
    fn init(channels: usize, form: BlockForm, init: &mut Initializer) -> Self {
        let hidden = EXPANSION * channels;
        Self {
            fc1: Projection::init(channels, hidden, form.pointwise_mlp, WEIGHT_STD, init),
            grn: form.response_norm.then(|| GlobalResponseNorm::init(hidden, init)),
            fc2: Projection::init(hidden, channels, form.pointwise_mlp, WEIGHT_STD, init),
        }
    }

    /// The last bias is left to the operation that scales by `gamma`.
    ///
    /// # Shapes
    /// - `rows` and output: `[N, C]`; `[N, 4 C]` between
    fn forward_to_scale(&self, rows: Tensor<2>, gamma: &Param<Tensor<1>>) -> (Tensor<2>, Option<BranchScale>) {
        let rows = self.fc2.project_gelu(self.fc1.forward(rows)); // [N, C]
        (rows, Some(BranchScale { bias: self.fc2.bias(), scale: gamma.val() }))
    }

    /// # Shapes
    /// - `rows` and output: `[N, C]`, those of `batch` samples; `[N, 4 C]` between
    fn forward(&self, rows: Tensor<2>, batch: usize) -> Tensor<2> {
        let hidden = self.fc1.forward(rows); // [N, 4 C]
        let Some(norm) = &self.grn else { return self.fc2.forward_gelu(hidden) };
        let [count, channels] = hidden.dims();
        let responses = norm.forward(gelu(hidden).reshape([batch, count / batch, channels])); // [B, N / B, 4 C]
        self.fc2.forward(responses.reshape([count, channels]))
    }
}
