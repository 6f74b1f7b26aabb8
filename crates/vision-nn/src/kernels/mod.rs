//! Operations that Burn composes or runs slowly, as one operation each, with its own backward pass.
//!
//! An operation has a form that is composed of Burn's own, which runs on every backend, and faster ones where they are worth it.

mod depthwise;
mod depthwise_cpu;

pub use depthwise::depthwise_conv2d;
