//! What is alive when: the peak of a step, where it is, and what holds it.

use serde::{Deserialize, Serialize};

use super::timeline::{self, TimelinePoint};
use super::{Born, Phase, Role, Trace, TraceError, TracedTensor};

/// The layer name under which small layers are summed up.
const OTHERS: &str = "others";

/// A checked trace and the bytes alive at each of its operations.
///
/// While an operation runs, its inputs, its outputs, its workspace and all that is needed later are alive together; what
/// dies at it is freed after it.
#[derive(Debug, Clone)]
pub struct Liveness<'a> {
    trace: &'a Trace,
    timeline: Vec<TimelinePoint>,
    /// The most bytes alive at any operation.
    pub peak_bytes: u64,
    /// The first operation at which they are.
    pub peak_operation: usize,
    /// Bytes alive before the first operation.
    pub before_bytes: u64,
    /// Bytes that outlive the step.
    pub after_bytes: u64,
}

/// The bytes of one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleBytes {
    /// Whose.
    pub role: Role,
    /// How many.
    pub bytes: u64,
}

/// The bytes of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBytes {
    /// Its name, for people: `stages.2.blocks.0`, `outside the model`, `others`.
    pub layer: String,
    /// How many.
    pub bytes: u64,
    /// How many layers they are of: 1, except in `others`.
    pub layers: usize,
}

/// One buffer that is alive at the peak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeTensor {
    /// Its index in [`Trace::tensors`].
    pub tensor: usize,
    /// The name of its layer, for people.
    pub layer: String,
    /// What it is for.
    pub role: Role,
    /// The kind of operation that made it, if one of the step did.
    pub made_by: Option<String>,
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// Bytes of one element.
    pub element_bytes: u8,
    /// Its size.
    pub bytes: u64,
}

impl<'a> Liveness<'a> {
    /// Checks a trace and follows its tensors through the step, in time linear in tensors and operations.
    ///
    /// # Errors
    /// A [`TraceError`] when the trace contradicts itself.
    pub fn of(trace: &'a Trace) -> Result<Self, TraceError> {
        trace.check()?;
        let sum_of = |alive: fn(&TracedTensor) -> bool| -> u64 {
            trace.tensors.iter().filter(|tensor| alive(tensor)).map(|tensor| tensor.bytes).sum()
        };
        let timeline = timeline::of_checked(trace);
        let peak_operation = timeline::first_highest(&timeline);
        Ok(Self {
            trace,
            peak_bytes: timeline[peak_operation].total_bytes(),
            peak_operation,
            before_bytes: sum_of(|tensor| tensor.born == Born::BeforeStep),
            after_bytes: sum_of(|tensor| tensor.dies.is_none()),
            timeline,
        })
    }

    /// The trace that was followed.
    #[must_use]
    pub fn trace(&self) -> &'a Trace {
        self.trace
    }

    /// The bytes alive at each operation, one point an operation.
    #[must_use]
    pub fn timeline(&self) -> &[TimelinePoint] {
        &self.timeline
    }

    /// At most `most` points of the timeline, in order; no fewer than one.
    ///
    /// The peak is always among them, and every local maximum (the first operation of a plateau from which both sides
    /// fall) when there are no more than `most`; evenly spaced points fill up. With more maxima than that, each point is
    /// the highest of its stretch of the step.
    #[must_use]
    pub fn downsampled(&self, most: usize) -> Vec<TimelinePoint> {
        timeline::downsample(&self.timeline, most.max(1))
    }

    /// The part of the step in which the peak is.
    #[must_use]
    pub fn peak_phase(&self) -> Phase {
        self.trace.operations[self.peak_operation].phase
    }

    /// The layer whose operation is at the peak, by the name that people read.
    #[must_use]
    pub fn peak_layer(&self) -> &'a str {
        self.trace.layer_name(self.trace.operations[self.peak_operation].layer)
    }

    /// What is alive at the peak by role, in the order of [`Role::ALL`]; roles that hold nothing are left out.
    #[must_use]
    pub fn peak_by_role(&self) -> Vec<RoleBytes> {
        let bytes_by_role = &self.timeline[self.peak_operation].bytes_by_role;
        let rows = Role::ALL.iter().map(|&role| RoleBytes { role, bytes: bytes_by_role[role.index()] });
        rows.filter(|row| row.bytes > 0).collect()
    }

    /// What is alive at the peak by layer: the `count` that hold most, largest first, then `others` with the rest.
    ///
    /// The workspace of the operation at the peak counts to its layer.
    #[must_use]
    pub fn peak_by_layer(&self, count: usize) -> Vec<LayerBytes> {
        let mut bytes_by_layer = vec![0u64; self.trace.layers.len()];
        for (_, tensor) in self.live_at(self.peak_operation) {
            bytes_by_layer[tensor.layer as usize] += tensor.bytes;
        }
        let operation = &self.trace.operations[self.peak_operation];
        bytes_by_layer[operation.layer as usize] += operation.workspace_bytes;

        let mut order: Vec<usize> = (0..bytes_by_layer.len()).filter(|&layer| bytes_by_layer[layer] > 0).collect();
        order.sort_by_key(|&layer| std::cmp::Reverse(bytes_by_layer[layer])); // stable: equals stay in model order
        let rest = order.split_off(count.min(order.len()));
        let name = |layer: usize| self.trace.layer_name(layer as u32).to_owned();
        let mut rows: Vec<LayerBytes> = order
            .into_iter()
            .map(|layer| LayerBytes { layer: name(layer), bytes: bytes_by_layer[layer], layers: 1 })
            .collect();
        if !rest.is_empty() {
            let bytes = rest.iter().map(|&layer| bytes_by_layer[layer]).sum();
            rows.push(LayerBytes { layer: OTHERS.to_owned(), bytes, layers: rest.len() });
        }
        rows
    }

    /// The `count` largest buffers alive at the peak, largest first.
    #[must_use]
    pub fn largest_tensors(&self, count: usize) -> Vec<LargeTensor> {
        let mut live: Vec<(usize, &TracedTensor)> = self.live_at(self.peak_operation).collect();
        live.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.bytes));
        live.truncate(count);
        live.into_iter().map(|(index, tensor)| self.describe(index, tensor)).collect()
    }

    fn describe(&self, index: usize, tensor: &TracedTensor) -> LargeTensor {
        let made_by = match tensor.born {
            Born::BeforeStep => None,
            Born::At(operation) => Some(self.trace.operations[operation].kind.clone()),
        };
        LargeTensor {
            tensor: index,
            layer: self.trace.layer_name(tensor.layer).to_owned(),
            role: tensor.role,
            made_by,
            shape: tensor.shape.clone(),
            element_bytes: tensor.element_bytes,
            bytes: tensor.bytes,
        }
    }

    /// The tensors alive while an operation runs, with their indices.
    fn live_at(&self, operation: usize) -> impl Iterator<Item = (usize, &'a TracedTensor)> {
        self.trace.tensors.iter().enumerate().filter(move |(_, tensor)| tensor.is_live_at(operation))
    }
}

impl TracedTensor {
    /// Whether it exists while the operation of this index runs.
    #[must_use]
    pub fn is_live_at(&self, operation: usize) -> bool {
        let born = match self.born {
            Born::BeforeStep => true,
            Born::At(birth) => birth <= operation,
        };
        born && self.dies.is_none_or(|death| operation <= death)
    }
}
