use vision_nn::ClassifierSpec;

use crate::block::{EXPANSION, KERNEL};
use crate::model::PATCH;
use crate::{BlockForm, ConvNext};

/// Sizes of one ConvNeXt.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvNextConfig {
    /// Blocks in each stage.
    pub depths: [usize; 4],
    /// Channels in each stage.
    pub widths: [usize; 4],
    /// Whether the checkpoint stores the MLP as 1x1 convolutions (`[out, in, 1, 1]`), as timm does for the small sizes. The arithmetic is the same.
    pub pointwise_mlp: bool,
    /// Whether blocks normalise responses in place of layer scale: ConvNeXt V2.
    pub response_norm: bool,
}

impl ConvNextConfig {
    /// Builds the model with fresh weights.
    pub fn init(&self, spec: &ClassifierSpec) -> ConvNext {
        ConvNext::init(self, spec)
    }

    pub(crate) fn block_form(&self) -> BlockForm {
        BlockForm { pointwise_mlp: self.pointwise_mlp, response_norm: self.response_norm }
    }

    /// Number of trainable numbers, by arithmetic alone.
    pub fn num_parameters(&self, in_channels: usize, num_classes: usize) -> usize {
        let [first, _, _, last] = self.widths;
        let stem = in_channels * 16 * first + first + 2 * first;
        let downsamples: usize = self.widths.windows(2).map(|pair| 2 * pair[0] + 4 * pair[0] * pair[1] + pair[1]).sum();
        // Layer scale, or weight and bias of the response norm.
        let last_part = if self.response_norm { 2 * 4 } else { 1 };
        // Depthwise 7x7 with bias, norm, two projections with bias.
        let block = |c: usize| 49 * c + c + 2 * c + (4 * c * c + 4 * c) + (4 * c * c + c) + last_part * c;
        let blocks: usize = self.widths.iter().zip(self.depths).map(|(&width, depth)| depth * block(width)).sum();
        stem + downsamples + blocks + 2 * last + last * num_classes + num_classes
    }

    /// Multiply-accumulates of a forward pass over one image of that height and width: of convolutions and linear layers. Norms, activations and pooling are not
    /// counted, as in timm's tables.
    pub fn num_macs(&self, in_channels: usize, num_classes: usize, [height, width]: [usize; 2]) -> u64 {
        let mut grid = [height / PATCH, width / PATCH];
        let mut in_channels = in_channels;
        let mut macs = 0;
        for (stage, (&channels, depth)) in self.widths.iter().zip(self.depths).enumerate() {
            // The stem's patches, or the 2x2 ones between stages.
            let kernel = if stage == 0 { PATCH } else { 2 };
            if stage > 0 {
                grid = grid.map(|side| side / kernel);
            }
            let block = KERNEL * KERNEL * channels + 2 * EXPANSION * channels * channels;
            macs += grid[0] * grid[1] * (kernel * kernel * in_channels * channels + depth * block);
            in_channels = channels;
        }
        (macs + in_channels * num_classes) as u64
    }
}
