//! From kernels on buffers to the trace of one step.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use memory_planner::{Born, Phase, Role, Trace, TracedOperation, TracedTensor};
use vision_nn::is_running_statistic;

use super::allocator::Event;
use super::buffers::{Buffer, Buffers, Kernel};
use super::kind::Kind;
use super::recording::Recording;

/// A recording on kernels and buffers.
pub(super) struct LaidOut {
    layout: Buffers,
    /// Which buffer each buffer really lies in.
    owners: Vec<usize>,
    /// The kernels of the step.
    step: Range<usize>,
}

impl LaidOut {
    /// Lays out a recording, up to the end of its step.
    pub(super) fn of(recording: &Recording) -> Self {
        let mut layout = Buffers::of(&recording.operations);
        layout.keep(recording.outliving());
        let start = recording.phases.first().map_or(0, |(number, _)| *number);
        let before = |number| layout.kernels.partition_point(|kernel| kernel.number < number);
        let step = before(start)..before(recording.end);
        let owners = reuse_in_place(&mut layout, step.end);
        Self { layout, owners, step }
    }

    pub(super) fn layout(&self) -> &Buffers {
        &self.layout
    }

    pub(super) fn step(&self) -> Range<usize> {
        self.step.clone()
    }
}

/// The step of a recording, as a trace.
pub(super) fn trace_of(recording: &Recording, LaidOut { layout, owners, step }: &LaidOut) -> Trace {
    let mut readers = BTreeMap::new();
    for kernel in step.clone() {
        for (buffer, _) in &layout.kernels[kernel].reads {
            readers.entry(owners[*buffer]).or_insert(kernel);
        }
    }
    Tracer { recording, layout, step: step.clone(), owners, layers: Layers::default(), readers }.trace()
}

/// What happens to memory from the first parameter to the end of the step.
pub(super) fn events_of(recording: &Recording, LaidOut { layout, owners, step }: &LaidOut) -> Vec<Event> {
    let end = step.end;
    let parameters: BTreeSet<usize> =
        recording.first_parameters.iter().filter_map(|&number| layout.buffer_of(number)).collect();
    let (mut made, mut freed) = (vec![Vec::new(); end], vec![Vec::new(); end]);
    for (buffer, of) in layout.buffers.iter().enumerate() {
        if owners[buffer] != buffer || of.born >= end || of.last_use == of.born && !parameters.contains(&buffer) {
            continue;
        }
        made[of.born].push(buffer);
        if of.last_use < end {
            freed[of.last_use].push(buffer);
        }
    }
    let mut events = Vec::new();
    for kernel in 0..end {
        for &buffer in &made[kernel] {
            let (bytes, padded_bytes) = (layout.buffers[buffer].bytes, layout.padded_bytes(buffer));
            events.push(Event::Allocate { buffer, bytes, padded_bytes, is_parameter: parameters.contains(&buffer) });
        }
        let scratch = layout.kernels[kernel].scratch.iter().enumerate();
        let scratch = scratch.map(|(turn, &piece)| (layout.buffers.len() + turn, piece));
        events.extend(scratch.clone().map(|(buffer, piece)| Event::Scratch { buffer, piece }));
        events.extend(scratch.map(|(buffer, _)| Event::Free { buffer }));
        events.extend(freed[kernel].iter().map(|&buffer| Event::Free { buffer }));
    }
    events
}

/// Which buffer each buffer really lies in, once kernels write over an input that they are the last to read: those that can.
fn reuse_in_place(layout: &mut Buffers, end: usize) -> Vec<usize> {
    let mut owners: Vec<usize> = (0..layout.buffers.len()).collect();
    let mut made: Vec<Vec<usize>> = vec![Vec::new(); layout.kernels.len()];
    for (index, buffer) in layout.buffers.iter().enumerate() {
        if buffer.last_use > buffer.born || end <= buffer.born {
            made[buffer.born].push(index);
        }
    }
    for (kernel, outputs) in made.into_iter().enumerate() {
        let is_elementwise = matches!(layout.kernels[kernel].kind, Kind::Elementwise | Kind::Matmul | Kind::Assign);
        let mut taken = BTreeSet::new();
        for output in outputs {
            let Kernel { reads, overwrites, .. } = &layout.kernels[kernel];
            let named = overwrites.iter().filter(|(made, _)| *made == output).map(|(_, input)| *input);
            let any = reads.iter().filter(|(_, is_free)| is_elementwise && *is_free).map(|(input, _)| *input);
            let free = named.chain(any).map(|input| owners[input]).find(|owner| {
                let buffer = &layout.buffers[*owner];
                !taken.contains(owner)
                    && buffer.bytes == layout.buffers[output].bytes
                    && buffer.born < kernel
                    && buffer.last_use == kernel
            });
            if let Some(owner) = free {
                taken.insert(owner);
                owners[output] = owner;
                layout.buffers[owner].last_use = layout.buffers[output].last_use;
            }
        }
    }
    owners
}

