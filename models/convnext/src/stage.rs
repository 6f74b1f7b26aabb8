use burn::module::Module;
use burn::tensor::Tensor;
use vision_nn::{Initializer, LayerNorm, Pass, PatchConv2d};

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

    /// Halves the grid if this stage does, then refines it.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - output: `[B, H / 2, W / 2, out]`, or `[B, H, W, out]` in the first stage
    pub fn forward(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let map = match &self.downsample {
            Some((norm, conv)) => conv.forward(norm.forward(map)), // [B, H/2, W/2, out]
            None => map,
        };
        self.blocks.iter().fold(map, |map, block| block.forward(map, pass))
    }
}
