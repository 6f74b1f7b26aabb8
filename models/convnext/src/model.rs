use burn::module::Module;
use burn::tensor::Tensor;
use vision_nn::{
    Classifier, ClassifierSpec, Dropout, Initializer, LayerNames, LayerNorm, Linear, Pass, PatchConv2d,
    block_of_segment, drop_path_schedule, is_trained,
};

use crate::{ConvNextConfig, Stage};

/// timm's and the paper's epsilon for every norm.
pub(crate) const NORM_EPSILON: f64 = 1e-6;

/// Standard deviation of every initial weight matrix and kernel (timm's `_init_weights`).
pub(crate) const WEIGHT_STD: f32 = 0.02;

/// Patches of the stem.
pub(crate) const PATCH: usize = 4;

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
            stages.push(Stage::init(in_channels, out_channels, config.block_form(), &of_stage, &mut init));
            in_channels = out_channels;
        }
        let head = Head {
            norm: LayerNorm::init(last, NORM_EPSILON, &mut init),
            dropout: Dropout::new(spec.dropout),
            fc: Linear::init(last, spec.num_classes, WEIGHT_STD, &mut init),
        };
        Self { stem, stages, head }
    }

    fn block_of(&self, segment: usize) -> (&Stage, usize) {
        let (stage, block) = block_of_segment(segment, self.stages.iter().map(Stage::depth));
        (&self.stages[stage], block)
    }
}

/// A segment is a block, with what changes the grid before it: the stem, which gives more than it takes, or a downsampling.
impl Classifier for ConvNext {
    fn num_segments(&self) -> usize {
        self.stages.iter().map(Stage::depth).sum()
    }

    fn forward_segment(&self, index: usize, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let map = match (index, &self.stem) {
            (0, (conv, norm)) => norm.forward(conv.forward_images(map)), // [B, H/4, W/4, C]
            _ => map,
        };
        let (stage, block) = self.block_of(index);
        stage.forward_block(block, map, pass)
    }

    fn forward_head(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.head.forward(map, pass) // [B, K]
    }

    fn is_segment_trained(&self, index: usize) -> bool {
        let (stage, block) = self.block_of(index);
        index == 0 && is_trained(&self.stem) || stage.is_block_trained(block)
    }

    fn layer_names(&self) -> LayerNames {
        LayerNames { stem: &["stem"], stages: "stages", after_blocks: &["norm_pre"], undecayed: &[] }
    }
}

/// Global average pool, norm, dropout, classifier.
#[derive(Module, Debug)]
struct Head {
    norm: LayerNorm,
    dropout: Dropout,
    fc: Linear,
}

impl Head {
    /// # Shapes
    /// - `map`: `[B, H, W, C]`
    /// - output: `[B, K]`
    fn forward(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        let [batch, height, width, channels] = map.dims();
        let pooled = map.reshape([batch, height * width, channels]).mean_dim(1).reshape([batch, channels]); // [B, C]
        self.fc.forward(self.dropout.forward(self.norm.forward(pooled), pass))
    }
}