struct Tracer<'a> {
    recording: &'a Recording,
    layout: &'a Buffers,
    step: Range<usize>,
    owners: &'a [usize],
    layers: Layers,
    /// The first kernel of the step that reads each buffer: a later one may find another tensor there.
    readers: BTreeMap<usize, usize>,
}

impl Tracer<'_> {
    fn trace(mut self) -> Trace {
        let known = self.known_roles();
        let (layers, copies) = self.layers_of_kernels();
        let operations = self.step.clone().map(|kernel| self.operation(kernel, layers[kernel - self.step.start]));
        let operations: Vec<TracedOperation> = operations.collect();
        let mut tensors = Vec::new();
        for (index, buffer) in self.layout.buffers.iter().enumerate() {
            if self.owners[index] == index && self.is_seen(buffer) {
                let made_in = layers.get(buffer.born.saturating_sub(self.step.start)).copied().unwrap_or(0);
                let layer = copies.get(&index).copied().unwrap_or(made_in);
                tensors.push(self.tensor(index, buffer, &known, layer));
            }
        }
        Trace { tensors, operations, layers: self.layers.names }
    }

    /// Whether the buffer exists at some moment of the step, outside of a kernel.
    fn is_seen(&self, buffer: &Buffer) -> bool {
        buffer.born < self.step.end && buffer.last_use >= self.step.start && buffer.last_use > buffer.born
    }

    fn operation(&self, kernel: usize, layer: u32) -> TracedOperation {
        let kernel = &self.layout.kernels[kernel];
        TracedOperation {
            kind: describe(&kernel.kind).to_owned(),
            phase: self.recording.phase_at(kernel.number),
            layer,
            workspace_bytes: kernel.scratch.iter().map(|piece| piece.bytes()).sum(),
        }
    }

    fn tensor(&self, index: usize, buffer: &Buffer, known: &BTreeMap<usize, (Role, u32)>, layer: u32) -> TracedTensor {
        let start = self.step.start;
        let born = if buffer.born < start { Born::BeforeStep } else { Born::At(buffer.born - start) };
        let dies = (buffer.last_use < self.step.end).then(|| buffer.last_use - start);
        let phase = |kernel: usize| self.recording.phase_at(self.layout.kernels[kernel].number);
        let (role, layer) = known.get(&index).copied().unwrap_or_else(|| {
            // State is told by the phase that reads it, or that makes it anew.
            let role = match (born, self.first_phase_of(index)) {
                (Born::BeforeStep, Some(Phase::Ema)) => Role::Ema,
                (Born::BeforeStep, Some(Phase::Optimizer)) => Role::OptimizerState,
                (Born::BeforeStep, _) => Role::Buffer,
                (Born::At(_), _) if dies.is_none() => match phase(buffer.born) {
                    Phase::Ema => Role::Ema,
                    Phase::Optimizer => Role::OptimizerState,
                    _ => Role::Buffer,
                },
                (Born::At(_), _) => match (phase(buffer.born), phase(buffer.last_use)) {
                    (Phase::Forward | Phase::Loss, Phase::Backward) => Role::SavedActivation,
                    (Phase::Backward, Phase::Clip | Phase::Optimizer) => Role::Gradient,
                    _ => Role::Transient,
                },
            };
            (role, layer)
        });
        TracedTensor {
            bytes: buffer.bytes,
            role,
            layer,
            born,
            dies,
            shape: buffer.shape.clone(),
            element_bytes: buffer.element_bytes,
        }
    }

    /// The phase of the first kernel of the step that reads a buffer.
    fn first_phase_of(&self, owner: usize) -> Option<Phase> {
        self.readers.get(&owner).map(|kernel| self.recording.phase_at(self.layout.kernels[*kernel].number))
    }

    /// Buffers whose role the recording tells.
    fn known_roles(&mut self) -> BTreeMap<usize, (Role, u32)> {
        let recording = self.recording;
        let mut known = BTreeMap::new();
        let inputs = recording.inputs.iter().filter_map(|&number| self.owner_of(number));
        known.extend(inputs.map(|owner| (owner, (Role::Input, 0))));
        // Of frozen weights the average is the weight itself: weights come last.
        let before = [
            (Role::Gradient, &recording.gradients),
            (Role::OptimizerState, &recording.kept.states),
            (Role::Ema, &recording.kept.averages),
            (Role::Weight, &recording.parameters),
        ];
        for (role, tensors) in before {
            for (&number, name) in tensors {
                if let Some(owner) = self.owner_of(number) {
                    known.insert(owner, (told_by_name(role, name), self.layers.index_of(layer_of(name))));
                }
            }
        }
        let after = [
            (Role::Weight, &recording.new_parameters),
            (Role::OptimizerState, &recording.new_kept.states),
            (Role::Ema, &recording.new_kept.averages),
        ];
        for (role, tensors) in after {
            for (&number, name) in tensors {
                // A place that is another's before stays that: new weights and moments are written over gradients and moments that are no longer needed.
                if let Some(owner) = self.owner_of(number) {
                    let layer = self.layers.index_of(layer_of(name));
                    known.entry(owner).or_insert((told_by_name(role, name), layer));
                }
            }
        }
        known
    }

    fn owner_of(&self, number: u64) -> Option<usize> {
        self.layout.buffer_of(number).map(|buffer| self.owners[buffer])
    }

    /// Forward kernels belong to the layer whose parameter was read last, or a copy of it; backward kernels to that of a saved activation they read. Beside
    /// them the layers of buffers that one kernel made for many.
    fn layers_of_kernels(&mut self) -> (Vec<u32>, BTreeMap<usize, u32>) {
        let mut of_buffer: BTreeMap<usize, u32> = BTreeMap::new();
        for (&number, name) in &self.recording.parameters {
            if let Some(buffer) = self.layout.buffer_of(number) {
                of_buffer.insert(self.owners[buffer], self.layers.index_of(layer_of(name)));
            }
        }
        let mut made: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, buffer) in self.layout.buffers.iter().enumerate() {
            made.entry(buffer.born).or_default().push(index);
        }
        let (mut current, mut layers, mut copies) = (0, Vec::new(), BTreeMap::new());
        for kernel in self.step.clone() {
            let made = made.get(&kernel).map_or(&[][..], Vec::as_slice);
            let is_forward = self.recording.phase_at(self.layout.kernels[kernel].number) == Phase::Forward;
            let reads = &self.layout.kernels[kernel].reads;
            let read: Vec<Option<u32>> =
                reads.iter().map(|(buffer, _)| of_buffer.get(&self.owners[*buffer]).copied()).collect();
            if is_forward && is_of_many_layers(&read) && read.len() == made.len() {
                // A pass over a list, such as that which casts all weights: each copy is of the layer of what it was made from.
                copies.extend(made.iter().zip(read).filter_map(|(buffer, layer)| Some((*buffer, layer?))));
                of_buffer.extend(&copies);
                layers.push(current);
                continue;
            }
            current = read.into_iter().flatten().next_back().unwrap_or(current);
            layers.push(current);
            if is_forward {
                for &buffer in made {
                    of_buffer.entry(buffer).or_insert(current);
                }
            }
        }
        (layers, copies)
    }
}

