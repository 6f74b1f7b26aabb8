//! What a CubeCL device would hold reserved: the buffers of a recording go through the rules of CubeCL's memory management.
//!
//! They are those of `cubecl-runtime` 0.11.0-pre.3 (`memory_management/`), told again over numbers alone: its own code moves every slice of every page
//! for each allocation, which makes a plan take seconds. A test holds the two together, byte for byte.

use std::collections::BTreeMap;

use vision_nn::Scratch;

use super::pages::{ExclusivePages, Outcome, SlicedPages};
use crate::PoolLayout;

/// What the allocator's rules depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocatorModel {
    /// The largest single allocation in CubeCL's own pools, in bytes; their page sizes are parts of it.
    pub max_page_bytes: u64,
    /// Every allocation begins at a multiple of this.
    pub alignment_bytes: u64,
    /// How the memory is cut.
    pub pools: PoolLayout,
}

impl AllocatorModel {
    /// A CUDA card: `cubecl-cuda` takes a quarter of the card as the largest allocation and aligns to 512 bytes (its `runtime.rs`).
    pub fn cuda(card_bytes: u64) -> Self {
        Self { max_page_bytes: card_bytes / 4, alignment_bytes: 512, pools: PoolLayout::Runtime }
    }

    /// Software Vulkan (Mesa's `llvmpipe`) by way of WebGPU, as `cubecl-wgpu` reads its limits (its `runtime.rs`): the largest storage binding, and
    /// the alignment of uniform offsets, which WebGPU raises to at least 32 bytes.
    #[cfg(feature = "wgpu")]
    pub fn software_vulkan() -> Self {
        Self { max_page_bytes: 128 << 20, alignment_bytes: 32, pools: PoolLayout::Runtime }
    }

    /// The same device with its memory cut otherwise.
    #[must_use]
    pub fn with_pools(self, pools: PoolLayout) -> Self {
        Self { pools, ..self }
    }
}

/// One thing that happens to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A buffer comes to be; parameters lie apart, in slices of exactly their size.
    Allocate { buffer: usize, bytes: u64, is_parameter: bool },
    /// A buffer for the time that one kernel runs.
    Scratch { buffer: usize, piece: Scratch },
    /// A buffer is given back.
    Free { buffer: usize },
}

/// The most bytes reserved at any moment; `None` when a buffer is larger than the largest allocation.
pub(super) fn replay(model: AllocatorModel, events: impl IntoIterator<Item = Event>) -> Option<u64> {
    let mut memory = Memory::new(model);
    for event in events {
        match event {
            Event::Allocate { buffer, bytes, is_parameter } => memory.allocate(buffer, bytes, is_parameter)?,
            Event::Scratch { buffer, piece } => memory.allocate(buffer, piece.bytes, false)?,
            Event::Free { buffer } => memory.free(buffer),
        }
    }
    Some(memory.most_bytes)
}

/// A device's memory, without the memory.
struct Memory {
    alignment_bytes: u64,
    pools: Vec<Pool>,
    /// Free slices of the parameters' pool, by size.
    persistent: BTreeMap<u64, usize>,
    held: BTreeMap<usize, Place>,
    /// Allocations so far: what CubeCL counts its periods in.
    allocations: u64,
    reserved_bytes: u64,
    most_bytes: u64,
}

enum Pool {
    Sliced(SlicedPages),
    Exclusive(ExclusivePages),
}

/// Where a buffer lies.
enum Place {
    Persistent { bytes: u64 },
    Page { pool: usize, page: usize },
}

impl Memory {
    fn new(model: AllocatorModel) -> Self {
        let pools = match model.pools {
            PoolLayout::Runtime => runtime_pools(model),
            PoolLayout::Pages { .. } => {
                let of = |pool: burn::backend::SlicedPool| {
                    let aligned = |bytes: u64| bytes.next_multiple_of(model.alignment_bytes);
                    let max_slice = pool.max_slice.unwrap_or(pool.page_size);
                    let pages = pool.pages.map(|pages| pages as usize);
                    Pool::Sliced(SlicedPages::new(aligned(pool.page_size), aligned(max_slice), pages))
                };
                model.pools.sliced().into_iter().map(of).collect()
            }
        };
        Self {
            alignment_bytes: model.alignment_bytes,
            pools,
            persistent: BTreeMap::new(),
            held: BTreeMap::new(),
            allocations: 0,
            reserved_bytes: 0,
            most_bytes: 0,
        }
    }

    fn allocate(&mut self, buffer: usize, bytes: u64, is_parameter: bool) -> Option<()> {
        self.allocations += 1;
        for pool in &mut self.pools {
            if let Pool::Exclusive(pages) = pool {
                self.reserved_bytes -= pages.release_idle(self.allocations);
            }
        }
        let place = if is_parameter { self.in_own_slice(bytes) } else { self.in_pools(buffer, bytes)? };
        self.most_bytes = self.most_bytes.max(self.reserved_bytes);
        self.held.insert(buffer, place);
        Some(())
    }

    fn in_own_slice(&mut self, bytes: u64) -> Place {
        let bytes = bytes.next_multiple_of(self.alignment_bytes);
        let free = self.persistent.entry(bytes).or_default();
        match free.checked_sub(1) {
            Some(fewer) => *free = fewer,
            None => self.reserved_bytes += bytes,
        }
        Place::Persistent { bytes }
    }

    fn in_pools(&mut self, buffer: usize, bytes: u64) -> Option<Place> {
        for (pool, pages) in self.pools.iter_mut().enumerate() {
            let outcome = match pages {
                Pool::Sliced(pages) => pages.reserve(buffer, bytes, self.alignment_bytes),
                Pool::Exclusive(pages) => pages.reserve(buffer, bytes, self.alignment_bytes),
            };
            if let Outcome::Reserved { page, new_bytes } = outcome {
                self.reserved_bytes += new_bytes;
                return Some(Place::Page { pool, page });
            }
        }
        None
    }

    fn free(&mut self, buffer: usize) {
        match self.held.remove(&buffer) {
            Some(Place::Persistent { bytes }) => *self.persistent.entry(bytes).or_default() += 1,
            Some(Place::Page { pool, page }) => match &mut self.pools[pool] {
                Pool::Sliced(pages) => pages.free(page, buffer),
                Pool::Exclusive(pages) => pages.free(buffer),
            },
            None => {}
        }
    }
}

/// CubeCL's own pools (`build_pools`): sliced pages of a quarter of the largest allocation, a quarter of that and so on down to below 32 MiB, each
/// for slices of a smaller part of a page the larger the page is; and exclusive pages above.
fn runtime_pools(model: AllocatorModel) -> Vec<Pool> {
    const GIB: f64 = (1u64 << 30) as f64;
    let mut sliced = Vec::new();
    let mut page_bytes = model.max_page_bytes;
    while page_bytes >= 32 << 20 {
        page_bytes = (page_bytes / 4).next_multiple_of(model.alignment_bytes);
        let part = 1u64 << (sliced.len() as u32 + 1);
        sliced.push(Pool::Sliced(SlicedPages::new(page_bytes, page_bytes / part, None)));
    }
    sliced.reverse();
    let largest = model.max_page_bytes / model.alignment_bytes * model.alignment_bytes;
    let idle_allocations = (5000.0 * (1.0 + largest as f64 / GIB).round()) as u64;
    sliced.push(Pool::Exclusive(ExclusivePages::new(largest, idle_allocations)));
    sliced
}

#[cfg(test)]
#[path = "allocator_tests.rs"]
mod tests;
