//! Operations that Burn composes or runs slowly, as one operation each, with its own backward pass.
//!
//! On the CPU they run the loops of `cpu-kernels`; elsewhere they are composed of Burn's own operations. What is stored in half precision is
//! computed on in f32.

mod depthwise;
mod depthwise_cpu;
mod gelu;
pub(crate) mod host;
mod layer_norm;
mod response_norm;
mod softmax;
pub(crate) mod storage;
#[cfg(test)]
pub(crate) mod test_tensors;
mod wide_conv;

pub use depthwise::depthwise_conv2d;
pub use gelu::gelu;
pub use layer_norm::layer_norm;
pub use response_norm::response_norm;
pub use softmax::softmax;
pub(crate) use wide_conv::wide_conv2d;