/// Whether there are two layers among these that differ.
fn is_of_many_layers(layers: &[Option<u32>]) -> bool {
    let mut layers = layers.iter().flatten();
    layers.next().is_some_and(|first| layers.any(|layer| layer != first))
}

/// Names of layers in the order in which they were met; the first stands for all that is outside the model.
struct Layers {
    names: Vec<String>,
}

impl Default for Layers {
    fn default() -> Self {
        Self { names: vec![String::new()] }
    }
}

impl Layers {
    fn index_of(&mut self, name: &str) -> u32 {
        let known = self.names.iter().position(|known| known == name);
        known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        }) as u32
    }
}

/// The layer of a parameter: `stages.2.blocks.0` of `stages.2.blocks.0.mlp.fc1.weight`. It ends after the last number of the path, or
/// before the parameter's own name.
fn layer_of(parameter: &str) -> &str {
    let parts: Vec<&str> = parameter.split('.').collect();
    let last_number = parts.iter().rposition(|part| part.chars().all(|letter| letter.is_ascii_digit()));
    let kept = last_number.map_or(parts.len().saturating_sub(1), |position| position + 1);
    let length = parts[..kept].iter().map(|part| part.len() + 1).sum::<usize>();
    &parameter[..length.saturating_sub(1)]
}

/// Running statistics are noted among the weights, and do not train.
fn told_by_name(role: Role, name: &str) -> Role {
    if role == Role::Weight && is_running_statistic(name) { Role::Buffer } else { role }
}

pub(super) fn describe(kind: &Kind) -> &str {
    match kind {
        Kind::Permute(_) | Kind::Expand | Kind::Reshape | Kind::Slice => "copy",
        Kind::Assign => "assign",
        Kind::Create => "create",
        Kind::Elementwise => "elementwise",
        Kind::Reduce => "reduction",
        Kind::Matmul => "matmul",
        Kind::Convolution => "convolution",
        Kind::DepthwiseWeightGradient => "depthwise weight gradient",
        Kind::Own(own) => &own.name,
        Kind::Other => "other",
    }
}
