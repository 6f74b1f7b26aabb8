//! What the kernels of a card make of the end of a residual branch, known without a card.

use burn::tensor::Shape;

use crate::kernels::chunks::{Chunks, cut_up_to};
use crate::kernels::recorded::Scratch;

/// The name of the operation in the queue of a card and in recorded graphs.
pub(crate) const RESIDUAL: &str = "residual";

/// The name of its gradients there.
pub(crate) const RESIDUAL_GRADIENTS: &str = "residual gradients";

/// Sums of channels that are made at once: 2^16 units at vectors of four, half of what an H200 holds.
const SUMS_AT_ONCE: usize = 1 << 18;

/// Rows and channels of a map `[B, .., C]`.
pub(crate) fn rows_and_channels(map: &Shape) -> [usize; 2] {
    let channels = map.last().copied().unwrap_or(1).max(1);
    [map.num_elements() / channels, channels]
}

/// The rows of a map in stretches, each of which is summed by itself for the gradients of bias and scale.
pub(crate) fn chunks_of(map: &Shape) -> Chunks {
    let [rows, channels] = rows_and_channels(map);
    Chunks::of(rows, most_chunks(channels))
}

fn most_chunks(channels: usize) -> usize {
    (SUMS_AT_ONCE / channels).max(1)
}

/// The sums of the stretches, two a channel: at most two MiB, or one stretch.
pub(super) fn chunk_scratch(map: &Shape) -> Scratch {
    let [rows, channels] = rows_and_channels(map);
    let bytes_each = 2 * channels * size_of::<f32>();
    Scratch { rows: rows as u64, bytes_each: bytes_each as u64, cut: cut_up_to(most_chunks(channels)) }
}
