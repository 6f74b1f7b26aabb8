//! ConvNeXt: a pure convolutional classifier, modernised block by block after Swin.
//!
//! Liu et al., "A ConvNet for the 2020s", 2022, <https://arxiv.org/abs/2201.03545>. Names, sizes and initialisation follow timm's
//! [`convnext.py`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.11/timm/models/convnext.py), so that its checkpoints
//! load tensor by tensor. It never trains, reads files or prints.
//!
//! Maps are channels-last throughout: the depthwise convolution, the norms and the projections all want it so.
//!
//! Shapes: B batch, C channels, H W grid, N rows (= B H W), K classes.

#![warn(missing_docs)]

mod block;
mod config;
mod model;
mod stage;

pub use block::Block;
pub use config::{ConvNextConfig, VARIANTS, Variant, find_variant};
pub use model::ConvNext;
pub use stage::Stage;
