//! What the kernels of a card make of a depthwise convolution, known without a card.

use burn::tensor::{DType, Shape};
use cpu_kernels::{DepthwiseShape, StridedDepthwise};

use crate::kernels::choice::{self, Operation};
use crate::kernels::chunks::{Chunks, cut_up_to};
use crate::kernels::recorded::{Form, Scratch, notes_ours};

/// Kernels up to this side are written out in registers.
const LARGEST_KERNEL: usize = 7;

/// Rows of taps of a channel whose sums are made at once: 2^16 units at vectors of four, half of what an H200 holds.
const ROWS_OF_TAPS_AT_ONCE: usize = 1 << 18;

/// Whether the kernels run on such windows and types; what they do not cover is composed of Burn's own operations.
///
/// A shape at which a card is measured to be faster the other way is a matter of [`is_chosen`].
pub(crate) fn covers(windows: &StridedDepthwise, storage: DType) -> bool {
    let shape = windows.shape;
    let is_centred = |axis: usize, size: usize| {
        windows.before[axis] < shape.kernel && (windows.output[axis].max(1) - 1) * windows.stride < size
    };
    matches!(storage, DType::F32 | DType::F16 | DType::BF16)
        && shape.kernel <= LARGEST_KERNEL
        && (1..=2).contains(&windows.stride)
        && is_centred(0, shape.height)
        && is_centred(1, shape.width)
}

/// Whether a card runs a kernel of ours: the kernels cover it, not all is to be in Burn's operations, and those were not found to be faster.
pub(super) fn is_ours(windows: &StridedDepthwise, storage: DType) -> bool {
    notes_ours() && covers(windows, storage) && is_chosen(windows, storage)
}

/// Whether ours is the way to take, where both can be.
pub(super) fn is_chosen(windows: &StridedDepthwise, storage: DType) -> bool {
    let StridedDepthwise { shape, stride, before: [top, left], output: [rows, columns] } = *windows;
    let DepthwiseShape { batch, height, width, channels, kernel } = shape;
    let numbers = [height, width, channels, kernel, stride, top, left, rows, columns];
    choice::is_ours(Operation::Depthwise, storage, &numbers, batch)
}

pub(crate) fn map_shape(windows: &StridedDepthwise) -> Shape {
    let DepthwiseShape { batch, height, width, channels, .. } = windows.shape;
    Shape::new([batch, height, width, channels])
}

pub(crate) fn output_shape(windows: &StridedDepthwise) -> Shape {
    let [height, width] = windows.output;
    Shape::new([windows.shape.batch, height, width, windows.shape.channels])
}

/// The gradients of weight and bias.
pub(crate) fn parameter_forms(windows: &StridedDepthwise) -> [Form; 2] {
    let DepthwiseShape { channels, kernel, .. } = windows.shape;
    [(Shape::new([channels, 1, kernel, kernel]), DType::F32), (Shape::new([channels]), DType::F32)]
}

/// The rows of all outputs in stretches, each of which is summed by itself for the gradients of weight and bias.
pub(crate) fn chunks_of(windows: &StridedDepthwise) -> Chunks {
    Chunks::of(rows_of(windows), most_chunks(windows))
}

fn rows_of(windows: &StridedDepthwise) -> usize {
    windows.shape.batch * windows.output[0]
}

fn most_chunks(windows: &StridedDepthwise) -> usize {
    (ROWS_OF_TAPS_AT_ONCE / (windows.shape.channels * windows.shape.kernel).max(1)).max(1)
}

/// The sums of the chunks, one for each tap and one for the bias: at most `k + 1 / k` MiB, or one chunk.
pub(super) fn chunk_scratch(windows: &StridedDepthwise) -> Scratch {
    let DepthwiseShape { channels, kernel, .. } = windows.shape;
    let bytes_each = (kernel * kernel + 1) * channels * size_of::<f32>();
    Scratch { rows: rows_of(windows) as u64, bytes_each: bytes_each as u64, cut: cut_up_to(most_chunks(windows)) }
}
