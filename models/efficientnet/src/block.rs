use burn::module::Module;
use burn::tensor::Tensor;
use vision_nn::{BatchNorm, Conv2d, DropPath, Initializer, Padding, Pass, SqueezeExcite};

use crate::{BlockConfig, BlockKind};

/// What all blocks of a model have in common.
#[derive(Debug, Clone, Copy)]
pub struct BlockForm {
    /// What stands around maps.
    pub padding: Padding,
    /// Added to the variance in every norm.
    pub norm_epsilon: f64,
}

/// A block of any kind; parameters have timm's names.
#[allow(clippy::large_enum_variant, reason = "there are some dozens in a model, nearly all of the largest kind")]
#[derive(Module, Debug)]
pub enum Block {
    /// See [`ConvNormAct`].
    ConvNormAct(ConvNormAct),
    /// See [`DepthwiseSeparable`].
    DepthwiseSeparable(DepthwiseSeparable),
    /// See [`EdgeResidual`].
    EdgeResidual(EdgeResidual),
    /// See [`InvertedResidual`].
    InvertedResidual(InvertedResidual),
}

impl Block {
    /// A block of `config`'s kind, whose branch is dropped with probability `drop_path` where it has a skip.
    pub fn init(config: &BlockConfig, form: BlockForm, drop_path: f32, init: &mut Initializer) -> Self {
        let parts = &mut Parts { config, form, init };
        let drop_path = config.has_skip().then(|| DropPath::new(drop_path));
        match config.kind {
            BlockKind::ConvNormAct => Self::ConvNormAct(ConvNormAct::init(parts, drop_path)),
            BlockKind::DepthwiseSeparable => Self::DepthwiseSeparable(DepthwiseSeparable::init(parts, drop_path)),
            BlockKind::EdgeResidual => Self::EdgeResidual(EdgeResidual::init(parts, drop_path)),
            BlockKind::InvertedResidual => Self::InvertedResidual(InvertedResidual::init(parts, drop_path)),
        }
    }

    /// Refines a feature map, or halves it.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - output: `[B, H / stride, W / stride, out]`, rounded up
    pub fn forward(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        match self {
            Self::ConvNormAct(block) => block.forward(map, pass),
            Self::DepthwiseSeparable(block) => block.forward(map, pass),
            Self::EdgeResidual(block) => block.forward(map, pass),
            Self::InvertedResidual(block) => block.forward(map, pass),
        }
    }
}

/// Builds the layers of one block.
struct Parts<'a> {
    config: &'a BlockConfig,
    form: BlockForm,
    init: &'a mut Initializer,
}

impl Parts<'_> {
    fn dense(&mut self, channels: [usize; 2]) -> Conv2d {
        Conv2d::dense(channels, self.config.kernel, self.config.stride, self.form.padding, self.init)
    }

    fn depthwise(&mut self, channels: usize) -> Conv2d {
        Conv2d::depthwise(channels, self.config.kernel, self.config.stride, self.form.padding, self.init)
    }

    fn pointwise(&mut self, channels: [usize; 2]) -> Conv2d {
        Conv2d::dense(channels, 1, 1, self.form.padding, self.init)
    }

    fn norm(&mut self, channels: usize) -> BatchNorm {
        BatchNorm::init(channels, self.form.norm_epsilon, self.init)
    }

    fn squeeze_excite(&mut self) -> Option<SqueezeExcite> {
        let squeezed = self.config.squeezed_channels?;
        Some(SqueezeExcite::init(self.config.hidden_channels, squeezed, self.init))
    }
}

/// Adds what the block made to what it was made of, where the block has a skip.
fn add_skip(skip: Option<(Tensor<4>, &DropPath)>, branch: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
    match skip {
        Some((map, drop_path)) => drop_path.add(map, branch, None, pass),
        None => branch,
    }
}

/// One dense convolution with norm and SiLU; timm's
/// [`ConvBnAct`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/_efficientnet_blocks.py#L86).
#[derive(Module, Debug)]
pub struct ConvNormAct {
    conv: Conv2d,
    bn1: BatchNorm,
    drop_path: Option<DropPath>,
}

impl ConvNormAct {
    fn init(parts: &mut Parts<'_>, drop_path: Option<DropPath>) -> Self {
        let BlockConfig { in_channels, out_channels, .. } = *parts.config;
        Self { conv: parts.dense([in_channels, out_channels]), bn1: parts.norm(out_channels).with_silu(), drop_path }
    }

    /// See [`Block::forward`].
    pub fn forward(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let skip = self.drop_path.as_ref().map(|drop_path| (map.clone(), drop_path));
        let branch = self.bn1.forward(self.conv.forward(map), pass); // [B, H/s, W/s, out]
        add_skip(skip, branch, pass)
    }
}

