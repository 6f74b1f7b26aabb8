use burn::module::Module;
use burn::tensor::Tensor;
use vision_nn::{
    BatchNorm, Classifier, ClassifierSpec, Conv2d, Dropout, Initializer, LayerNames, Linear, Pass, block_of_segment,
    is_trained, with_half_weights,
};

use crate::stage::init_stage;
use crate::{Block, BlockForm, EfficientNetConfig, Stage};

/// Side of the stem's kernel.
pub(crate) const STEM_KERNEL: usize = 3;

/// EfficientNet: a strided stem, stages of residual blocks, a 1x1 convolution, a pooled classifier.
#[derive(Module, Debug)]
pub struct EfficientNet {
    conv_stem: Conv2d,
    bn1: BatchNorm,
    blocks: Vec<Stage>,
    conv_head: Conv2d,
    bn2: BatchNorm,
    dropout: Dropout,
    classifier: Linear,
}

impl EfficientNet {
    /// Builds the model with fresh weights.
    pub fn init(config: &EfficientNetConfig, spec: &ClassifierSpec) -> Self {
        let init = &mut Initializer::new(spec.seed, spec.initialization, &spec.device);
        let EfficientNetConfig { stem_channels: stem, head_channels: head, padding, norm_epsilon, .. } = *config;
        let stages = config.block_configs();
        let form = BlockForm { padding, norm_epsilon };
        let mut drop_paths = drop_path_schedule(spec.drop_path, stages.iter().map(Vec::len).sum()).into_iter();
        Self {
            conv_stem: Conv2d::dense([spec.in_channels, stem], STEM_KERNEL, 2, padding, init),
            bn1: BatchNorm::init(stem, norm_epsilon, init).with_silu(),
            blocks: stages.iter().map(|configs| init_stage(configs, form, &mut drop_paths, init)).collect(),
            conv_head: Conv2d::dense([config.last_channels(), head], 1, 1, padding, init),
            bn2: BatchNorm::init(head, norm_epsilon, init).with_silu(),
            dropout: Dropout::new(spec.dropout),
            classifier: Linear {
                weight: init.classifier([spec.num_classes, head]),
                bias: init.constant([spec.num_classes], 0.0),
            },
        }
    }

    fn block_of(&self, segment: usize) -> &Block {
        let (stage, block) = block_of_segment(segment, self.blocks.iter().map(Vec::len));
        &self.blocks[stage][block]
    }
}

/// A segment is a block, the first with the stem, which gives more than it takes.
impl Classifier for EfficientNet {
    fn num_segments(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum()
    }

    fn forward_segment(&self, index: usize, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let map = match index {
            0 => {
                let map = map.permute([0, 2, 3, 1]); // [B, H, W, in]
                self.bn1.forward(self.conv_stem.forward(map), pass) // [B, H/2, W/2, C]
            }
            _ => map,
        };
        let block = self.block_of(index);
        with_half_weights(block, map.dtype(), || block.forward(map, pass))
    }

    fn is_segment_trained(&self, index: usize) -> bool {
        let stem = || is_trained(&self.conv_stem) || is_trained(&self.bn1);
        index == 0 && stem() || is_trained(self.block_of(index))
    }

    fn forward_head(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        let map = self.bn2.forward(self.conv_head.forward(map), pass); // [B, H/32, W/32, head]
        let [batch, height, width, channels] = map.dims();
        let pooled = map.reshape([batch, height * width, channels]).mean_dim(1).reshape([batch, channels]); // [B, head]
        self.classifier.forward(self.dropout.forward(pooled, pass)) // [B, K]
    }

    fn layer_names(&self) -> LayerNames {
        LayerNames {
            stem: &["conv_stem", "bn1"],
            stages: "blocks",
            after_blocks: &["conv_head", "bn2"],
            undecayed: &[],
        }
    }
}

/// Drop probabilities that rise linearly with depth from 0, towards `end` behind the last block: timm's
/// [schedule](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/_efficientnet_builder.py#L369) for this family.
fn drop_path_schedule(end: f32, depth: usize) -> Vec<f32> {
    (0..depth).map(|block| end * block as f32 / depth as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_path_rises_from_zero_and_stays_below_its_end() {
        assert_eq!(drop_path_schedule(0.5, 4), [0.0, 0.125, 0.25, 0.375]);
        assert!(drop_path_schedule(0.5, 0).is_empty());
    }
}
