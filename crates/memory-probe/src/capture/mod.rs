//! The footprint of a step without a device: the operation graph is recorded, laid out in buffers by the rules of Burn's CubeCL backend, and
//! the buffers go through the rules of CubeCL's allocator, told again over numbers alone.
//!
//! What is modelled, and what is not, is in the module docs of the parts: views and copies in `layout`, fusion in `buffers`, the allocator and padded
//! rows in `allocator`.
//!
//! # Workspace
//!
//! What a kernel takes while it runs, beside its inputs and outputs, by the kind of operation. `Buffers::scratch` has the rules, and the operations of
//! this project announce theirs (`vision_nn::recorded_scratch`).
//!
//! | kind | bytes | origin |
//! |---|---|---|
//! | elementwise, casts, activations | 0, because one number comes of each | Burn's fusion allocates its outputs alone: `burn-cubecl-fusion`, `engine/launch/output.rs` |
//! | reduction, softmax | 0, because partial sums stay in registers and shared memory | `burn-cubecl`, `kernel/reduce/base.rs`: the output is its only allocation |
//! | matrix product | 0, because tiles stay in shared memory | `kernel/matmul/tune/base.rs`: the output is the only allocation, and no candidate splits the inner axis |
//! | matrix product with elementwise operations behind it and beside it | its output, because tuning may compute it alone | `burn-cubecl-fusion`, `optim/matmul`: the fallback |
//! | convolution and its gradients | each map whose channels are not its last axis, once more | it is copied first: `kernel/conv/direct.rs`. Not counted are the columns of `im2col.rs`, which tuning may take for overlapping windows |
//! | depthwise weight gradient of Burn | maps and gradients, each once more | it is a convolution with batch and channels changed over, and both are copied: `kernel/conv/backward_weight/fallback.rs`, `direct.rs` |
//! | copies of views, slices, gathers | 0, because the copy is the output | `kernel/index/` |
//! | a part written over | 0; where somebody else needs the whole, a copy that is the output | `kernel/index/slice_assign.rs` |
//! | depthwise parameter gradients of this project | sums over parts of the maps, at most `k + 1/k` MiB, or one part | `vision_nn`, `kernels/depthwise/plan.rs`, `chunk_scratch` |
//! | layer norm gradients of this project | two rows of sums for each cube, up to a number of cubes | `kernels/layer_norm.rs`, `gradient_scratch` |
//! | batch norm moments and gradients of this project | two rows of sums for each chunk of the rows, at most 1024 chunks | `kernels/batch_norm.rs`, `sums_scratch` |
//! | channel sums, of which squeeze-excite and response norm are made | one to three rows of sums for each chunk of a sample's positions, at most 32 chunks a sample | `kernels/per_channel.rs`, `sums_scratch` |
//! | residual gradients of this project, where a scale has one | two rows of sums for each stretch of the rows, at most two MiB, or one stretch | `kernels/residual/plan.rs`, `chunk_scratch` |
//! | cross-entropy of this project | a loss for each row of logits; its gradient takes 0 | `kernels/cross_entropy.rs`, `fused_cross_entropy` |
//! | window attention of this project | the bias with its last two axes exchanged | `kernels/window_attention/plan.rs`, `bias_scratch` |
//! | its gradients | the same, and gradients of the bias for each part of the windows, at most 32 MiB, or one part | the same, `sums_scratch` |
//! | lists of parameters of this project | 0, because sums are outputs | `kernels/cube/parameters` |
//! | other operations of this project, depthwise convolutions among them | 0, because they announce none. Not counted are copies of inputs that lie otherwise than a kernel reads them | `kernels/cube/` |
//! | tuning | not counted | it runs before training, and what it took is given back (`Device::memory_cleanup`) |

mod allocator;
mod buffers;
mod kind;
mod layout;
mod pages;
mod pooling;
mod recording;
mod saved;
mod scaling;
mod trace;
mod traffic;

use std::cell::OnceCell;

use burn::tensor::Device;
use memory_planner::{Born, ExactSource, FixedMemory, Footprint, FootprintError, PlanRequest, Role, Trace};
use vision_nn::Classifier;

use crate::StepRequest;
use crate::exact::{Accumulates, exact_footprint};
use scaling::ScalableStep;

pub use allocator::AllocatorModel;
pub use pooling::ChosenPools;
pub use saved::{SavedActivations, SavedPart, saved_activations};
pub use traffic::{Traffic, step_traffic};

/// Records one optimizer step over micro-batches of `batch`, without computing: every buffer with its size, life, role and layer.
pub fn capture_step<M: Classifier>(request: &StepRequest, batch: usize, build: &dyn Fn(&Device) -> M) -> Trace {
    let recording = recording::record(request, batch, build);
    trace::trace_of(&recording, &trace::LaidOut::of(&recording))
}

/// A step's footprint on cards that are not here: recorded once, replayed for each card and batch size.
pub struct CapturedSource<'a> {
    alone: ScalableStep,
    /// Recorded when it is first asked for.
    accumulating: OnceCell<ScalableStep>,
    record_accumulating: Box<dyn Fn() -> ScalableStep + 'a>,
    request: StepRequest,
}

impl<'a> CapturedSource<'a> {
    /// Records the step of the model that `build` makes.
    pub fn record<M: Classifier>(request: &StepRequest, build: impl Fn(&Device) -> M + 'a) -> Self {
        let of = |accumulates| StepRequest { accumulates, ..request.clone() };
        let accumulating = of(true);
        Self {
            alone: ScalableStep::record(&of(false), &build),
            accumulating: OnceCell::new(),
            record_accumulating: Box::new(move || ScalableStep::record(&accumulating, &build)),
            request: request.clone(),
        }
    }

    /// What a card's pools would hold reserved after steps over micro-batches of `batch`; `None` when it could not hold them.
    pub fn reserved_bytes(&self, batch: usize, allocator: AllocatorModel) -> Option<u64> {
        self.alone.reserved_bytes(batch, allocator)
    }

    /// What a card's pools would hold reserved, for every batch size that a plan for `budget_bytes` asks about.
    ///
    /// # Errors
    /// A [`FootprintError`] when the request admits no batch size at all.
    pub fn footprint(
        &self,
        allocator: AllocatorModel,
        budget_bytes: u64,
        plan: &PlanRequest,
    ) -> Result<Footprint, FootprintError> {
        let known = fixed_memory(self.alone.trace());
        let reserved = |batch, accumulates| self.step(accumulates).reserved_bytes(batch, allocator);
        exact_footprint(ExactSource::Captured, &self.request, (known, None), (budget_bytes, plan), &reserved)
    }

    fn step(&self, Accumulates(accumulates): Accumulates) -> &ScalableStep {
        if accumulates { self.accumulating.get_or_init(&self.record_accumulating) } else { &self.alone }
    }
}

/// What is there before a step begins, and the gradients that it makes: one number for each weight, and none for running statistics. A forward pass makes
/// none.
pub fn fixed_memory(trace: &Trace) -> FixedMemory {
    let before = |role| {
        let tensors = trace.tensors.iter().filter(|tensor| tensor.born == Born::BeforeStep && tensor.role == role);
        tensors.map(|tensor| tensor.bytes).sum::<u64>()
    };
    let trains = trace.tensors.iter().any(|tensor| tensor.role == Role::Gradient);
    FixedMemory {
        weights: before(Role::Weight),
        buffers: before(Role::Buffer),
        gradients: if trains { before(Role::Weight) } else { 0 },
        optimizer: before(Role::OptimizerState),
        ema: before(Role::Ema),
        overhead: 0,
    }
}
