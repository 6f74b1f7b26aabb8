use vision_nn::ClassifierSpec;

use crate::ConvNext;

/// Sizes of one ConvNeXt.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvNextConfig {
    /// Blocks in each stage.
    pub depths: [usize; 4],
    /// Channels in each stage.
    pub widths: [usize; 4],
    /// Whether the checkpoint stores the MLP as 1x1 convolutions (`[out, in, 1, 1]`), as timm does for the small sizes. The arithmetic is the same.
    pub pointwise_mlp: bool,
}

impl ConvNextConfig {
    /// Builds the model with fresh weights.
    pub fn init(&self, spec: &ClassifierSpec) -> ConvNext {
        ConvNext::init(self, spec)
    }

    /// Number of trainable numbers, by arithmetic alone.
    pub fn num_parameters(&self, in_channels: usize, num_classes: usize) -> usize {
        let [first, _, _, last] = self.widths;
        let stem = in_channels * 16 * first + first + 2 * first;
        let downsamples: usize = self.widths.windows(2).map(|pair| 2 * pair[0] + 4 * pair[0] * pair[1] + pair[1]).sum();
        // Depthwise 7x7 with bias, norm, two projections with bias, layer scale.
        let block = |c: usize| 49 * c + c + 2 * c + (4 * c * c + 4 * c) + (4 * c * c + c) + c;
        let blocks: usize = self.widths.iter().zip(self.depths).map(|(&width, depth)| depth * block(width)).sum();
        stem + downsamples + blocks + 2 * last + last * num_classes + num_classes
    }
}

/// A size that people fine-tune, under timm's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// timm's name.
    pub name: &'static str,
    /// Image side that the published weights were trained at.
    pub image_size: usize,
    /// Its sizes.
    pub config: ConvNextConfig,
}

const fn variant(name: &'static str, depths: [usize; 4], widths: [usize; 4], pointwise_mlp: bool) -> Variant {
    Variant { name, image_size: 224, config: ConvNextConfig { depths, widths, pointwise_mlp } }
}

/// All sizes, from small to large; depths and widths as in timm's `convnext.py`.
pub const VARIANTS: [Variant; 9] = [
    variant("convnext_atto", [2, 2, 6, 2], [40, 80, 160, 320], true),
    variant("convnext_femto", [2, 2, 6, 2], [48, 96, 192, 384], true),
    variant("convnext_pico", [2, 2, 6, 2], [64, 128, 256, 512], true),
    variant("convnext_nano", [2, 2, 8, 2], [80, 160, 320, 640], true),
    variant("convnext_tiny", [3, 3, 9, 3], [96, 192, 384, 768], false),
    variant("convnext_small", [3, 3, 27, 3], [96, 192, 384, 768], false),
    variant("convnext_base", [3, 3, 27, 3], [128, 256, 512, 1024], false),
    variant("convnext_large", [3, 3, 27, 3], [192, 384, 768, 1536], false),
    variant("convnext_xlarge", [3, 3, 27, 3], [256, 512, 1024, 2048], false),
];

/// The variant of that name, if there is one.
pub fn find_variant(name: &str) -> Option<&'static Variant> {
    VARIANTS.iter().find(|variant| variant.name == name)
}
