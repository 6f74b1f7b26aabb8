//! What a CubeCL device would hold reserved: the buffers of a recording go through the rules of CubeCL's memory management.
//!
//! They are those of `cubecl-runtime` 0.11.0-pre.3 (`memory_management/`), told again over numbers alone: its own code moves every slice of every page
//! for each allocation, which makes a plan take seconds. A test holds the two together, byte for byte.

use std::collections::BTreeMap;

use vision_nn::Scratch;

use super::pages::{ExclusivePages, Place, SlicedPages};
use crate::PoolLayout;

/// Allocations of CUDA begin at multiples of this (`cubecl-cuda`, `runtime.rs`), and rows are padded to it at most.
pub(super) const CUDA_ALIGNMENT: u64 = 512;

/// What the allocator's rules depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AllocatorModel {
    /// The largest single allocation in CubeCL's own pools, in bytes; their page sizes are parts of it.
    pub max_page_bytes: u64,
    /// Every allocation begins at a multiple of this.
    pub alignment_bytes: u64,
    /// How the memory is cut.
    pub pools: PoolLayout,
    /// Whether rows of what matrix products and convolutions write are padded: see `row_pitch`.
    pub pads_rows: bool,
}

/// Bytes from the beginning of one row of `row_bytes` to that of the next where a device pads them, as CubeCL does on CUDA: the next multiple of the next
/// power of two, which counts as 16 at least and as the alignment at most (`PitchedMemoryLayoutPolicy` and `optimal_align` in `cubecl-runtime`
/// 0.11.0-pre.3). A row of one element is not padded.
///
/// Burn allocates so what is no output of its fusion: matrix products that take no elementwise operation with them, and convolutions
/// (`empty_device_dtype` in `burn-cubecl`). What fusion makes lies without gaps (`client.empty` in `burn-cubecl-fusion`), and so do reductions and the
/// operations of this project (`empty_device_contiguous_dtype`). Read off the sources; no card was at hand to see it.
pub(super) fn row_pitch(elements: u64, element_bytes: u64, alignment_bytes: u64) -> u64 {
    let row_bytes = elements * element_bytes;
    if elements <= 1 {
        return row_bytes;
    }
    row_bytes.next_multiple_of(row_bytes.next_power_of_two().clamp(16, alignment_bytes.max(16)))
}

impl AllocatorModel {
    /// A CUDA card: `cubecl-cuda` takes a quarter of the card as the largest allocation and aligns to 512 bytes (its `runtime.rs`).
    pub fn cuda(card_bytes: u64) -> Self {
        Self {
            max_page_bytes: card_bytes / 4,
            alignment_bytes: CUDA_ALIGNMENT,
            pools: PoolLayout::Runtime,
            pads_rows: true,
        }
    }

    /// Software Vulkan (Mesa's `llvmpipe`) by way of WebGPU, as `cubecl-wgpu` reads its limits (its `runtime.rs`): the largest storage binding, and
    /// the alignment of uniform offsets, which WebGPU raises to at least 32 bytes.
    #[cfg(feature = "wgpu")]
    pub fn software_vulkan() -> Self {
        Self { max_page_bytes: 128 << 20, alignment_bytes: 32, pools: PoolLayout::Runtime, pads_rows: false }
    }

    /// The same device with its memory cut otherwise.
    #[must_use]
    pub fn with_pools(self, pools: PoolLayout) -> Self {
        Self { pools, ..self }
    }
}

/// One thing that happens to memory. Buffers are numbered from 0 on, without large gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A buffer comes to be; parameters lie apart, in slices of exactly their size. With padded rows it takes more, where its kernel pads them.
    Allocate { buffer: usize, bytes: u64, padded_bytes: u64, is_parameter: bool },
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
            Event::Allocate { buffer, padded_bytes, is_parameter, .. } if model.pads_rows => {
                memory.allocate(buffer, padded_bytes, is_parameter)?;
            }
            Event::Allocate { buffer, bytes, is_parameter, .. } => memory.allocate(buffer, bytes, is_parameter)?,
            Event::Scratch { buffer, piece } => memory.allocate(buffer, piece.bytes(), false)?,
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
    /// By buffer.
    held: Vec<Option<Holder>>,
    /// Allocations so far: what CubeCL counts its periods in.
    allocations: u64,
    reserved_bytes: u64,
    most_bytes: u64,
}

enum Pool {
    Sliced(SlicedPages),
    Exclusive(ExclusivePages),
}

/// What holds a buffer.
enum Holder {
    /// A slice of its own size.
    OwnSlice {
        bytes: u64,
    },
    Slice {
        pool: usize,
        place: Place,
    },
    /// A page that holds nothing else.
    Page {
        pool: usize,
    },
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
            held: Vec::new(),
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
        let holder = if is_parameter { self.in_own_slice(bytes) } else { self.in_pools(buffer, bytes)? };
        self.most_bytes = self.most_bytes.max(self.reserved_bytes);
        if self.held.len() <= buffer {
            self.held.resize_with(buffer + 1, || None);
        }
        self.held[buffer] = Some(holder);
        Some(())
    }

    fn in_own_slice(&mut self, bytes: u64) -> Holder {
        let bytes = bytes.next_multiple_of(self.alignment_bytes);
        let free = self.persistent.entry(bytes).or_default();
        match free.checked_sub(1) {
            Some(fewer) => *free = fewer,
            None => self.reserved_bytes += bytes,
        }
        Holder::OwnSlice { bytes }
    }

    fn in_pools(&mut self, buffer: usize, bytes: u64) -> Option<Holder> {
        let alignment = self.alignment_bytes;
        let held = self.pools.iter_mut().enumerate().find_map(|(pool, pages)| match pages {
            Pool::Sliced(pages) => {
                pages.reserve(bytes, alignment).map(|(place, new_bytes)| (Holder::Slice { pool, place }, new_bytes))
            }
            Pool::Exclusive(pages) => {
                pages.reserve(buffer, bytes, alignment).map(|new_bytes| (Holder::Page { pool }, new_bytes))
            }
        });
        let (holder, new_bytes) = held?;
        self.reserved_bytes += new_bytes;
        Some(holder)
    }

    fn free(&mut self, buffer: usize) {
        match self.held.get_mut(buffer).and_then(Option::take) {
            Some(Holder::OwnSlice { bytes }) => *self.persistent.entry(bytes).or_default() += 1,
            Some(Holder::Slice { pool, place }) => {
                if let Pool::Sliced(pages) = &mut self.pools[pool] {
                    pages.free(place);
                }
            }
            Some(Holder::Page { pool }) => {
                if let Pool::Exclusive(pages) = &mut self.pools[pool] {
                    pages.free(buffer);
                }
            }
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
