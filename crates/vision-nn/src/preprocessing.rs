/// How images were brought to a model that has published weights: what timm's `pretrained_cfg` says of it.
///
/// Weights see other images than they learned from where any of this differs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preprocessing {
    /// Red, green and blue, subtracted from values in 0 to 1.
    pub mean: [f64; 3],
    /// Red, green and blue, divides after the mean is taken off.
    pub std: [f64; 3],
    /// How pixels are weighed when images are resized.
    pub interpolation: Interpolation,
    /// Share of the shorter side that a centre crop keeps (timm's `crop_pct`), in (0, 1].
    pub crop_share: f64,
}

/// How pixels are weighed when images are resized, antialiased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// By a triangle.
    Bilinear,
    /// By Keys' cubic convolution with a = -0.5.
    Bicubic,
}

impl Interpolation {
    /// timm's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
        }
    }
}

impl Preprocessing {
    /// ImageNet's mean and deviation (timm's `IMAGENET_DEFAULT_MEAN`), bicubic.
    pub const fn imagenet(crop_share: f64) -> Self {
        Self {
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            interpolation: Interpolation::Bicubic,
            crop_share,
        }
    }

    /// Values from -1 to 1 (timm's `IMAGENET_INCEPTION_MEAN`), bicubic.
    pub const fn inception(crop_share: f64) -> Self {
        Self { mean: [0.5; 3], std: [0.5; 3], ..Self::imagenet(crop_share) }
    }
}
