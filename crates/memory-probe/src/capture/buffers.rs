//! From operations on tensors to kernels on buffers: views share a buffer, and neighbouring elementwise operations become one kernel.

use std::collections::BTreeMap;

use burn::backend::ir::{OperationIr, TensorIr, TensorStatus};
use vision_nn::Scratch;

use super::allocator::{CUDA_ALIGNMENT, row_pitch};
use super::kind::{Kind, kind_of};
use super::layout::View;

/// A stretch of operations that run as one kernel (or as a chain that Burn composes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) kind: Kind,
    /// The number of its first output tensor, by which its place in the step is known.
    pub(super) number: u64,
    /// Buffers that it reads; those that it may write over are marked.
    pub(super) reads: Vec<(usize, bool)>,
    /// Scratch while it runs: each allocation.
    pub(super) scratch: Vec<Scratch>,
    /// What it makes in the place of what, where nobody else needs the latter: the operations of ours that work in place.
    pub(super) overwrites: Vec<(usize, usize)>,
    /// Whether several operations became one.
    is_fused: bool,
    /// The largest shape that it works on; of a product, that of its output.
    extent: Vec<usize>,
}

/// A stretch of memory that holds a tensor and its views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Buffer {
    pub(super) bytes: u64,
    pub(super) shape: Vec<usize>,
    pub(super) element_bytes: u8,
    /// The kernel that makes it.
    pub(super) born: usize,
    /// The last kernel that reads it, or that makes it.
    pub(super) last_use: usize,
}

/// How many kernels back an operation can still be fused: what is queued before Burn's fusion settles.
const REACH: usize = 2;

/// Kernels on buffers, in order.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) kernels: Vec<Kernel>,
    pub(super) buffers: Vec<Buffer>,
    views: BTreeMap<u64, View>,
}

impl Buffers {
    /// Lays out all operations of a graph.
    pub(super) fn of(operations: &[OperationIr]) -> Self {
        let mut layout = Self::default();
        for operation in operations {
            layout.add(operation);
        }
        layout
    }

    /// What a buffer takes where rows are padded: those of matrix products alone and of convolutions, whose rows are channels.
    pub(super) fn padded_bytes(&self, buffer: usize) -> u64 {
        let Buffer { bytes, shape, element_bytes, born, .. } = &self.buffers[buffer];
        let row = match &self.kernels[*born].kind {
            Kind::Matmul if !self.kernels[*born].is_fused => shape.last(),
            Kind::Convolution if shape.len() == 4 => shape.get(1),
            _ => None,
        };
        let (Some(&elements), element_bytes) = (row.filter(|row| **row > 0), u64::from(*element_bytes)) else {
            return *bytes;
        };
        let elements = elements as u64;
        bytes / (elements * element_bytes) * row_pitch(elements, element_bytes, CUDA_ALIGNMENT)
    }

    /// Has the buffers of these tensors live on after the last kernel.
    pub(super) fn keep(&mut self, numbers: impl Iterator<Item = u64>) {
        let end = self.kernels.len();
        for number in numbers {
            if let Some(buffer) = self.buffer_of(number) {
                self.buffers[buffer].last_use = end;
            }
        }
    }

    /// The buffer that a tensor lies in.
    pub(super) fn buffer_of(&self, number: u64) -> Option<usize> {
        self.views.get(&number).map(|view| view.buffer)
    }

    fn add(&mut self, operation: &OperationIr) {
        let kind = kind_of(operation);
        let inputs: Vec<&TensorIr> = operation.inputs().collect();
        let outputs: Vec<&TensorIr> = operation.outputs().collect();
        if let ([input], [output]) = (&inputs[..], &outputs[..])
            && let Some(view) = self.view_after(&kind, input, output)
        {
            self.views.insert(output.id.value(), view);
            return;
        }
        self.compute(kind, &inputs, &outputs);
    }

    /// The output's view, where the operation moves nothing.
    fn view_after(&self, kind: &Kind, input: &TensorIr, output: &TensorIr) -> Option<View> {
        let view = self.views.get(&input.id.value())?;
        match kind {
            Kind::Permute(axes) => Some(view.permuted(axes)),
            Kind::Expand => Some(view.expanded(&output.shape.to_vec())),
            Kind::Reshape => view.reshaped(&output.shape.to_vec()),
            Kind::Slice => (input.shape == output.shape).then(|| view.clone()),
            _ => None,
        }
    }

