//! ConvNeXt: a pure convolutional classifier, modernised block by block after Swin; and V2, which normalises responses.
//!
//! Liu et al., "A ConvNet for the 2020s", 2022, <https://arxiv.org/abs/2201.03545>; Woo et al., "ConvNeXt V2", 2023,
//! <https://arxiv.org/abs/2301.00808>. Names, sizes and initialisation follow timm's
//! [`convnext.py`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/convnext.py), so that its checkpoints
//! load tensor by tensor. It never trains, reads files or prints.
//!
//! Maps are channels-last throughout: the depthwise convolution, the norms and the projections all want it so.
//!
//! Shapes: B batch, C channels, H W grid, N rows (= B H W), K classes.

#![warn(missing_docs)]

mod block;
mod config;
mod model;
mod response_norm;
mod stage;
mod variants;

pub use block::{Block, BlockForm};
pub use config::ConvNextConfig;
pub use model::ConvNext;
pub use response_norm::GlobalResponseNorm;
pub use stage::Stage;
pub use variants::{VARIANTS, Variant, find_variant};
