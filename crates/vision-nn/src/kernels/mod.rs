//! Operations that Burn composes or runs slowly, as one operation each, with its own backward pass.
//!
//! On the CPU they run the loops of `cpu-kernels`, on CUDA and WebGPU the kernels of `cube` where there are some; elsewhere they are composed of Burn's
//! own operations. What is stored in half precision is computed on in f32.

mod adamw;
pub(crate) mod batch_norm;
pub mod choice;
mod chunks;
mod columns;
mod convolution;
mod cross_entropy;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cube;
mod depthwise;
mod gelu;
mod gelu_linear;
pub(crate) mod host;
mod layer_norm;
mod linear;
mod parameters;
pub(crate) mod per_channel;
mod permute;
mod pixels;
mod prepared_copy;
mod recorded;
mod residual;
mod response_norm;
mod softmax;
mod squeeze_excite;
pub(crate) mod storage;
#[cfg(test)]
pub(crate) mod test_definition;
#[cfg(test)]
pub(crate) mod test_tensors;
mod window_attention;

pub use adamw::{adamw, has_adamw, sum_of_squares};
pub(crate) use convolution::dense_convolution;
pub use cross_entropy::cross_entropy;
pub(crate) use depthwise::depthwise;
pub use depthwise::depthwise_conv2d;
pub use gelu::gelu;
pub use gelu_linear::{gelu_linear, gelu_projection};
pub use layer_norm::layer_norm;
pub use linear::{SETTLED, linear};
pub use parameters::{Moving, Steps, blend_all, cast_all, is_card, move_all, scale_all, squares_of_all, takes_lists};
pub use permute::permute;
pub use pixels::{
    finished_images_of_pixels, images_of_pixels, images_of_words, takes_words, words_of_images, words_of_steps,
};
pub(crate) use prepared_copy::prepared_copy;
pub use recorded::{Cut, Scratch, in_burns_operations, recorded_overwrites, recorded_scratch};
pub use residual::BranchScale;
pub(crate) use residual::residual;
pub use response_norm::response_norm;
pub use softmax::softmax;
pub(crate) use squeeze_excite::squeeze_excite;
pub use window_attention::{has_window_attention, window_attention};
