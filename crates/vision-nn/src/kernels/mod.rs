//! Operations that Burn composes or runs slowly, as one operation each, with its own backward pass.
//!
//! On the CPU they run the loops of `cpu-kernels`; elsewhere they are Burn's own operations, or composed of them.

mod adamw;
mod depthwise;
mod depthwise_cpu;
mod gelu;
pub(crate) mod host;
mod layer_norm;
mod linear;
mod residual;
mod softmax;
mod squeeze_excite;
mod strided_depthwise;
mod window_attention;

pub use adamw::{adamw, has_adamw, sum_of_squares};
pub use depthwise::depthwise_conv2d;
pub use gelu::gelu;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub(crate) use residual::residual;
pub use softmax::softmax;
pub(crate) use squeeze_excite::squeeze_excite;
pub(crate) use strided_depthwise::strided_depthwise;
pub use window_attention::{has_window_attention, window_attention};
