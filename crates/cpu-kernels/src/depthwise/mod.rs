//! Depthwise convolution over channels-last maps: a square kernel a channel, any stride, zeros around the map.

mod correlate;
mod gather;
mod plane;

use crate::block::{Block, LANES};
use gather::Gather;

/// B, H, W, C of the map and k of the kernel, which is odd: stride 1, and zeros around the map that keep its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepthwiseShape {
    /// Images.
    pub batch: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Side of the kernel.
    pub kernel: usize,
}

impl DepthwiseShape {
    /// The convolution.
    ///
    /// # Shapes
    /// - `map` and result: `[B, H, W, C]`
    /// - `weight`: `[C, k, k]`
    /// - `bias`: `[C]`
    ///
    /// # Panics
    /// When a slice is shorter than its shape.
    pub fn forward(&self, map: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        self.keeping_size().forward(map, weight, Some(bias))
    }

    /// The gradient of the map.
    ///
    /// # Shapes
    /// - `gradient` and result: `[B, H, W, C]`
    /// - `weight`: `[C, k, k]`
    ///
    /// # Panics
    /// When a slice is shorter than its shape.
    pub fn map_gradient(&self, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        self.keeping_size().map_gradient(gradient, weight)
    }

    /// The gradient of the weight.
    ///
    /// # Shapes
    /// - `map`, `gradient`: `[B, H, W, C]`
    /// - result: `[C, k, k]`
    ///
    /// # Panics
    /// When a slice is shorter than its shape.
    pub fn weight_gradient(&self, map: &[f32], gradient: &[f32]) -> Vec<f32> {
        self.keeping_size().weight_gradient(map, gradient)
    }

    fn keeping_size(&self) -> StridedDepthwise {
        let &Self { height, width, kernel, .. } = self;
        StridedDepthwise { shape: *self, stride: 1, before: [kernel / 2; 2], output: [height, width] }
    }
}

/// A depthwise convolution whose windows begin `stride` cells apart, the first of them `before` cells outside the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StridedDepthwise {
    /// Of the map and the kernel, which may be even here.
    pub shape: DepthwiseShape,
    /// Cells between windows, down and across.
    pub stride: usize,
    /// Cells above and to the left of the map that the first window covers.
    pub before: [usize; 2],
    /// H' and W': windows down and across. Where they reach beyond the map there are zeros.
    pub output: [usize; 2],
}

impl StridedDepthwise {
    /// The convolution.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, C]`
    /// - `weight`: `[C, k, k]`
    /// - `bias`: `[C]`
    /// - result: `[B, H', W', C]`
    ///
    /// # Panics
    /// When a slice is shorter than its shape.
    pub fn forward(&self, map: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        Gather::forward(self).run(map, &self.taps_by_channel(weight), bias)
    }

    /// The gradient of the map.
    ///
    /// # Shapes
    /// - `gradient`: `[B, H', W', C]`
    /// - `weight`: `[C, k, k]`
    /// - result: `[B, H, W, C]`
    ///
    /// # Panics
    /// When a slice is shorter than its shape.
    pub fn map_gradient(&self, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        Gather::backward(self).run(gradient, &self.taps_by_channel(weight), None)
    }

    /// The gradient of the weight.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, C]`
    /// - `gradient`: `[B, H', W', C]`
    /// - result: `[C, k, k]`
    ///
    /// # Panics
    /// When a slice is shorter than its shape.
    pub fn weight_gradient(&self, map: &[f32], gradient: &[f32]) -> Vec<f32> {
        correlate::correlate(map, gradient, self)
    }

    fn blocks(&self) -> usize {
        self.shape.channels.div_ceil(LANES)
    }

    fn taps(&self) -> usize {
        self.shape.kernel * self.shape.kernel
    }

    /// The kernel as one block of channels a tap, `[blocks, k * k]`, zeros beyond the last channel.
    fn taps_by_channel(&self, weight: &[f32]) -> Vec<Block> {
        let taps = self.taps();
        let mut blocks = vec![[0.0; LANES]; self.blocks() * taps];
        for (channel, kernel) in weight.chunks_exact(taps).enumerate() {
            for (tap, &value) in kernel.iter().enumerate() {
                blocks[channel / LANES * taps + tap][channel % LANES] = value;
            }
        }
        blocks
    }
}

#[cfg(test)]
mod tests;
