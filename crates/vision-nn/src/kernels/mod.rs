//! Operations that Burn composes or runs slowly, as one operation each, with its own backward pass.
//!
//! On the CPU they run the loops of `cpu-kernels`; elsewhere they are Burn's own operations, or composed of them.

mod depthwise;
mod depthwise_cpu;
mod gelu;
pub(crate) mod host;
mod layer_norm;
mod linear;
mod softmax;

pub use depthwise::depthwise_conv2d;
pub use gelu::gelu;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use softmax::softmax;
