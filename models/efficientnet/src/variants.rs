use vision_nn::{Padding, Preprocessing};

use crate::BlockKind::{ConvNormAct as Cn, DepthwiseSeparable as Ds, EdgeResidual as Er, InvertedResidual as Ir};
use crate::config::DEFAULT_ROUND_LIMIT;
use crate::{Architecture, BlockKind, EfficientNetConfig, Scaling, StageConfig};

/// A size that people fine-tune, under timm's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// timm's name.
    pub name: &'static str,
    /// Image side that the published weights were trained at (timm's `input_size`).
    pub image_size: usize,
    /// How images were brought to its published weights, timm's default ones.
    pub preprocessing: Preprocessing,
    /// Its stages before scaling.
    pub architecture: Architecture,
    /// How they are scaled.
    pub scaling: Scaling,
    /// Whether it follows TensorFlow in padding and in the norms' epsilon; timm's `tf_` names.
    pub tensorflow: bool,
}

/// PyTorch's default.
const NORM_EPSILON: f64 = 1e-5;

/// timm's `BN_EPS_TF_DEFAULT`.
const TENSORFLOW_NORM_EPSILON: f64 = 1e-3;

impl Variant {
    /// Its sizes.
    pub fn config(&self) -> EfficientNetConfig {
        let (padding, epsilon) = match self.tensorflow {
            true => (Padding::Same, TENSORFLOW_NORM_EPSILON),
            false => (Padding::Symmetric, NORM_EPSILON),
        };
        self.architecture.scaled(&self.scaling, padding, epsilon)
    }
}

/// The variant of that name, if there is one.
pub fn find_variant(name: &str) -> Option<&'static Variant> {
    VARIANTS.iter().find(|variant| variant.name == name)
}

const fn stage(
    kind: BlockKind,
    blocks: usize,
    kernel: usize,
    stride: usize,
    expansion: usize,
    channels: usize,
) -> StageConfig {
    let squeeze = matches!(kind, BlockKind::DepthwiseSeparable | BlockKind::InvertedResidual);
    StageConfig { kind, blocks, kernel, stride, expansion, channels, squeeze }
}

const fn v2(stem_channels: usize, stages: &'static [StageConfig], head_channels: usize, scales: bool) -> Architecture {
    Architecture { stem_channels, stages, head_channels, head_scales: scales, round_limit: DEFAULT_ROUND_LIMIT }
}

/// EfficientNet-B0, which all of the first generation are scaled from.
const V1: Architecture = Architecture {
    stem_channels: 32,
    stages: &[
        stage(Ds, 1, 3, 1, 1, 16),
        stage(Ir, 2, 3, 2, 6, 24),
        stage(Ir, 2, 5, 2, 6, 40),
        stage(Ir, 3, 3, 2, 6, 80),
        stage(Ir, 3, 5, 1, 6, 112),
        stage(Ir, 4, 5, 2, 6, 192),
        stage(Ir, 1, 3, 1, 6, 320),
    ],
    head_channels: 1280,
    head_scales: true,
    round_limit: DEFAULT_ROUND_LIMIT,
};

/// EfficientNetV2-B0, which V2's B1 to B3 are scaled from.
const V2_BASE: Architecture = Architecture {
    stem_channels: 32,
    stages: &[
        stage(Cn, 1, 3, 1, 1, 16),
        stage(Er, 2, 3, 2, 4, 32),
        stage(Er, 2, 3, 2, 4, 48),
        stage(Ir, 3, 3, 2, 4, 96),
        stage(Ir, 5, 3, 1, 6, 112),
        stage(Ir, 8, 3, 2, 6, 192),
    ],
    head_channels: 1280,
    head_scales: true,
    round_limit: 0.0,
};

/// EfficientNetV2-S.
const V2_S: Architecture = v2(
    24,
    &[
        stage(Cn, 2, 3, 1, 1, 24),
        stage(Er, 4, 3, 2, 4, 48),
        stage(Er, 4, 3, 2, 4, 64),
        stage(Ir, 6, 3, 2, 4, 128),
        stage(Ir, 9, 3, 1, 6, 160),
        stage(Ir, 15, 3, 2, 6, 256),
    ],
    1280,
    true,
);

/// timm's own V2-S, drawn from the paper's figure before the official code was out.
const V2_RW: Architecture = v2(
    24,
    &[
        stage(Er, 2, 3, 1, 1, 24),
        stage(Er, 4, 3, 2, 4, 48),
        stage(Er, 4, 3, 2, 4, 64),
        stage(Ir, 6, 3, 2, 4, 128),
        stage(Ir, 9, 3, 1, 6, 160),
        stage(Ir, 15, 3, 2, 6, 272),
    ],
    1792,
    true,
);

/// EfficientNetV2-M.
const V2_M: Architecture = v2(
    24,
    &[
        stage(Cn, 3, 3, 1, 1, 24),
        stage(Er, 5, 3, 2, 4, 48),
        stage(Er, 5, 3, 2, 4, 80),
        stage(Ir, 7, 3, 2, 4, 160),
        stage(Ir, 14, 3, 1, 6, 176),
        stage(Ir, 18, 3, 2, 6, 304),
        stage(Ir, 5, 3, 1, 6, 512),
    ],
    1280,
    false,
);

/// EfficientNetV2-L.
const V2_L: Architecture = v2(
    32,
    &[
        stage(Cn, 4, 3, 1, 1, 32),
        stage(Er, 7, 3, 2, 4, 64),
        stage(Er, 7, 3, 2, 4, 96),
        stage(Ir, 10, 3, 2, 4, 192),
        stage(Ir, 19, 3, 1, 6, 224),
        stage(Ir, 25, 3, 2, 6, 384),
        stage(Ir, 7, 3, 1, 6, 640),
    ],
    1280,
    false,
);

