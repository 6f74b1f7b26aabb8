use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, module};
use cpu_kernels::{Convolution, DepthwiseShape, StridedDepthwise};

use crate::half_weights::parameter_as;
use crate::kernels::{dense_convolution, depthwise};
use crate::{Initializer, linear};

/// What stands around a map so that its windows fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    /// Half the kernel, rounded down, on every side: PyTorch's way.
    #[default]
    Symmetric,
    /// As much as `ceil(size / stride)` windows need, the odd cell at the bottom and right: TensorFlow's `SAME`.
    Same,
}

impl Padding {
    /// Cells before the first and behind the last along an axis of `size` cells.
    ///
    /// `Same` as in timm's
    /// [`pad_same`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/layers/padding.py).
    pub fn around(self, size: usize, kernel: usize, stride: usize) -> (usize, usize) {
        match self {
            Self::Symmetric => (kernel / 2, kernel / 2),
            Self::Same => {
                let covered = (size.div_ceil(stride).max(1) - 1) * stride + kernel;
                let total = covered.saturating_sub(size);
                (total / 2, total - total / 2)
            }
        }
    }
}

/// A square convolution over a channels-last map, without bias: a batch norm stands behind it and would take the bias away.
///
/// Dense, or depthwise with one kernel a channel.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// Weight, `[out, in, kernel, kernel]`, or `[C, 1, kernel, kernel]` where it is depthwise.
    pub weight: Param<Tensor<4>>,
    stride: usize,
    depthwise: bool,
    #[module(skip)]
    padding: Padding,
}

impl Conv2d {
    /// A dense layer, initialised as the EfficientNet reference does.
    pub fn dense(
        [in_channels, out_channels]: [usize; 2],
        kernel: usize,
        stride: usize,
        padding: Padding,
        init: &mut Initializer,
    ) -> Self {
        let weight = init.convolution([out_channels, in_channels, kernel, kernel], 1);
        Self { weight, stride, depthwise: false, padding }
    }

    /// A depthwise layer with an odd kernel, initialised as the EfficientNet reference does.
    pub fn depthwise(channels: usize, kernel: usize, stride: usize, padding: Padding, init: &mut Initializer) -> Self {
        let weight = init.convolution([channels, 1, kernel, kernel], channels);
        Self { weight, stride, depthwise: true, padding }
    }

    /// Convolves.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - output: `[B, H / stride, W / stride, out]`, rounded up for odd kernels
    pub fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        let [_, _, kernel, _] = self.weight.dims();
        match (self.depthwise, kernel, self.stride) {
            (false, 1, 1) => self.as_matrix_product(map),
            (true, _, _) => self.channel_by_channel(map),
            _ => self.over_windows(map),
        }
    }

    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - output: `[B, H / stride, W / stride, out]`
    fn over_windows(&self, map: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, in_channels] = map.dims();
        let [out_channels, _, kernel, _] = self.weight.dims();
        let (before, output) = self.windows([height, width], kernel);
        let windows = Convolution {
            batch,
            size: [height, width],
            channels: [in_channels, out_channels],
            kernel,
            stride: self.stride,
            before,
            output,
        };
        dense_convolution(&map, &self.weight.val(), windows).unwrap_or_else(|| self.strided(map))
    }

    /// Cells before the first row and column of a map, and how many windows there are along both.
    fn windows(&self, size: [usize; 2], kernel: usize) -> ([usize; 2], [usize; 2]) {
        let around = size.map(|size| self.padding.around(size, kernel, self.stride));
        let count = |axis: usize| (size[axis] + around[axis].0 + around[axis].1 - kernel) / self.stride + 1;
        (around.map(|(before, _)| before), [count(0), count(1)])
    }

    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - output: `[B, H, W, out]`
    fn as_matrix_product(&self, map: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, in_channels] = map.dims();
        let [out_channels, _, _, _] = self.weight.dims();
        let rows = map.reshape([batch * height * width, in_channels]); // [N, in]
        let weight = parameter_as(&self.weight, rows.dtype()).reshape([out_channels, in_channels]);
        linear(rows, weight, None).reshape([batch, height, width, out_channels])
    }

    /// # Shapes
    /// - `map`: `[B, H, W, C]`
    /// - output: `[B, H / stride, W / stride, C]`
    fn channel_by_channel(&self, map: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = map.dims();
        let [_, _, kernel, _] = self.weight.dims();
        let shape = DepthwiseShape { batch, height, width, channels, kernel };
        let (before, output) = self.windows([height, width], kernel);
        depthwise(map, self.weight.val(), None, StridedDepthwise { shape, stride: self.stride, before, output })
    }

    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - output: `[B, H / stride, W / stride, out]`
    fn strided(&self, map: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = map.dims();
        let [_, _, kernel, _] = self.weight.dims();
        let (top, bottom) = self.padding.around(height, kernel, self.stride);
        let (left, right) = self.padding.around(width, kernel, self.stride);
        let map = map.permute([0, 3, 1, 2]); // [B, in, H, W]
        // Zeros that stand on all sides alike are the kernel's business.
        let (map, padding) = match (top, left) == (bottom, right) {
            true => (map, [top, left]),
            false => (surround(map, [top, bottom], [left, right]), [0, 0]),
        };
        let weight = parameter_as(&self.weight, map.dtype());
        let options = ConvOptions::new([self.stride; 2], padding, [1, 1], 1);
        module::conv2d(map, weight, None, options).permute([0, 2, 3, 1]) // [B, H/stride, W/stride, out]
    }
}

/// A map with zeros around it. Burn's own padding fills them on the host and copies them to the device, in every pass.
///
/// # Shapes
/// - `map`: `[B, C, H, W]`
/// - output: `[B, C, top + H + bottom, left + W + right]`
fn surround(map: Tensor<4>, [top, bottom]: [usize; 2], [left, right]: [usize; 2]) -> Tensor<4> {
    let [batch, channels, height, width] = map.dims();
    let shape = [batch, channels, top + height + bottom, left + width + right];
    let zeros = Tensor::zeros(shape, (&map.device(), map.dtype()));
    zeros.slice_assign([0..batch, 0..channels, top..top + height, left..left + width], map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_what_tensorflow_adds() {
        // size, kernel, stride: before, behind. From TensorFlow's "Neural network operations: padding" by hand.
        for (size, kernel, stride, expected) in [
            (224, 3, 2, (0, 1)),
            (112, 5, 2, (1, 2)),
            (15, 3, 2, (1, 1)),
            (7, 5, 2, (2, 2)),
            (8, 3, 1, (1, 1)),
            (1, 3, 2, (1, 1)),
            (8, 1, 2, (0, 0)),
        ] {
            assert_eq!(Padding::Same.around(size, kernel, stride), expected, "{size} {kernel} {stride}");
        }
    }
}
