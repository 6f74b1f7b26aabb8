use burn::module::Module;
use burn::tensor::Tensor;
use vision_nn::{Initializer, LayerNorm, Pass, PatchConv2d, is_trained, with_half_weights};

use crate::model::{NORM_EPSILON, WEIGHT_STD};
use crate::{Block, BlockForm};

/// Blocks at one resolution, after a norm and a 2x2 convolution that halve it (not in the first stage).
#[derive(Module, Debug)]
pub struct Stage {
    downsample: Option<(LayerNorm, PatchConv2d)>,
    blocks: Vec<Block>,
}

impl Stage {
    /// A stage of `drop_paths.len()` blocks; `in_channels == out_channels` means no downsampling.
    pub fn init(
        in_channels: usize,
        out_channels: usize,
        form: BlockForm,
        drop_paths: &[f32],
        init: &mut Initializer,
    ) -> Self {
        let downsample = (in_channels != out_channels).then(|| {
            let norm = LayerNorm::init(in_channels, NORM_EPSILON, init);
            (norm, PatchConv2d::init(in_channels, out_channels, 2, WEIGHT_STD, init))
        });
        let blocks = drop_paths.iter().map(|&drop_path| Block::init(out_channels, form, drop_path, init)).collect();
        Self { downsample, blocks }
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Refines a map by one block. Before the first the grid is halved, if this stage does so.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, C]`
    /// - output: the same, but `[B, H / 2, W / 2, out]` where the grid is halved
    pub fn forward_block(&self, block: usize, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let map = match &self.downsample {
            Some((norm, conv)) if block == 0 => conv.forward(norm.forward(map)), // [B, H/2, W/2, out]
            _ => map,
        };
        let block = &self.blocks[block];
        with_half_weights(block, map.dtype(), || block.forward(map, pass))
    }

    /// Whether a gradient is wanted for anything that [`forward_block`](Self::forward_block) reads.
    pub fn is_block_trained(&self, block: usize) -> bool {
        block == 0 && is_trained(&self.downsample) || is_trained(&self.blocks[block])
    }
}