    fn compute(&mut self, kind: Kind, inputs: &[&TensorIr], outputs: &[&TensorIr]) {
        let kernel = self.kernel_for(&kind, inputs, outputs);
        for (position, input) in inputs.iter().enumerate() {
            if let Some(view) = self.views.get(&input.id.value()) {
                let buffer = view.buffer;
                self.buffers[buffer].last_use = self.buffers[buffer].last_use.max(kernel);
                let is_written = kind == Kind::Elementwise || kind == Kind::Assign && position == 0;
                let is_free = is_written && input.status == TensorStatus::ReadWrite;
                self.kernels[kernel].reads.push((buffer, is_free));
            }
        }
        for (position, output) in outputs.iter().enumerate() {
            let buffer = self.make(output, kernel);
            if let Some(input) = self.overwritten(&kind, position, inputs) {
                self.kernels[kernel].overwrites.push((buffer, input));
            }
            let shape = output.shape.to_vec();
            let view = match kind {
                Kind::Convolution | Kind::DepthwiseWeightGradient => View::channels_last(buffer, &shape),
                _ => View::contiguous(buffer, &shape),
            };
            self.views.insert(output.id.value(), view);
        }
        let scratch = self.scratch(&kind, inputs, outputs);
        self.kernels[kernel].scratch.extend(scratch);
    }

    /// The buffer that an output of one of our operations is written over.
    fn overwritten(&self, kind: &Kind, output: usize, inputs: &[&TensorIr]) -> Option<usize> {
        let Kind::Own(own) = kind else { return None };
        let input = inputs.get(*own.overwrites.get(output)?)?;
        let view = self.views.get(&input.id.value())?;
        (input.status == TensorStatus::ReadWrite && view.is_contiguous()).then_some(view.buffer)
    }

    fn make(&mut self, tensor: &TensorIr, kernel: usize) -> usize {
        self.buffers.push(Buffer {
            bytes: bytes_of(tensor),
            shape: tensor.shape.to_vec(),
            element_bytes: tensor.dtype.size() as u8,
            born: kernel,
            last_use: kernel,
        });
        self.buffers.len() - 1
    }

    /// The kernel that an operation becomes part of: the running one, or a new one.
    fn kernel_for(&mut self, kind: &Kind, inputs: &[&TensorIr], outputs: &[&TensorIr]) -> usize {
        let number = outputs.iter().map(|output| output.id.value()).max().unwrap_or(0);
        // A product's threads make its output, however large its factors are.
        let spanned = if *kind == Kind::Matmul { &[] } else { inputs };
        let largest = spanned.iter().chain(outputs).max_by_key(|tensor| tensor.shape.num_elements());
        let extent = largest.map_or(Vec::new(), |tensor| tensor.shape.to_vec());
        if *kind == Kind::Elementwise {
            self.join_producers(inputs);
        }
        let neighbour = || self.latest_reader(kind, inputs);
        if let Some(position) = self.latest_producer(inputs).or_else(neighbour)
            && let host = &mut self.kernels[position]
            && host.takes(kind, &extent)
        {
            host.is_fused = true;
            if *kind == Kind::Reduce {
                host.kind = Kind::Reduce;
            }
            return position;
        }
        self.kernels.push(Kernel {
            kind: kind.clone(),
            number,
            reads: Vec::new(),
            scratch: Vec::new(),
            overwrites: Vec::new(),
            is_fused: false,
            extent,
        });
        self.kernels.len() - 1
    }

    /// The last kernel, where that is elementwise and so is an operation that reads what it reads.
    fn latest_reader(&self, kind: &Kind, inputs: &[&TensorIr]) -> Option<usize> {
        let last = self.kernels.last()?;
        let are_elementwise = *kind == Kind::Elementwise && last.kind == Kind::Elementwise;
        let mut buffers = inputs.iter().filter_map(|input| self.buffer_of(input.id.value()));
        let is_shared = |buffer| last.reads.iter().any(|(read, _)| *read == buffer);
        (are_elementwise && buffers.any(is_shared)).then(|| self.kernels.len() - 1)
    }

    /// Has the last kernel become part of the product before it, where an elementwise operation wants what both have made: Burn's fusion computes all three
    /// with the product, as the gradient of a GELU with that of its layer. Or one after the other, where tuning finds that faster: then the product lies in
    /// memory meanwhile, and which way a card goes is not known without it.
    fn join_producers(&mut self, inputs: &[&TensorIr]) {
        let Some(last) = self.kernels.len().checked_sub(1) else { return };
        let Some(host) = last.checked_sub(1) else { return };
        let makers: Vec<usize> = inputs.iter().filter_map(|input| self.maker_of(input)).collect();
        let [product, joined] = [host, last].map(|kernel| &self.kernels[kernel]);
        let is_wanted = makers.contains(&host) && makers.contains(&last);
        if !is_wanted || product.kind != Kind::Matmul || !product.takes(&joined.kind, &joined.extent) {
            return;
        }
        let joined = self.kernels.pop().expect("it is the last one");
        let made = self.buffers.iter().find(|buffer| buffer.born == host).map(|buffer| buffer.bytes);
        let product = &mut self.kernels[host];
        product.is_fused = true;
        product.scratch.extend(made.map(|bytes| Scratch::of_rows(bytes as usize, 1)));
        product.reads.extend(joined.reads);
        product.scratch.extend(joined.scratch);
        for buffer in &mut self.buffers {
            buffer.born = buffer.born.min(host);
            buffer.last_use = buffer.last_use.min(host);
        }
    }

