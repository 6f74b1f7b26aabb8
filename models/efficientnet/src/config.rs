use vision_nn::{ClassifierSpec, Padding};

use crate::EfficientNet;
use crate::model::STEM_KERNEL;
use crate::scaling::round_channels;

/// What a stage's blocks are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// One dense convolution, with a residual where it keeps the shape; timm's `cn`.
    ConvNormAct,
    /// Depthwise, then 1x1; timm's `ds`.
    DepthwiseSeparable,
    /// Dense expansion, then 1x1; timm's `er`, the V2 paper's fused MBConv.
    EdgeResidual,
    /// 1x1 expansion, depthwise, 1x1; timm's `ir`, the papers' MBConv.
    InvertedResidual,
}

/// Blocks of one kind in a row; the first may halve the grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StageConfig {
    /// What its blocks are made of.
    pub kind: BlockKind,
    /// Number of blocks.
    pub blocks: usize,
    /// Side of the kernel that is not 1x1.
    pub kernel: usize,
    /// Stride of the first block.
    pub stride: usize,
    /// Width inside a block over its input's width. Without meaning for blocks that do not expand, where it is 1.
    pub expansion: usize,
    /// Channels that come out.
    pub channels: usize,
    /// Whether its blocks squeeze and excite, to a quarter of their input's width.
    pub squeeze: bool,
}

/// Sizes of one EfficientNet, with nothing left to scale.
#[derive(Debug, Clone, PartialEq)]
pub struct EfficientNetConfig {
    /// Channels behind the stem.
    pub stem_channels: usize,
    /// Its stages.
    pub stages: Vec<StageConfig>,
    /// Channels that are pooled.
    pub head_channels: usize,
    /// What stands around maps.
    pub padding: Padding,
    /// Added to the variance in every norm.
    pub norm_epsilon: f64,
}

/// One block's sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockConfig {
    /// What it is made of.
    pub kind: BlockKind,
    /// Side of the kernel that is not 1x1.
    pub kernel: usize,
    /// Its stride.
    pub stride: usize,
    /// Channels that come in.
    pub in_channels: usize,
    /// Channels inside.
    pub hidden_channels: usize,
    /// Channels that come out.
    pub out_channels: usize,
    /// Channels between squeezing and exciting, if it does.
    pub squeezed_channels: Option<usize>,
}

impl StageConfig {
    /// The stage's blocks, behind a map of `in_channels`.
    pub fn block_configs(&self, in_channels: usize) -> Vec<BlockConfig> {
        (0..self.blocks)
            .map(|turn| self.block_config(turn, if turn == 0 { in_channels } else { self.channels }))
            .collect()
    }

    fn block_config(&self, turn: usize, in_channels: usize) -> BlockConfig {
        let hidden_channels = match self.kind {
            BlockKind::ConvNormAct | BlockKind::DepthwiseSeparable => in_channels,
            BlockKind::EdgeResidual | BlockKind::InvertedResidual => {
                round_channels((in_channels * self.expansion) as f64, DEFAULT_ROUND_LIMIT)
            }
        };
        BlockConfig {
            kind: self.kind,
            kernel: self.kernel,
            stride: if turn == 0 { self.stride } else { 1 },
            in_channels,
            hidden_channels,
            out_channels: self.channels,
            squeezed_channels: self.squeeze.then(|| squeezed(hidden_channels, self.expansion)),
        }
    }
}

/// timm's `round_limit` where none is named.
pub(crate) const DEFAULT_ROUND_LIMIT: f64 = 0.9;

/// A quarter of the block's input, counted from what is inside, as timm does; halves round to even, as in Python.
fn squeezed(hidden_channels: usize, expansion: usize) -> usize {
    const RATIO: f64 = 0.25;
    (hidden_channels as f64 * (RATIO / expansion as f64)).round_ties_even() as usize
}

impl BlockConfig {
    /// Whether the input is added to what comes out.
    pub fn has_skip(&self) -> bool {
        self.in_channels == self.out_channels && self.stride == 1
    }

