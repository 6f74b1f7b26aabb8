//! One optimizer step, operation by operation: which buffers it makes, how large they are, and when they die.
//!
//! A trace holds no values: it is recorded elsewhere and analysed here.

use serde::{Deserialize, Serialize};

mod check;

mod liveness;
mod timeline;

mod allocations;
mod profile;
mod render;

mod picture;

mod byte_axis;
mod palette;
mod svg;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod synthetic;

pub use allocations::AllocationEvent;
pub use check::TraceError;
pub use liveness::{LargeTensor, LayerBytes, Liveness, RoleBytes};
pub use picture::memory_timeline_svg;
pub use profile::{PeakProfile, Profile};
pub use render::render_peak;
pub use timeline::TimelinePoint;

/// One optimizer step: the operations in the order in which they run, and the buffers that they work on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Every buffer that exists at some moment of the step. Its index is its identity.
    pub tensors: Vec<TracedTensor>,
    /// What runs, in order.
    pub operations: Vec<TracedOperation>,
    /// Names of layers by index: `stages.2.blocks.0`. The first is empty and stands for all outside the model.
    pub layers: Vec<String>,
}

/// One buffer. Views share it, and are not tensors of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedTensor {
    /// Its size, in bytes.
    pub bytes: u64,
    /// What it is for.
    pub role: Role,
    /// The layer that it belongs to: an index into [`Trace::layers`].
    pub layer: u32,
    /// When it comes to be.
    pub born: Born,
    /// The index of the last operation that uses it, after which it is freed. An output that nothing uses dies with the
    /// operation that made it. `None` outlives the step.
    pub dies: Option<usize>,
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// Bytes of one element: 4 for f32.
    pub element_bytes: u8,
}

/// When a buffer comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Born {
    /// It is there when the step begins.
    BeforeStep,
    /// The operation of this index makes it.
    At(usize),
}

/// What a buffer is for. The order is that of the pictures, from what lasts to what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A trainable parameter.
    Weight,
    /// State that is not trained: running statistics, position tables.
    Buffer,
    /// The moving average of the weights.
    Ema,
    /// The optimizer's state: Adam's moments.
    OptimizerState,
    /// The gradient of a trainable parameter.
    Gradient,
    /// The batch: images and targets.
    Input,
    /// Made in the forward pass and kept for the backward pass.
    SavedActivation,
    /// Any other result, gradients of activations among them.
    Transient,
    /// Scratch of a kernel.
    Workspace,
}

/// How many roles there are.
pub const ROLES: usize = Role::ALL.len();

/// One operation. Its inputs and outputs are told by the lives of the tensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedOperation {
    /// What it computes: `matmul`.
    pub kind: String,
    /// The part of the step that it belongs to.
    pub phase: Phase,
    /// The layer that it belongs to: an index into [`Trace::layers`].
    pub layer: u32,
    /// Scratch held only while it runs, in bytes.
    pub workspace_bytes: u64,
}

/// A part of an optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The model's forward pass.
    Forward,
    /// From the logits to the loss.
    Loss,
    /// From the loss to the gradients.
    Backward,
    /// Clipping of the gradients, by norm or by value.
    Clip,
    /// The update of the weights.
    Optimizer,
    /// The update of the weights' moving average.
    Ema,
}

impl Role {
    /// All roles, in the order of [`TimelinePoint::bytes_by_role`].
    pub const ALL: [Self; 9] = [
        Self::Weight,
        Self::Buffer,
        Self::Ema,
        Self::OptimizerState,
        Self::Gradient,
        Self::Input,
        Self::SavedActivation,
        Self::Transient,
        Self::Workspace,
    ];

    /// Its place in [`Role::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// For people, in the plural: `saved activations`.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Weight => "weights",
            Self::Buffer => "buffers",
            Self::Ema => "moving average",
            Self::OptimizerState => "optimizer state",
            Self::Gradient => "gradients",
            Self::Input => "input",
            Self::SavedActivation => "saved activations",
            Self::Transient => "transient",
            Self::Workspace => "workspace",
        }
    }
}

impl Phase {
    /// For people: `forward`.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Loss => "loss",
            Self::Backward => "backward",
            Self::Clip => "clipping",
            Self::Optimizer => "optimizer",
            Self::Ema => "moving average",
        }
    }
}

impl Trace {
    /// The name of a layer as people read it. Call only with an index that [`Trace::check`] has seen.
    fn layer_name(&self, layer: u32) -> &str {
        match self.layers.get(layer as usize).map(String::as_str) {
            None | Some("") => "outside the model",
            Some(name) => name,
        }
    }
}
