//! What the kernels of a card make of attention within windows, known without a card.

use burn::tensor::Shape;
use cpu_kernels::WindowAttention;

use crate::kernels::recorded::{Cut, Scratch};

/// A unit has a token of its own, and a cube of every WebGPU has so many units.
const MOST_TOKENS: usize = 256;

/// A unit holds up to four rows of a head in registers.
const MOST_HEAD_WIDTH: usize = 64;

/// Numbers that the gradients of the bias may take before they are added up: 32 MiB, which stay in the cache of a large card.
const MOST_SUMS: usize = 1 << 23;

/// Parts are an axis of a launch, which has no more cubes on any device.
const MOST_PARTS: usize = u16::MAX as usize;

/// Whether the kernels take such windows, which tile the map. Heads are read in vectors of four.
pub(crate) fn cards_take(windows: &WindowAttention) -> bool {
    let WindowAttention { batch, grid, heads, head_width, .. } = *windows;
    let is_empty = [batch, grid[0], grid[1], heads].contains(&0);
    !is_empty
        && tokens(windows) <= MOST_TOKENS
        && head_width.is_multiple_of(4)
        && (4..=MOST_HEAD_WIDTH).contains(&head_width)
}

/// N.
pub(crate) fn tokens(windows: &WindowAttention) -> usize {
    windows.window[0] * windows.window[1]
}

/// Windows of all images.
pub(crate) fn count(windows: &WindowAttention) -> usize {
    let [down, across] = [0, 1].map(|axis| windows.grid[axis] / windows.window[axis]);
    windows.batch * down * across
}

pub(crate) fn output_shape(windows: &WindowAttention) -> Shape {
    let [height, width] = windows.grid;
    Shape::new([windows.batch, height, width, windows.heads * windows.head_width])
}

/// Windows are shared out in parts, each of which sums its own gradient of the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) count: usize,
    /// Windows of each but the last, which may have fewer.
    pub(crate) windows_each: usize,
}

impl Parts {
    pub(crate) fn of(windows: &WindowAttention) -> Self {
        let (cut, all) = (Self::cut(windows), count(windows) as u64);
        Self { count: cut.stretches(all) as usize, windows_each: cut.longest(all) as usize }
    }

    fn cut(windows: &WindowAttention) -> Cut {
        Cut::Equally { lines: 1, least: 1, most: Self::most(windows) as u64 }
    }

    fn most(windows: &WindowAttention) -> usize {
        (MOST_SUMS / sums_of_a_part(windows).max(1)).clamp(1, MOST_PARTS)
    }
}

/// The bias with its last two axes exchanged.
pub(super) fn bias_scratch(windows: &WindowAttention) -> Scratch {
    Scratch::of_rows(1, bytes_of_a_part(windows))
}

/// The gradients of the bias that the parts have.
pub(crate) fn sums_scratch(windows: &WindowAttention) -> Scratch {
    Scratch { rows: count(windows) as u64, bytes_each: bytes_of_a_part(windows) as u64, cut: Parts::cut(windows) }
}

/// nH N N.
fn sums_of_a_part(windows: &WindowAttention) -> usize {
    windows.heads * tokens(windows) * tokens(windows)
}

fn bytes_of_a_part(windows: &WindowAttention) -> usize {
    size_of::<f32>() * sums_of_a_part(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_is_in_one_part() {
        for (batch, heads, window) in [(1, 1, 7), (256, 4, 7), (64, 32, 12), (3, 1, 1), (100_000, 1, 1)] {
            let grid = [2 * window, 3 * window];
            let windows = WindowAttention { batch, grid, window: [window; 2], shift: [0, 0], heads, head_width: 32 };
            let Parts { count: parts, windows_each } = Parts::of(&windows);
            assert!(parts * windows_each >= count(&windows) && (parts - 1) * windows_each < count(&windows));
            assert!(parts <= Parts::most(&windows) && parts <= 65_535);
        }
    }
}