    /// Number of trainable numbers.
    fn num_parameters(&self) -> usize {
        let Self { in_channels, hidden_channels: hidden, out_channels, .. } = *self;
        let window = self.kernel * self.kernel;
        let norm = |channels: usize| 2 * channels;
        let squeeze = self.squeezed_channels.map_or(0, |squeezed| 2 * hidden * squeezed + squeezed + hidden);
        let project = hidden * out_channels + norm(out_channels);
        match self.kind {
            BlockKind::ConvNormAct => window * in_channels * out_channels + norm(out_channels),
            BlockKind::DepthwiseSeparable => window * hidden + norm(hidden) + squeeze + project,
            BlockKind::EdgeResidual => window * in_channels * hidden + norm(hidden) + squeeze + project,
            BlockKind::InvertedResidual => {
                in_channels * hidden + norm(hidden) + window * hidden + norm(hidden) + squeeze + project
            }
        }
    }
}

impl BlockConfig {
    /// Multiply-accumulates over a map of `grid`, and the grid behind the block.
    fn num_macs(&self, grid: [usize; 2]) -> (usize, [usize; 2]) {
        let Self { in_channels, hidden_channels: hidden, out_channels, .. } = *self;
        let window = self.kernel * self.kernel;
        let behind = grid.map(|side| side.div_ceil(self.stride));
        let [before, after] = [grid, behind].map(|[height, width]| height * width);
        let squeeze = self.squeezed_channels.map_or(0, |squeezed| 2 * hidden * squeezed);
        let project = after * hidden * out_channels;
        let macs = match self.kind {
            BlockKind::ConvNormAct => after * window * in_channels * out_channels,
            BlockKind::DepthwiseSeparable => after * window * hidden + squeeze + project,
            BlockKind::EdgeResidual => after * window * in_channels * hidden + squeeze + project,
            BlockKind::InvertedResidual => before * in_channels * hidden + after * window * hidden + squeeze + project,
        };
        (macs, behind)
    }
}

impl EfficientNetConfig {
    /// Builds the model with fresh weights.
    pub fn init(&self, spec: &ClassifierSpec) -> EfficientNet {
        EfficientNet::init(self, spec)
    }

    /// The blocks of each stage.
    pub fn block_configs(&self) -> Vec<Vec<BlockConfig>> {
        let mut in_channels = self.stem_channels;
        let of_stage = |stage: &StageConfig| {
            let blocks = stage.block_configs(in_channels);
            in_channels = stage.channels;
            blocks
        };
        self.stages.iter().map(of_stage).collect()
    }

    /// Channels behind the last stage.
    pub fn last_channels(&self) -> usize {
        self.stages.last().map_or(self.stem_channels, |stage| stage.channels)
    }

    /// Number of trainable numbers, by arithmetic alone. Running statistics are not trained, and not counted.
    pub fn num_parameters(&self, in_channels: usize, num_classes: usize) -> usize {
        let Self { stem_channels: stem, head_channels: head, .. } = *self;
        let blocks: usize = self.block_configs().iter().flatten().map(BlockConfig::num_parameters).sum();
        let ends = 9 * in_channels * stem + 2 * stem + self.last_channels() * head + 2 * head;
        ends + blocks + head * num_classes + num_classes
    }

    /// Multiply-accumulates of a forward pass over one image of that height and width: of convolutions and linear layers. Norms, activations, gates and pooling
    /// are not counted.
    pub fn num_macs(&self, in_channels: usize, num_classes: usize, image: [usize; 2]) -> u64 {
        let mut grid = image.map(|side| side.div_ceil(2));
        let mut macs = grid[0] * grid[1] * STEM_KERNEL * STEM_KERNEL * in_channels * self.stem_channels;
        for block in self.block_configs().iter().flatten() {
            let (of_block, behind) = block.num_macs(grid);
            macs += of_block;
            grid = behind;
        }
        macs += grid[0] * grid[1] * self.last_channels() * self.head_channels;
        (macs + self.head_channels * num_classes) as u64
    }
}
