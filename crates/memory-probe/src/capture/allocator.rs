//! What a CubeCL device would hold reserved: the buffers of a recording go through CubeCL's own memory management, over a storage that only
//! counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cubecl_ir::MemoryDeviceProperties;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::{
    ManagedMemoryHandle, MemoryAllocationMode, MemoryConfiguration, MemoryManagement, MemoryManagementOptions,
};
use cubecl_runtime::server::IoError;
use cubecl_runtime::storage::{ComputeStorage, StorageHandle, StorageId, StorageUtilization};

/// What the allocator's rules depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocatorModel {
    /// The largest single allocation, in bytes; page sizes are parts of it.
    pub max_page_bytes: u64,
    /// Every allocation begins at a multiple of this.
    pub alignment_bytes: u64,
}

impl AllocatorModel {
    /// A CUDA card: `cubecl-cuda` takes a quarter of the card as the largest allocation and aligns to 512 bytes (its `runtime.rs`).
    pub fn cuda(card_bytes: u64) -> Self {
        Self { max_page_bytes: card_bytes / 4, alignment_bytes: 512 }
    }

    /// Software Vulkan (Mesa's `llvmpipe`) by way of WebGPU, as `cubecl-wgpu` reads its limits (its `runtime.rs`): the largest storage binding, and
    /// the alignment of uniform offsets, which WebGPU raises to at least 32 bytes.
    #[cfg(feature = "wgpu")]
    pub fn software_vulkan() -> Self {
        Self { max_page_bytes: 128 << 20, alignment_bytes: 32 }
    }

    fn pools(self, counted: &Counted) -> MemoryManagement<CountingStorage> {
        let properties = MemoryDeviceProperties { max_page_size: self.max_page_bytes, alignment: self.alignment_bytes };
        MemoryManagement::from_configuration(
            CountingStorage {
                alignment_bytes: self.alignment_bytes as usize,
                pages: BTreeMap::new(),
                counted: counted.clone(),
            },
            &properties,
            MemoryConfiguration::default(),
            Arc::new(ServerLogger::default()),
            MemoryManagementOptions::new("replay"),
        )
    }
}

/// One thing that happens to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A buffer comes to be; parameters lie apart, in slices of exactly their size.
    Allocate { buffer: usize, bytes: u64, is_parameter: bool },
    /// A buffer is given back.
    Free { buffer: usize },
}

/// The most bytes reserved at any moment; `None` when a buffer is larger than the largest allocation.
pub(super) fn replay(model: AllocatorModel, events: &[Event]) -> Option<u64> {
    let counted = Counted::default();
    let mut pools = model.pools(&counted);
    let mut held: BTreeMap<usize, ManagedMemoryHandle> = BTreeMap::new();
    for event in events {
        match *event {
            Event::Allocate { buffer, bytes, is_parameter } => {
                if is_parameter {
                    pools.mode(MemoryAllocationMode::Persistent);
                }
                let handle = pools.reserve(bytes).ok();
                if is_parameter {
                    pools.mode(MemoryAllocationMode::Auto);
                }
                held.insert(buffer, handle?);
            }
            Event::Free { buffer } => drop(held.remove(&buffer)),
        }
    }
    Some(counted.most.load(Relaxed))
}

/// Bytes of all pages, now and at most.
#[derive(Debug, Clone, Default)]
struct Counted {
    now: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

/// Pages that are only counted.
struct CountingStorage {
    alignment_bytes: usize,
    pages: BTreeMap<StorageId, u64>,
    counted: Counted,
}

impl ComputeStorage for CountingStorage {
    type Resource = ();

    fn alignment(&self) -> usize {
        self.alignment_bytes
    }

    fn get(&mut self, _handle: &StorageHandle) -> Result<(), IoError> {
        Ok(())
    }

    fn alloc(&mut self, size: u64) -> Result<StorageHandle, IoError> {
        let handle = StorageHandle::new(StorageId::new(), StorageUtilization { offset: 0, size });
        self.pages.insert(handle.id, size);
        let now = self.counted.now.fetch_add(size, Relaxed) + size;
        self.counted.most.fetch_max(now, Relaxed);
        Ok(handle)
    }

    fn dealloc(&mut self, id: StorageId) {
        let size = self.pages.remove(&id).unwrap_or(0);
        self.counted.now.fetch_sub(size, Relaxed);
    }

    fn flush(&mut self) {}
}
