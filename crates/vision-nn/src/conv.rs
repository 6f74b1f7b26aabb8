use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::Initializer;
use crate::half_weights::parameter_as;
use crate::kernels::host::is_cpu;
use crate::kernels::{depthwise_conv2d, linear, permute};

/// A depthwise convolution over a channels-last map: odd kernel, stride 1, padding that keeps the size.
#[derive(Module, Debug)]
pub struct DepthwiseConv2d {
    /// Weight, `[C, 1, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[C]`.
    pub bias: Param<Tensor<1>>,
}

impl DepthwiseConv2d {
    /// A layer with weights from a truncated normal of standard deviation `std` and a zero bias.
    pub fn init(channels: usize, kernel: usize, std: f32, init: &mut Initializer) -> Self {
        Self { weight: init.weight([channels, 1, kernel, kernel], std), bias: init.constant([channels], 0.0) }
    }

    /// Convolves each channel with its own kernel.
    ///
    /// # Shapes
    /// - `map` and output: `[B, H, W, C]`
    pub fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        depthwise_conv2d(map, self.weight.val(), self.bias.val())
    }
}

/// A convolution whose windows tile the input: stride equals kernel, no padding. What does not fill a window at the right and bottom is left out.
///
/// It is a matrix product over patches, and is computed as one.
#[derive(Module, Debug)]
pub struct PatchConv2d {
    /// Weight, `[out, in, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[out]`.
    pub bias: Param<Tensor<1>>,
}

impl PatchConv2d {
    /// A layer with weights from a truncated normal of standard deviation `std` and a zero bias.
    pub fn init(in_channels: usize, out_channels: usize, kernel: usize, std: f32, init: &mut Initializer) -> Self {
        Self {
            weight: init.weight([out_channels, in_channels, kernel, kernel], std),
            bias: init.constant([out_channels], 0.0),
        }
    }

    /// Embeds the patches of channels-first images.
    ///
    /// # Shapes
    /// - `images`: `[B, in, H, W]`
    /// - output: `[B, H / kernel, W / kernel, out]`
    pub fn forward_images(&self, images: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = images.dims();
        let [_, _, kernel, _] = self.weight.dims();
        let (rows, columns) = (height / kernel, width / kernel);
        let whole = cut(images, [batch, channels, rows * kernel, columns * kernel]);
        let patches = permute(whole.reshape([batch, channels, rows, kernel, columns, kernel]), [0, 2, 4, 1, 3, 5]);
        self.embed(patches) // [B, H/k, W/k, out]
    }

    /// Embeds the patches of a channels-last map.
    ///
    /// # Shapes
    /// - `map`: `[B, H, W, in]`
    /// - output: `[B, H / kernel, W / kernel, out]`
    pub fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = map.dims();
        let [_, _, kernel, _] = self.weight.dims();
        let (rows, columns) = (height / kernel, width / kernel);
        let whole = cut(map, [batch, rows * kernel, columns * kernel, channels]);
        let patches = permute(whole.reshape([batch, rows, kernel, columns, kernel, channels]), [0, 1, 3, 5, 2, 4]);
        self.embed(patches) // [B, H/k, W/k, out]
    }

    /// # Shapes
    /// - `patches`: `[B, rows, columns, in, kernel, kernel]`
    /// - output: `[B, rows, columns, out]`
    fn embed(&self, patches: Tensor<6>) -> Tensor<4> {
        let [batch, rows, columns, channels, kernel, _] = patches.dims();
        let [out_channels, _, _, _] = self.weight.dims();
        let patch = channels * kernel * kernel;
        let patches = patches.reshape([batch * rows * columns, patch]); // [N, in k k]
        let weight = parameter_as(&self.weight, patches.dtype()).reshape([out_channels, patch]); // [out, in k k]
        let bias = parameter_as(&self.bias, patches.dtype());
        linear(patches, weight, Some(bias)).reshape([batch, rows, columns, out_channels])
    }
}

/// The beginning of each axis. On the CPU what is not cut is not sliced, for the gradient of a slice is a copy; on cards the recorded step foretells what
/// memory a step takes with the slice in it, and not without.
fn cut(map: Tensor<4>, sizes: [usize; 4]) -> Tensor<4> {
    let is_whole = map.dims() == sizes && is_cpu(&map.device());
    if is_whole { map } else { map.slice(sizes.map(|size| 0..size)) }
}
