//! Layers that the model families share, the [`Classifier`] trait that they all implement, and parameters by name.
//!
//! It never trains, loads, saves or prints: a layer here has a config, an `init` and a `forward`, and nothing else.
//!
//! Weights keep PyTorch's layout and names, so that a timm checkpoint fits a model of ours tensor by tensor.

#![warn(missing_docs)]

mod batch_norm;
mod classifier;
mod conv;
mod convolution;
mod drop_path;
mod dropout;
mod half_weights;
mod init;
mod kernels;
mod layer_names;
mod linear;
mod norm;
mod parameters;
mod pass;
mod preprocessing;
mod running_statistic;
mod squeeze_excite;
mod tape;

pub use batch_norm::{BATCH_NORM_MOMENTUM, BatchNorm};
pub use classifier::{Classifier, ClassifierSpec, block_of_segment, is_trained};
pub use conv::{DepthwiseConv2d, PatchConv2d};
pub use convolution::{Conv2d, Padding};
pub use cpu_kernels::{Activation, AdamWStep, PixelRectangle, PixelSteps, SgdStep};
pub use drop_path::{DropPath, drop_path_schedule};
pub use dropout::Dropout;
pub use half_weights::with_half_weights;
pub use init::{Initialization, Initializer, tensor_without_gaps};
pub use kernels::choice;
pub use kernels::{
    BranchScale, Cut, Moving, SETTLED, Scratch, Steps, adamw, blend_all, cast_all, cross_entropy, depthwise_conv2d,
    finished_images_of_pixels, gelu, gelu_linear, gelu_projection, has_adamw, has_window_attention, images_of_pixels,
    images_of_words, in_burns_operations, is_card, layer_norm, linear, move_all, permute, recorded_overwrites,
    recorded_scratch, response_norm, scale_all, softmax, squares_of_all, sum_of_squares, takes_lists, takes_words,
    window_attention, words_of_images, words_of_steps,
};
pub use layer_names::{LayerNames, LayerPlace};
pub use linear::{Linear, Pointwise, Projection};
pub use norm::LayerNorm;
pub use parameters::{
    AssignError, NamedTensor, ParameterMap, ParameterPath, assign_given, assign_parameters, captured_parameters,
    compare_shapes, map_parameters, named_parameters, parameter_shapes,
};
pub use pass::{Pass, stored_as};
pub use preprocessing::{Interpolation, Preprocessing};
pub use running_statistic::{RunningStatistic, is_batch_count, is_running_statistic};
pub use squeeze_excite::SqueezeExcite;
pub use tape::{Tape, captured_id, is_captured, leaf_on_tape, off_tape, onto_tape};