    /// The kernel that makes a tensor.
    fn maker_of(&self, tensor: &TensorIr) -> Option<usize> {
        self.views.get(&tensor.id.value()).map(|view| self.buffers[view.buffer].born)
    }

    /// The kernel after which all inputs are there. Burn's fusion looks past operations in between that have nothing to do with it.
    fn latest_producer(&self, inputs: &[&TensorIr]) -> Option<usize> {
        let latest = inputs.iter().filter_map(|input| self.maker_of(input)).max()?;
        (latest + REACH >= self.kernels.len()).then_some(latest)
    }

    /// What a kernel takes beside its inputs and outputs.
    fn scratch(&self, kind: &Kind, inputs: &[&TensorIr], outputs: &[&TensorIr]) -> Vec<Scratch> {
        let growing = |bytes: u64| Scratch::of_rows(bytes as usize, 1);
        match kind {
            Kind::Own(own) => own.scratch.clone(),
            // A depthwise weight gradient is a convolution of the maps with the batch folded into the channels, by the gradients with batch
            // and channels changed over: both are copied (`burn_cubecl`, kernel/conv/backward_weight/fallback.rs, kernel/conv/direct.rs).
            Kind::DepthwiseWeightGradient => {
                let maps = inputs.iter().filter(|input| input.shape.num_elements() > outputs[0].shape.num_elements());
                maps.map(|input| growing(bytes_of(input))).collect()
            }
            Kind::Convolution => {
                inputs.iter().map(|input| self.relayout_bytes(input)).filter(|bytes| *bytes > 0).map(growing).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A convolution wants its maps channels-last: one that is not is copied first.
    fn relayout_bytes(&self, input: &TensorIr) -> u64 {
        match self.views.get(&input.id.value()) {
            Some(view) if view.shape.len() == 4 && !view.permuted(&[0, 2, 3, 1]).is_contiguous() => bytes_of(input),
            _ => 0,
        }
    }
}

impl Kernel {
    /// Whether an operation joins this kernel.
    fn takes(&self, kind: &Kind, extent: &[usize]) -> bool {
        match (&self.kind, kind) {
            (Kind::Elementwise | Kind::Reduce | Kind::Matmul, Kind::Elementwise) => self.spans(extent),
            (Kind::Elementwise | Kind::Reduce, Kind::Reduce) => extent == self.extent,
            _ => false,
        }
    }

    /// Whether a shape is this kernel's own, in other words or repeated along some axes.
    fn spans(&self, extent: &[usize]) -> bool {
        let is_broadcast = extent.len() == self.extent.len()
            && extent.iter().zip(&self.extent).all(|(length, own)| length == own || *length == 1);
        is_broadcast || extent.iter().product::<usize>() == self.extent.iter().product::<usize>()
    }
}

fn bytes_of(tensor: &TensorIr) -> u64 {
    tensor.shape.num_elements() as u64 * tensor.dtype.size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(kind: Kind, is_fused: bool, shape: &[usize]) -> u64 {
        let (reads, scratch, overwrites, extent) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let kernel = Kernel { kind, number: 0, reads, scratch, overwrites, is_fused, extent };
        let bytes = 4 * shape.iter().product::<usize>() as u64;
        let buffer = Buffer { bytes, shape: shape.to_vec(), element_bytes: 4, born: 0, last_use: 1 };
        Buffers { kernels: vec![kernel], buffers: vec![buffer], views: BTreeMap::new() }.padded_bytes(0)
    }

    /// 96 numbers in f32 are 384 bytes, and lie 512 apart.
    #[test]
    fn products_alone_and_convolutions_are_padded_and_what_fusion_makes_is_not() {
        assert_eq!(padded(Kind::Matmul, false, &[50, 96]), 50 * 512);
        assert_eq!(padded(Kind::Convolution, false, &[2, 96, 5, 5]), 50 * 512, "rows are channels");
        for kind in [Kind::Elementwise, Kind::Reduce, Kind::Other] {
            assert_eq!(padded(kind, false, &[50, 96]), 50 * 384);
        }
        assert_eq!(padded(Kind::Matmul, true, &[50, 96]), 50 * 384, "activations that join it make it fusion's");
        assert_eq!(padded(Kind::Matmul, false, &[50, 128]), 50 * 512, "rows that are full stay");
    }
}
