use vision_nn::Padding;

use crate::{EfficientNetConfig, StageConfig};

/// Stages before they are scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Architecture {
    /// Channels behind the stem.
    pub stem_channels: usize,
    /// Its stages.
    pub stages: &'static [StageConfig],
    /// Channels that are pooled.
    pub head_channels: usize,
    /// Whether the head grows with the width.
    pub head_scales: bool,
    /// Rounding may not leave less than this share of a width; see [`round_channels`].
    pub round_limit: f64,
}

/// How much wider and deeper a variant is than its architecture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Of channels.
    pub width: f64,
    /// Of blocks in a stage.
    pub depth: f64,
    /// Of blocks in the last two stages.
    pub late_depth: f64,
}

impl Scaling {
    /// As the architecture is.
    pub const NONE: Self = Self::new(1.0, 1.0);

    /// Width, and the same depth everywhere.
    pub const fn new(width: f64, depth: f64) -> Self {
        Self { width, depth, late_depth: depth }
    }
}

impl Architecture {
    /// Scales it, by timm's
    /// [rules](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/_efficientnet_builder.py#L232): widths to multiples
    /// of eight, depths rounded up.
    pub fn scaled(&self, scaling: &Scaling, padding: Padding, norm_epsilon: f64) -> EfficientNetConfig {
        let width = |channels: usize| round_channels(channels as f64 * scaling.width, self.round_limit);
        let late = self.stages.len().saturating_sub(2);
        let scaled_stage = |(turn, stage): (usize, &StageConfig)| {
            let depth = if turn < late { scaling.depth } else { scaling.late_depth };
            let blocks = (stage.blocks as f64 * depth).ceil() as usize;
            StageConfig { blocks: blocks.max(1), channels: width(stage.channels), ..*stage }
        };
        EfficientNetConfig {
            stem_channels: width(self.stem_channels),
            stages: self.stages.iter().enumerate().map(scaled_stage).collect(),
            head_channels: if self.head_scales { width(self.head_channels) } else { self.head_channels },
            padding,
            norm_epsilon,
        }
    }
}

/// The nearest multiple of eight, at least eight, and one more where less than `limit` of the width were left;
/// timm's [`make_divisible`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/layers/helpers.py#L55).
pub fn round_channels(channels: f64, limit: f64) -> usize {
    const DIVISOR: usize = 8;
    let nearest = (channels + DIVISOR as f64 / 2.0) as usize / DIVISOR * DIVISOR;
    let rounded = nearest.max(DIVISOR);
    if (rounded as f64) < limit * channels { rounded + DIVISOR } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_round_to_the_nearest_eight_but_not_far_down() {
        // b1's stem at 1.1, V2-rw_t's at 0.8; 11.9 would round to 8, less than nine tenths of it.
        for (channels, limit, expected) in [
            (32.0 * 1.1, 0.9, 32),
            (24.0 * 0.8, 0.9, 24),
            (1.0, 0.9, 8),
            (11.9, 0.9, 16),
            (11.9, 0.0, 8),
            (12.0, 0.9, 16),
        ] {
            assert_eq!(round_channels(channels, limit), expected, "{channels} {limit}");
        }
    }
}
