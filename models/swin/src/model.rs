use burn::module::Module;
use burn::tensor::Tensor;
use vision_nn::{Classifier, ClassifierSpec, Initializer, LayerNorm, Linear, Pass, PatchConv2d, drop_path_schedule};

use crate::{Stage, SwinConfig};

/// PyTorch's default, which timm's Swin leaves as it is for every norm.
pub(crate) const NORM_EPSILON: f64 = 1e-5;

/// Standard deviation of every initial weight matrix and bias table (timm's `init_weights_vit_timm` and `WindowAttention`).
pub(crate) const WEIGHT_STD: f32 = 0.02;

/// Side of a patch.
pub(crate) const PATCH: usize = 4;

/// Swin: patches of 4x4, four stages, a norm, a pooled head.
#[derive(Module, Debug)]
pub struct Swin {
    patch_embed: PatchEmbed,
    layers: Vec<Stage>,
    norm: LayerNorm,
    head: Head,
}

impl Swin {
    /// Builds the model with fresh weights.
    pub fn init(config: &SwinConfig, spec: &ClassifierSpec) -> Self {
        let mut init = Initializer::new(spec.seed, spec.initialization, &spec.device);
        let widths = config.widths();
        let [first, _, _, last] = widths;
        let patch_embed = PatchEmbed::init(spec.in_channels, first, &mut init);
        let mut drop_paths = drop_path_schedule(spec.drop_path, config.depths.iter().sum()).into_iter();
        let mut in_channels = first;
        let mut layers = Vec::with_capacity(4);
        for (index, layout) in config.layouts().into_iter().enumerate() {
            let of_stage: Vec<f32> = drop_paths.by_ref().take(config.depths[index]).collect();
            let channels = [in_channels, widths[index]];
            layers.push(Stage::init(channels, config.num_heads[index], layout, &of_stage, &mut init));
            in_channels = widths[index];
        }
        let norm = LayerNorm::init(last, NORM_EPSILON, &mut init);
        let head = Head { fc: Linear::init(last, spec.num_classes, WEIGHT_STD, &mut init) };
        Self { patch_embed, layers, norm, head }
    }
}

impl Classifier for Swin {
    /// The images' sides are whole patches ([`check_image_size`](crate::check_image_size)); what is left over at the right and bottom is not seen.
    fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        let map = self.patch_embed.forward(pass.images(images)); // [B, H/4, W/4, C]
        let map = self.layers.iter().fold(map, |map, stage| stage.forward(map, pass)); // [B, H/32, W/32, 8 C]
        self.head.forward(self.norm.forward(map)) // [B, K]
    }
}

/// Projection and norm of the image's patches.
#[derive(Module, Debug)]
struct PatchEmbed {
    proj: PatchConv2d,
    norm: LayerNorm,
}

impl PatchEmbed {
    /// timm leaves the projection as PyTorch draws it: weight and bias uniform, to one over the root of the fan-in.
    fn init(in_channels: usize, out_channels: usize, init: &mut Initializer) -> Self {
        let shape = [out_channels, in_channels, PATCH, PATCH];
        let bound = ((in_channels * PATCH * PATCH) as f32).powf(-0.5);
        let proj = PatchConv2d { weight: init.uniform_weight(shape, bound), bias: init.uniform([out_channels], bound) };
        Self { proj, norm: LayerNorm::init(out_channels, NORM_EPSILON, init) }
    }

    /// # Shapes
    /// - `images`: `[B, C, H, W]`
    /// - output: `[B, H / 4, W / 4, out]`
    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.proj.forward_images(images))
    }
}

/// Global average pool, classifier.
#[derive(Module, Debug)]
struct Head {
    fc: Linear,
}

impl Head {
    /// # Shapes
    /// - `map`: `[B, H, W, C]`
    /// - output: `[B, K]`
    fn forward(&self, map: Tensor<4>) -> Tensor<2> {
        let [batch, height, width, channels] = map.dims();
        let pooled = map.reshape([batch, height * width, channels]).mean_dim(1).reshape([batch, channels]); // [B, C]
        self.fc.forward(pooled)
    }
}
