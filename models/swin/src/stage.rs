use burn::module::{Module, Param};
use burn::tensor::Tensor;
use vision_nn::{Initializer, LayerNorm, Pass, linear};

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

    /// Halves the grid if this stage does, then refines it.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - output: `[B, H / 2, W / 2, out]`, halves rounded up, or `[B, H, W, out]` in the first stage
    pub fn forward(&self, map: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let map = match &self.downsample {
            Some(merging) => merging.forward(map), // [B, H/2, W/2, out]
            None => map,
        };
        let [_, height, width, _] = map.dims();
        let (shifted, unshifted) = (self.layout, self.layout.unshifted());
        // One mask for all blocks of the stage. timm keeps one for each.
        let mask = shifted.shift_mask([height, width], &map.device()); // [nW, N, N]
        self.blocks.iter().enumerate().fold(map, |map, (index, block)| {
            if index % 2 == 0 {
                block.forward(map, unshifted, None, pass)
            } else {
                block.forward(map, shifted, mask.as_ref(), pass)
            }
        })
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
