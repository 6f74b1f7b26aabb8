use burn::module::{Module, Param};
use burn::tensor::Tensor;
use vision_nn::{Initializer, LayerNorm, Pass, is_trained, linear, with_half_weights};

use crate::model::{NORM_EPSILON, WEIGHT_STD};
use crate::window::pad_map;
use crate::{Block, WindowLayout};

/// Blocks at one resolution, every second with shifted windows, after a merging of patches that halves it (not in the first stage).
#[derive(Module, Debug)]
pub struct Stage {
    downsample: Option<PatchMerging>,
    blocks: Vec<Block>,
    #[module(skip)]
    layout: WindowLayout,
}

impl Stage {
    /// A stage of `drop_paths.len()` blocks; `in_channels == out_channels` means no merging.
    pub fn init(
        [in_channels, out_channels]: [usize; 2],
        heads: usize,
        layout: WindowLayout,
        drop_paths: &[f32],
        init: &mut Initializer,
    ) -> Self {
        let downsample = (in_channels != out_channels).then(|| PatchMerging::init(in_channels, out_channels, init));
        let blocks =
            drop_paths.iter().map(|&drop_path| Block::init(out_channels, heads, layout, drop_path, init)).collect();
        Self { downsample, blocks, layout }
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Refines a map by one block, every second with shifted windows. Before the first the grid is halved, if this stage does so.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, C]`
    /// - output: the same, but `[B, H / 2, W / 2, out]`, halves rounded up, where the grid is halved
    pub fn forward_block(&self, block: usize, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let map = match &self.downsample {
            Some(merging) if block == 0 => merging.forward(map), // [B, H/2, W/2, out]
            _ => map,
        };
        let layout = if block.is_multiple_of(2) { self.layout.unshifted() } else { self.layout };
        let block = &self.blocks[block];
        with_half_weights(block, map.dtype(), || block.forward(map, layout, pass))
    }

    /// Whether a gradient is wanted for anything that [`forward_block`](Self::forward_block) reads.
    pub fn is_block_trained(&self, block: usize) -> bool {
        block == 0 && is_trained(&self.downsample) || is_trained(&self.blocks[block])
    }
}

/// Makes one token of each 2x2: norm of the four side by side, then a projection without bias.
#[derive(Module, Debug)]
pub struct PatchMerging {
    norm: LayerNorm,
    reduction: Reduction,
}

/// A fully connected layer without bias.
#[derive(Module, Debug)]
struct Reduction {
    /// `[out, 4 in]`
    weight: Param<Tensor<2>>,
}

impl PatchMerging {
    /// A layer from `in_channels` to `out_channels`.
    pub fn init(in_channels: usize, out_channels: usize, init: &mut Initializer) -> Self {
        Self {
            norm: LayerNorm::init(4 * in_channels, NORM_EPSILON, init),
            reduction: Reduction { weight: init.weight([out_channels, 4 * in_channels], WEIGHT_STD) },
        }
    }

    /// Halves the grid. A row or column without a neighbour gets one of zeros.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - output: `[B, H / 2, W / 2, out]`, halves rounded up
    pub fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = map.dims();
        let [down, across] = [height.div_ceil(2), width.div_ceil(2)];
        let fours = pad_map(map, [2 * down, 2 * across]).reshape([batch, down, 2, across, 2, channels]);
        let fours = fours.permute([0, 1, 3, 4, 2, 5]); // [B, H/2, W/2, left or right, upper or lower, in]
        let rows = self.norm.forward(fours.reshape([batch * down * across, 4 * channels])); // [B*H/2*W/2, 4 in]
        let rows = linear(rows, self.reduction.weight.val(), None); // [B*H/2*W/2, out]
        let [_, out_channels] = rows.dims();
        rows.reshape([batch, down, across, out_channels])
    }
}
