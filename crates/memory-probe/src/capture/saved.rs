//! What a forward pass leaves behind for the backward pass, told from the recorded graph.

use std::collections::BTreeMap;

use burn::tensor::Device;
use memory_planner::{Born, Phase, Role, Trace};
use vision_nn::Classifier;

use super::capture_step;
use crate::StepRequest;

/// Batch sizes whose difference gives the bytes of a sample. Not one: an axis of that length lets a buffer be shared that otherwise is not.
const BATCHES: [usize; 2] = [5, 11];

/// Bytes that live from the forward pass into the backward pass; what is there without a batch (weights, statistics) is not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedActivations {
    /// For each sample.
    pub bytes_per_sample: u64,
    /// Of those, by layer and kind of the operation that made them. The largest first.
    pub parts: Vec<SavedPart>,
}

/// Buffers of one layer that operations of one kind made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedPart {
    /// The layer: `stages.2.blocks.0`; empty outside the model.
    pub layer: String,
    /// What made them: `matmul`.
    pub made_by: String,
    /// Their number.
    pub count: usize,
    /// Bytes of all of them, for each sample.
    pub bytes_per_sample: u64,
}

/// Records a training step at two batch sizes, and tells what of its forward pass grows with the batch and is there until the backward pass.
pub fn saved_activations<M: Classifier>(request: &StepRequest, build: &dyn Fn(&Device) -> M) -> SavedActivations {
    let [small, large] = BATCHES.map(|batch| Saved::of(&capture_step(request, batch, build)));
    let samples = (BATCHES[1] - BATCHES[0]) as u64;
    let bytes_per_sample = large.bytes().saturating_sub(small.bytes()) / samples;
    let part = |((layer, made_by), (count, bytes)): ((String, String), (usize, u64))| {
        let before = small.parts.get(&(layer.clone(), made_by.clone())).map_or(0, |(_, bytes)| *bytes);
        SavedPart { layer, made_by, count, bytes_per_sample: bytes.saturating_sub(before) / samples }
    };
    let mut parts: Vec<SavedPart> = large.parts.into_iter().map(part).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes_per_sample));
    SavedActivations { bytes_per_sample, parts }
}

/// What lives from the forward pass into the backward pass of one trace: number and bytes, by layer and maker.
struct Saved {
    parts: BTreeMap<(String, String), (usize, u64)>,
}

impl Saved {
    fn of(trace: &Trace) -> Self {
        let first = |phase: Phase| trace.operations.iter().position(|operation| operation.phase == phase);
        let end = trace.operations.len();
        let (loss, backward) = (first(Phase::Loss).unwrap_or(end), first(Phase::Backward).unwrap_or(end));
        let mut parts = BTreeMap::new();
        for tensor in &trace.tensors {
            let made = match tensor.born {
                Born::At(operation) if operation < loss => Some(operation),
                _ => None,
            };
            let is_kept = tensor.role == Role::SavedActivation && tensor.dies.is_some_and(|last| last >= backward);
            let (true, Some(made)) = (is_kept, made) else { continue };
            let layer = trace.layers.get(tensor.layer as usize).cloned().unwrap_or_default();
            let of_part = parts.entry((layer, trace.operations[made].kind.clone())).or_insert((0, 0));
            *of_part = (of_part.0 + 1, of_part.1 + tensor.bytes);
        }
        Self { parts }
    }

    fn bytes(&self) -> u64 {
        self.parts.values().map(|(_, bytes)| bytes).sum()
    }
}
