//! Swin: a transformer whose attention looks into windows that shift from block to block, over a pyramid of four resolutions.
//!
//! Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021, <https://arxiv.org/abs/2103.14030>.
//! Names, sizes and initialisation follow timm's
//! [`swin_transformer.py`](https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/swin_transformer.py), so that
//! its checkpoints load tensor by tensor. It never trains, reads files or prints.
//!
//! A model is built for one image size, which settles its windows ([`SwinConfig::at_image_size`]), and takes every size that its
//! patches divide ([`check_image_size`]), as timm's does with `dynamic_img_size`: maps that the windows do not divide are padded.
//!
//! Where it differs from timm: query, key and value are three products with parts of one weight, so that neither pass cuts or
//! glues a map; the bias of a window is unrolled from its table without an index, whose gradient would be a scatter; and a shift
//! mask is made once for all blocks of a stage. The arithmetic is the same.
//!
//! Shapes: B batch, C channels, H W grid, nW windows of a map, N tokens of a window, nH heads, D channels of a head, K classes.

#![warn(missing_docs)]

mod attention;
mod block;
mod config;
mod image_size;
mod model;
mod published;
mod relative_position;
mod resize;
mod stage;
mod window;

pub use attention::WindowAttention;
pub use block::Block;
pub use config::{SwinConfig, VARIANTS, Variant, find_variant};
pub use image_size::{ImageSizeError, check_image_size};
pub use model::Swin;
pub use published::adapt_checkpoint;
pub use resize::resize_bias_tables;
pub use stage::{PatchMerging, Stage};
pub use window::{WindowLayout, merge_windows, partition_windows};
