//! Bytes that the kernels of a step read and write, told from the recorded graph.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::Device;
use vision_nn::Classifier;

use super::recording::record;
use super::trace::{LaidOut, describe};
use crate::StepRequest;

/// What kernels of one kind do in a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Their number, as the graph is cut into kernels.
    pub kernels: usize,
    /// Bytes of the tensors that they read and write, each of them once, with what they need beside them.
    pub bytes: u64,
}

/// Records a step over micro-batches of `batch`, and tells what its kernels read and write, by their kind. Views and what stays inside a kernel
/// count for nothing.
pub fn step_traffic<M: Classifier>(
    request: &StepRequest,
    batch: usize,
    build: &dyn Fn(&Device) -> M,
) -> BTreeMap<String, Traffic> {
    let laid_out = LaidOut::of(&record(request, batch, build));
    let mut traffic: BTreeMap<String, Traffic> = BTreeMap::new();
    for (kind, bytes) in laid_out.kernels_of_step() {
        let of_kind = traffic.entry(kind.to_owned()).or_default();
        of_kind.kernels += 1;
        of_kind.bytes += bytes;
    }
    traffic
}

impl LaidOut {
    /// Kind and bytes of every kernel of the step.
    fn kernels_of_step(&self) -> impl Iterator<Item = (&str, u64)> {
        let (layout, step) = (self.layout(), self.step());
        let mut written = BTreeMap::<usize, u64>::new();
        for buffer in layout.buffers.iter().filter(|buffer| buffer.last_use > buffer.born) {
            *written.entry(buffer.born).or_default() += buffer.bytes;
        }
        step.map(move |index| {
            let kernel = &layout.kernels[index];
            let read: BTreeSet<usize> = kernel.reads.iter().map(|(buffer, _)| *buffer).collect();
            let outer = read.into_iter().map(|buffer| &layout.buffers[buffer]).filter(|buffer| buffer.born != index);
            let read_bytes = outer.map(|buffer| buffer.bytes).sum::<u64>();
            let scratch = 2 * kernel.scratch.iter().map(|piece| piece.bytes()).sum::<u64>();
            (describe(&kernel.kind), read_bytes + written.get(&index).copied().unwrap_or(0) + scratch)
        })
    }
}
