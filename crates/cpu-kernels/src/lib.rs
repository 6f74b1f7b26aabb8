//! Loops over slices of numbers that the CPU backend runs most of its time in, in the widest instructions that the processor has.
//!
//! It knows no tensor, no tape and no model: shapes come in, slices come in, a vector goes out. No sum is shared between
//! threads, so that a result does not depend on their number.

#![warn(missing_docs)]

mod block;
mod depthwise;

pub use depthwise::DepthwiseShape;
