use burn::module::Module;
use burn::tensor::Tensor;
use vision_nn::{Classifier, ClassifierSpec, Initializer, LayerNorm, Linear, Pass, PatchConv2d, drop_path_schedule};

use crate::{ConvNextConfig, Stage};

/// timm's and the paper's epsilon for every norm.
pub(crate) const NORM_EPSILON: f64 = 1e-6;

/// Standard deviation of every initial weight matrix and kernel (timm's `_init_weights`).
pub(crate) const WEIGHT_STD: f32 = 0.02;

/// Patches of the stem.
const PATCH: usize = 4;

/// ConvNeXt: a stem of 4x4 patches, four stages, a pooled and normalised head.
#[derive(Module, Debug)]
pub struct ConvNext {
    stem: (PatchConv2d, LayerNorm),
    stages: Vec<Stage>,
    head: Head,
}

impl ConvNext {
    /// Builds the model with fresh weights.
    pub fn init(config: &ConvNextConfig, spec: &ClassifierSpec) -> Self {
        let mut init = Initializer::new(spec.seed, spec.initialization, &spec.device);
        let [first, _, _, last] = config.widths;
        let stem_conv = PatchConv2d::init(spec.in_channels, first, PATCH, WEIGHT_STD, &mut init);
        let stem = (stem_conv, LayerNorm::init(first, NORM_EPSILON, &mut init));
        let mut drop_paths = drop_path_schedule(spec.drop_path, config.depths.iter().sum()).into_iter();
        let mut in_channels = first;
        let mut stages = Vec::with_capacity(4);
        for (out_channels, depth) in config.widths.into_iter().zip(config.depths) {
            let of_stage: Vec<f32> = drop_paths.by_ref().take(depth).collect();
            stages.push(Stage::init(in_channels, out_channels, config.pointwise_mlp, &of_stage, &mut init));
            in_channels = out_channels;
        }
        let head = Head {
            norm: LayerNorm::init(last, NORM_EPSILON, &mut init),
            fc: Linear::init(last, spec.num_classes, WEIGHT_STD, &mut init),
        };
        Self { stem, stages, head }
    }
}

impl Classifier for ConvNext {
    fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        let (conv, norm) = &self.stem;
        let map = norm.forward(conv.forward_images(pass.images(images))); // [B, H/4, W/4, C]
        let map = self.stages.iter().fold(map, |map, stage| stage.forward(map, pass)); // [B, H/32, W/32, C]
        self.head.forward(map) // [B, K]
    }
}

/// Global average pool, norm, classifier.
#[derive(Module, Debug)]
struct Head {
    norm: LayerNorm,
    fc: Linear,
}

impl Head {
    /// # Shapes
    /// - `map`: `[B, H, W, C]`
    /// - output: `[B, K]`
    fn forward(&self, map: Tensor<4>) -> Tensor<2> {
        let [batch, height, width, channels] = map.dims();
        let pooled = map.reshape([batch, height * width, channels]).mean_dim(1).reshape([batch, channels]); // [B, C]
        self.fc.forward(self.norm.forward(pooled))
    }
}
