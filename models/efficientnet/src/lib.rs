//! EfficientNet and EfficientNetV2: inverted residual blocks with squeeze and excitation, scaled in width, depth and image size together.
//!
//! Tan and Le, "EfficientNet", 2019, <https://arxiv.org/abs/1905.11946>, and "EfficientNetV2", 2021, <https://arxiv.org/abs/2104.00298>. Names, sizes and
//! initialisation follow timm's
//! [`efficientnet.py`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/efficientnet.py), so that its checkpoints
//! load tensor by tensor. It never trains, reads files or prints.
//!
//! Maps are channels-last throughout: most convolutions here are 1x1, matrix products over rows, and the norms want it so too.
//!
//! Shapes: B batch, C channels, H W grid, K classes.

#![warn(missing_docs)]

mod block;
mod config;
mod model;
mod scaling;
mod stage;
mod variants;

pub use block::{Block, BlockForm, ConvNormAct, DepthwiseSeparable, EdgeResidual, InvertedResidual};
pub use config::{BlockConfig, BlockKind, EfficientNetConfig, StageConfig};
pub use model::EfficientNet;
pub use scaling::{Architecture, Scaling, round_channels};
pub use stage::Stage;
pub use variants::{VARIANTS, Variant, find_variant};