/// Depthwise, squeeze and excite, 1x1; timm's
/// [`DepthwiseSeparableConv`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/_efficientnet_blocks.py#L143).
#[derive(Module, Debug)]
pub struct DepthwiseSeparable {
    conv_dw: Conv2d,
    bn1: BatchNorm,
    se: Option<SqueezeExcite>,
    conv_pw: Conv2d,
    bn2: BatchNorm,
    drop_path: Option<DropPath>,
}

impl DepthwiseSeparable {
    fn init(parts: &mut Parts<'_>, drop_path: Option<DropPath>) -> Self {
        let BlockConfig { in_channels, out_channels, .. } = *parts.config;
        Self {
            conv_dw: parts.depthwise(in_channels),
            bn1: parts.norm(in_channels).with_silu(),
            se: parts.squeeze_excite(),
            conv_pw: parts.pointwise([in_channels, out_channels]),
            bn2: parts.norm(out_channels),
            drop_path,
        }
    }

    /// See [`Block::forward`].
    pub fn forward(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let skip = self.drop_path.as_ref().map(|drop_path| (map.clone(), drop_path));
        let branch = self.bn1.forward(self.conv_dw.forward(map), pass); // [B, H/s, W/s, in]
        let branch = squeeze_excite(&self.se, branch); // [B, H/s, W/s, in]
        let branch = self.bn2.forward(self.conv_pw.forward(branch), pass); // [B, H/s, W/s, out]
        add_skip(skip, branch, pass)
    }
}

/// Dense expansion, then 1x1, the paper's fused MBConv; timm's
/// [`EdgeResidual`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/_efficientnet_blocks.py#L678).
#[derive(Module, Debug)]
pub struct EdgeResidual {
    conv_exp: Conv2d,
    bn1: BatchNorm,
    se: Option<SqueezeExcite>,
    conv_pwl: Conv2d,
    bn2: BatchNorm,
    drop_path: Option<DropPath>,
}

impl EdgeResidual {
    fn init(parts: &mut Parts<'_>, drop_path: Option<DropPath>) -> Self {
        let BlockConfig { in_channels, hidden_channels, out_channels, .. } = *parts.config;
        Self {
            conv_exp: parts.dense([in_channels, hidden_channels]),
            bn1: parts.norm(hidden_channels).with_silu(),
            se: parts.squeeze_excite(),
            conv_pwl: parts.pointwise([hidden_channels, out_channels]),
            bn2: parts.norm(out_channels),
            drop_path,
        }
    }

    /// See [`Block::forward`].
    pub fn forward(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let skip = self.drop_path.as_ref().map(|drop_path| (map.clone(), drop_path));
        let branch = self.bn1.forward(self.conv_exp.forward(map), pass); // [B, H/s, W/s, hidden]
        let branch = squeeze_excite(&self.se, branch); // [B, H/s, W/s, hidden]
        let branch = self.bn2.forward(self.conv_pwl.forward(branch), pass); // [B, H/s, W/s, out]
        add_skip(skip, branch, pass)
    }
}

/// 1x1 expansion, depthwise, squeeze and excite, 1x1, the paper's MBConv; timm's
/// [`InvertedResidual`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/_efficientnet_blocks.py#L234).
#[derive(Module, Debug)]
pub struct InvertedResidual {
    conv_pw: Conv2d,
    bn1: BatchNorm,
    conv_dw: Conv2d,
    bn2: BatchNorm,
    se: Option<SqueezeExcite>,
    conv_pwl: Conv2d,
    bn3: BatchNorm,
    drop_path: Option<DropPath>,
}

impl InvertedResidual {
    fn init(parts: &mut Parts<'_>, drop_path: Option<DropPath>) -> Self {
        let BlockConfig { in_channels, hidden_channels, out_channels, .. } = *parts.config;
        Self {
            conv_pw: parts.pointwise([in_channels, hidden_channels]),
            bn1: parts.norm(hidden_channels).with_silu(),
            conv_dw: parts.depthwise(hidden_channels),
            bn2: parts.norm(hidden_channels).with_silu(),
            se: parts.squeeze_excite(),
            conv_pwl: parts.pointwise([hidden_channels, out_channels]),
            bn3: parts.norm(out_channels),
            drop_path,
        }
    }

    /// See [`Block::forward`].
    pub fn forward(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let skip = self.drop_path.as_ref().map(|drop_path| (map.clone(), drop_path));
        let branch = self.bn1.forward(self.conv_pw.forward(map), pass); // [B, H, W, hidden]
        let branch = self.bn2.forward(self.conv_dw.forward(branch), pass); // [B, H/s, W/s, hidden]
        let branch = squeeze_excite(&self.se, branch); // [B, H/s, W/s, hidden]
        let branch = self.bn3.forward(self.conv_pwl.forward(branch), pass); // [B, H/s, W/s, out]
        add_skip(skip, branch, pass)
    }
}

/// # Shapes
/// - `map` and output: `[B, H, W, C]`
fn squeeze_excite(layer: &Option<SqueezeExcite>, map: Tensor<4>) -> Tensor<4> {
    match layer {
        Some(layer) => layer.forward(map),
        None => map,
    }
}