/// EfficientNetV2-XL.
const V2_XL: Architecture = v2(
    32,
    &[
        stage(Cn, 4, 3, 1, 1, 32),
        stage(Er, 8, 3, 2, 4, 64),
        stage(Er, 8, 3, 2, 4, 96),
        stage(Ir, 16, 3, 2, 4, 192),
        stage(Ir, 24, 3, 1, 6, 256),
        stage(Ir, 32, 3, 2, 6, 512),
        stage(Ir, 8, 3, 1, 6, 640),
    ],
    1280,
    false,
);

/// Of a variant: the side of its images, and how they were brought to it.
type Images = (usize, Preprocessing);

const fn timms(name: &'static str, images: Images, architecture: Architecture, scaling: Scaling) -> Variant {
    let (image_size, preprocessing) = images;
    Variant { name, image_size, preprocessing, architecture, scaling, tensorflow: false }
}

const fn tensorflows(name: &'static str, images: Images, architecture: Architecture, scaling: Scaling) -> Variant {
    Variant { tensorflow: true, ..timms(name, images, architecture, scaling) }
}

const fn imagenet(image_size: usize, crop_share: f64) -> Images {
    (image_size, Preprocessing::imagenet(crop_share))
}

const fn inception(image_size: usize, crop_share: f64) -> Images {
    (image_size, Preprocessing::inception(crop_share))
}

/// Width and depth of B0 to B7, from the first paper's code.
const B: [Scaling; 8] = [
    Scaling::NONE,
    Scaling::new(1.0, 1.1),
    Scaling::new(1.1, 1.2),
    Scaling::new(1.2, 1.4),
    Scaling::new(1.4, 1.8),
    Scaling::new(1.6, 2.2),
    Scaling::new(1.8, 2.6),
    Scaling::new(2.0, 3.1),
];

/// timm's V2 "M", deeper at the end.
const RW_M: Scaling = Scaling { width: 1.2, depth: 1.2, late_depth: 1.6 };

/// All sizes, by generation and then from small to large; as in timm's `efficientnet.py`, images as in its `default_cfgs`
/// (`scripts/preprocessing_fixture.py` compares them).
pub const VARIANTS: [Variant; 31] = [
    timms("efficientnet_b0", imagenet(224, 0.875), V1, B[0]),
    timms("efficientnet_b1", inception(240, 0.9), V1, B[1]),
    timms("efficientnet_b2", imagenet(256, 0.875), V1, B[2]),
    timms("efficientnet_b3", imagenet(288, 0.875), V1, B[3]),
    timms("efficientnet_b4", imagenet(320, 0.875), V1, B[4]),
    timms("efficientnet_b5", imagenet(448, 1.0), V1, B[5]),
    timms("efficientnet_b6", imagenet(528, 0.942), V1, B[6]),
    timms("efficientnet_b7", imagenet(600, 0.949), V1, B[7]),
    tensorflows("tf_efficientnet_b0", imagenet(224, 0.875), V1, B[0]),
    tensorflows("tf_efficientnet_b1", imagenet(240, 0.882), V1, B[1]),
    tensorflows("tf_efficientnet_b2", imagenet(260, 0.89), V1, B[2]),
    tensorflows("tf_efficientnet_b3", imagenet(300, 0.904), V1, B[3]),
    tensorflows("tf_efficientnet_b4", imagenet(380, 0.922), V1, B[4]),
    tensorflows("tf_efficientnet_b5", imagenet(456, 0.934), V1, B[5]),
    tensorflows("tf_efficientnet_b6", imagenet(528, 0.942), V1, B[6]),
    tensorflows("tf_efficientnet_b7", imagenet(600, 0.949), V1, B[7]),
    timms("efficientnetv2_rw_t", imagenet(224, 1.0), V2_S, Scaling::new(0.8, 0.9)),
    timms("efficientnetv2_rw_s", imagenet(288, 1.0), V2_RW, Scaling::NONE),
    timms("efficientnetv2_rw_m", imagenet(320, 1.0), V2_RW, RW_M),
    timms("efficientnetv2_s", imagenet(288, 1.0), V2_S, Scaling::NONE),
    timms("efficientnetv2_m", imagenet(320, 1.0), V2_M, Scaling::NONE),
    timms("efficientnetv2_l", imagenet(384, 1.0), V2_L, Scaling::NONE),
    timms("efficientnetv2_xl", imagenet(384, 1.0), V2_XL, Scaling::NONE),
    tensorflows("tf_efficientnetv2_b0", imagenet(192, 0.875), V2_BASE, Scaling::NONE),
    tensorflows("tf_efficientnetv2_b1", imagenet(192, 0.882), V2_BASE, Scaling::new(1.0, 1.1)),
    tensorflows("tf_efficientnetv2_b2", imagenet(208, 0.89), V2_BASE, Scaling::new(1.1, 1.2)),
    tensorflows("tf_efficientnetv2_b3", inception(240, 0.9), V2_BASE, Scaling::new(1.2, 1.4)),
    tensorflows("tf_efficientnetv2_s", inception(300, 1.0), V2_S, Scaling::NONE),
    tensorflows("tf_efficientnetv2_m", inception(384, 1.0), V2_M, Scaling::NONE),
    tensorflows("tf_efficientnetv2_l", inception(384, 1.0), V2_L, Scaling::NONE),
    tensorflows("tf_efficientnetv2_xl", inception(384, 1.0), V2_XL, Scaling::NONE),
];
