//! Loops over slices of numbers that the CPU backend runs most of its time in, in the widest instructions that the processor has.
//!
//! It knows no tensor, no tape and no model: shapes come in, slices come in, a vector goes out. Sums are cut into parts by shapes
//! alone, so that a result does not depend on the number of threads.

#![warn(missing_docs)]

mod activation;
mod adamw;
mod attention;
mod batch_norm;
mod block;
mod convolution;
mod cross_entropy;
mod depthwise;
mod exponential;
mod gelu;
mod layer_norm;
mod matrix;
mod order;
mod output;
mod parameters;
mod pixels;
mod residual;
mod response_norm;
mod sgd;
mod squeeze_excite;
mod sums;
#[cfg(test)]
mod test_numbers;

pub use activation::Activation;
pub use adamw::{AdamWStep, adamw_of_all};
pub use attention::{WindowAttention, WindowAttentionGradient};
pub use batch_norm::{BatchNorm, BatchNormGradient, Moments, moments};
pub use convolution::Convolution;
pub use cross_entropy::{cross_entropy, cross_entropy_gradient};
pub use depthwise::{DepthwiseShape, StridedDepthwise};
pub use gelu::{gelu, gelu_gradient, gelu_in_place, gelu_with_gradient};
pub use layer_norm::{LayerNormGradient, layer_norm, layer_norm_gradient};
pub use matrix::{Matrix, product, product_of_gelu};
pub use order::{Axis, in_order};
pub use parameters::{Moved, blend_all, scale_all};
pub use pixels::{PixelRectangle, PixelSteps, Pixels, WHOLE_WEIGHT};
pub use residual::{Residual, Scaling};
pub use response_norm::{ResponseNorm, ResponseNormGradient};
pub use sgd::{SgdStep, sgd_of_all};
pub use squeeze_excite::{SqueezeExcite, SqueezeExciteGradient};
pub use sums::{squares_of_all, sum_of_rows};
