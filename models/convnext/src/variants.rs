use vision_nn::Preprocessing;

use crate::ConvNextConfig;

/// A size that people fine-tune, under timm's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// timm's name; behind a dot, that of the published weights whose image side is not the default.
    pub name: &'static str,
    /// Shorter names for it.
    pub aliases: &'static [&'static str],
    /// Image side that the published weights were trained at.
    pub image_size: usize,
    /// How images were brought to its published weights: those of its tag, or else of timm's default one.
    pub preprocessing: Preprocessing,
    /// Its sizes.
    pub config: ConvNextConfig,
}

/// The variant of that name or alias, if there is one.
pub fn find_variant(name: &str) -> Option<&'static Variant> {
    VARIANTS.iter().find(|variant| variant.name == name || variant.aliases.contains(&name))
}

const fn v1(depths: [usize; 4], widths: [usize; 4], pointwise_mlp: bool) -> ConvNextConfig {
    ConvNextConfig { depths, widths, pointwise_mlp, response_norm: false }
}

const fn v2(first: ConvNextConfig) -> ConvNextConfig {
    ConvNextConfig { response_norm: true, ..first }
}

const ATTO: ConvNextConfig = v1([2, 2, 6, 2], [40, 80, 160, 320], true);
const FEMTO: ConvNextConfig = v1([2, 2, 6, 2], [48, 96, 192, 384], true);
const PICO: ConvNextConfig = v1([2, 2, 6, 2], [64, 128, 256, 512], true);
const NANO: ConvNextConfig = v1([2, 2, 8, 2], [80, 160, 320, 640], true);
const TINY: ConvNextConfig = v1([3, 3, 9, 3], [96, 192, 384, 768], false);
const SMALL: ConvNextConfig = v1([3, 3, 27, 3], [96, 192, 384, 768], false);
const BASE: ConvNextConfig = v1([3, 3, 27, 3], [128, 256, 512, 1024], false);
const LARGE: ConvNextConfig = v1([3, 3, 27, 3], [192, 384, 768, 1536], false);
const XLARGE: ConvNextConfig = v1([3, 3, 27, 3], [256, 512, 1024, 2048], false);
const HUGE: ConvNextConfig = v1([3, 3, 27, 3], [352, 704, 1408, 2816], false);

const fn at_224(name: &'static str, crop_share: f64, config: ConvNextConfig) -> Variant {
    Variant { name, aliases: &[], image_size: 224, preprocessing: Preprocessing::imagenet(crop_share), config }
}

/// Published weights of these sizes saw all of the shorter side.
const fn larger(
    name: &'static str,
    aliases: &'static [&'static str],
    image_size: usize,
    config: ConvNextConfig,
) -> Variant {
    Variant { name, aliases, image_size, preprocessing: Preprocessing::imagenet(1.0), config }
}

/// All sizes, by generation and image side and then from small to large; depths and widths as in timm's `convnext.py`, crop shares as in its `default_cfgs`
/// (`scripts/preprocessing_fixture.py` compares them).
#[rustfmt::skip]
pub const VARIANTS: [Variant; 29] = [
    at_224("convnext_atto", 0.875, ATTO),
    at_224("convnext_femto", 0.875, FEMTO),
    at_224("convnext_pico", 0.875, PICO),
    at_224("convnext_nano", 0.95, NANO),
    at_224("convnext_tiny", 0.95, TINY),
    at_224("convnext_small", 0.95, SMALL),
    at_224("convnext_base", 0.875, BASE),
    at_224("convnext_large", 0.875, LARGE),
    at_224("convnext_xlarge", 0.875, XLARGE),
    larger("convnext_nano.r384_in12k_ft_in1k", &["convnext_nano_384"], 384, NANO),
    larger("convnext_tiny.fb_in22k_ft_in1k_384", &["convnext_tiny_384"], 384, TINY),
    larger("convnext_small.fb_in22k_ft_in1k_384", &["convnext_small_384"], 384, SMALL),
    larger("convnext_base.fb_in22k_ft_in1k_384", &["convnext_base_384"], 384, BASE),
    larger("convnext_large.fb_in22k_ft_in1k_384", &["convnext_large_384"], 384, LARGE),
    larger("convnext_xlarge.fb_in22k_ft_in1k_384", &["convnext_xlarge_384"], 384, XLARGE),
    at_224("convnextv2_atto", 0.875, v2(ATTO)),
    at_224("convnextv2_femto", 0.875, v2(FEMTO)),
    at_224("convnextv2_pico", 0.875, v2(PICO)),
    at_224("convnextv2_nano", 0.875, v2(NANO)),
    at_224("convnextv2_tiny", 0.875, v2(TINY)),
    at_224("convnextv2_small", 0.875, v2(SMALL)),
    at_224("convnextv2_base", 0.875, v2(BASE)),
    at_224("convnextv2_large", 0.875, v2(LARGE)),
    larger("convnextv2_nano.fcmae_ft_in22k_in1k_384", &["convnextv2_nano_384"], 384, v2(NANO)),
    larger("convnextv2_tiny.fcmae_ft_in22k_in1k_384", &["convnextv2_tiny_384"], 384, v2(TINY)),
    larger("convnextv2_base.fcmae_ft_in22k_in1k_384", &["convnextv2_base_384"], 384, v2(BASE)),
    larger("convnextv2_large.fcmae_ft_in22k_in1k_384", &["convnextv2_large_384"], 384, v2(LARGE)),
    larger("convnextv2_huge", &["convnextv2_huge_384"], 384, v2(HUGE)),
    larger("convnextv2_huge.fcmae_ft_in22k_in1k_512", &["convnextv2_huge_512"], 512, v2(HUGE)),
];
