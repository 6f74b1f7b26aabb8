//! How a device's memory is cut into pages.

use burn::backend::{InstallMemoryPoolsError, MemoryPoolLayout, SlicedPool};
use burn::tensor::Device;
use memory_planner::format_bytes;

/// Numbers of pages that are worth trying. Over 6 models, 4 cards and 2 image sizes (`docs/benchmarks/memory.md`), 12 and 16 hold most, and 24 where
/// many buffers are small; with fewer, the part of the last page that is not filled weighs more, with more, the largest buffers leave gaps.
pub(crate) const PAGE_COUNTS: [u64; 3] = [12, 16, 24];

/// Pages of the pool for small buffers, which would leave gaps between large ones.
const SMALL_PAGES: u64 = 4;

/// The pool for small buffers takes at most this much memory in a page, and at most this part of the budget.
const LARGEST_SMALL_PAGE: u64 = 8 << 20;
const SMALL_PAGE_PART: u64 = 256;

/// A buffer is small when so many go into a page.
const SMALL_BUFFERS_A_PAGE: u64 = 8;

/// A buffer that is larger than a page lies in one of so many.
const LARGE_PAGE_PAGES: u64 = 4;

/// Pages begin and end at multiples of this: CUDA's alignment, and a multiple of all others.
const PAGE_ALIGNMENT: u64 = 512;

/// The pools that a device's memory is cut into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PoolLayout {
    /// CubeCL's own: pages of 8 MiB and so on up to a sixteenth of the card for slices of an eighth to a half of them, and for larger buffers pages that
    /// begin at an eighth of the card and follow the average.
    #[default]
    Runtime,
    /// Pages of one size, and a few small ones for small buffers.
    Pages {
        /// Bytes of a page; larger buffers lie in pages of four times this.
        page_bytes: u64,
        /// Bytes of a small page.
        small_page_bytes: u64,
    },
}

impl PoolLayout {
    /// Pages so large that `count` of them, the small ones and the weights, which lie apart, make up the budget. At least 2.
    pub fn pages(count: u64, budget_bytes: u64, weight_bytes: u64) -> Self {
        let small_page_bytes = aligned(LARGEST_SMALL_PAGE.min(budget_bytes / SMALL_PAGE_PART));
        let left = budget_bytes.saturating_sub(weight_bytes + SMALL_PAGES * small_page_bytes);
        Self::Pages { page_bytes: aligned(left / count.max(2)), small_page_bytes }
    }

    /// Cuts the device's memory so, from now on; nothing may lie in its pools.
    ///
    /// # Errors
    /// Why the pools stay as they were.
    pub fn install(self, device: &Device) -> Result<(), InstallMemoryPoolsError> {
        device.memory_cleanup();
        device.memory_install_pools(match self {
            Self::Runtime => MemoryPoolLayout::SubSlices,
            Self::Pages { .. } => MemoryPoolLayout::Sliced(self.sliced()),
        })
    }

    /// In a few words: `12 pages of 790.1 MiB` for a budget.
    pub fn describe(self, budget_bytes: u64) -> String {
        match self {
            Self::Runtime => "CubeCL's own".to_owned(),
            Self::Pages { page_bytes, .. } => {
                format!("{} pages of {}", budget_bytes / page_bytes.max(1), format_bytes(page_bytes))
            }
        }
    }

    /// Small buffers first. Only their pool has a cap: what is above it goes to the next, and without one it would also take buffers as long as its
    /// pages (`SlicedPool::accept` in CubeCL).
    pub(crate) fn sliced(self) -> Vec<SlicedPool> {
        let Self::Pages { page_bytes, small_page_bytes } = self else { return Vec::new() };
        let pool = |page_size| SlicedPool { page_size, pages: None, max_slice: None };
        let small = SlicedPool {
            page_size: small_page_bytes,
            pages: Some(SMALL_PAGES),
            max_slice: Some(aligned(small_page_bytes / SMALL_BUFFERS_A_PAGE)),
        };
        vec![small, pool(page_bytes), pool(LARGE_PAGE_PAGES * page_bytes)]
    }
}

/// Rounded down, but never to nothing.
fn aligned(bytes: u64) -> u64 {
    (bytes / PAGE_ALIGNMENT).max(1) * PAGE_ALIGNMENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_weights_make_up_the_budget_and_no_more() {
        for budget in [3 << 20, 100 << 20, 9 << 30, (112 << 30) + 77] {
            for count in PAGE_COUNTS {
                let weights = budget / 10;
                let PoolLayout::Pages { page_bytes, small_page_bytes } = PoolLayout::pages(count, budget, weights)
                else {
                    panic!("another layout")
                };
                let all = count * page_bytes + SMALL_PAGES * small_page_bytes + weights;
                assert!(
                    all <= budget && all + (count + SMALL_PAGES) * PAGE_ALIGNMENT > budget,
                    "{budget} {count} {all}"
                );
            }
        }
    }

    #[test]
    fn a_model_that_leaves_nothing_still_makes_a_layout() {
        assert_eq!(
            PoolLayout::pages(12, 1 << 30, 2 << 30),
            PoolLayout::Pages { page_bytes: 512, small_page_bytes: 4 << 20 }
        );
    }
}
