//! Turns a recorded forward pass into an ONNX file: [`record`] runs a model on Burn's capture device, where nothing is computed, and
//! [`Recording::to_onnx`] says every operation of it in ONNX, with the weights that are given.
//!
//! There is no second description of any model that could disagree with its `forward`: what a family computes is what is written.
//!
//! It never runs a model, reads an image or a file, and never prints.

#![warn(missing_docs)]

mod batch;
mod error;
mod message;
mod recording;
mod translate;
mod wire;

pub use error::ExportError;
pub use message::OPSET;
pub use recording::{INPUT, OUTPUT, Recording, record};
