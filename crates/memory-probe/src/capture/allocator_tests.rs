//! The replay beside CubeCL's own memory management, which runs on a storage that only counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cubecl_ir::MemoryDeviceProperties;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::{
    ManagedMemoryHandle, MemoryAllocationMode, MemoryConfiguration, MemoryManagement, MemoryManagementOptions,
    MemoryPoolOptions, PoolType,
};
use cubecl_runtime::server::IoError;
use cubecl_runtime::storage::{ComputeStorage, StorageHandle, StorageId, StorageUtilization};

use super::*;

const MIB: u64 = 1 << 20;

/// CubeCL's configuration of the same pools.
fn configuration(layout: PoolLayout) -> MemoryConfiguration {
    if layout == PoolLayout::Runtime {
        return MemoryConfiguration::default();
    }
    let options = |pool: burn::backend::SlicedPool| MemoryPoolOptions {
        pool_type: PoolType::SlicedPages {
            page_size: pool.page_size,
            max_slice_size: pool.max_slice.unwrap_or(pool.page_size),
            max_pool_size: pool.pages.map(|pages| pages * pool.page_size),
        },
        dealloc_period: None,
    };
    MemoryConfiguration::Custom { pool_options: layout.sliced().into_iter().map(options).collect() }
}

fn replay_in_cubecl(model: AllocatorModel, events: &[Event]) -> Option<u64> {
    let storage = CountingStorage { alignment: model.alignment_bytes as usize, ..CountingStorage::default() };
    let most = storage.most.clone();
    let properties = MemoryDeviceProperties { max_page_size: model.max_page_bytes, alignment: model.alignment_bytes };
    let logger = Arc::new(ServerLogger::default());
    let options = MemoryManagementOptions::new("replay");
    let mut pools =
        MemoryManagement::from_configuration(storage, &properties, configuration(model.pools), logger, options);
    let mut held: BTreeMap<usize, ManagedMemoryHandle> = BTreeMap::new();
    for event in events {
        match *event {
            Event::Allocate { buffer, bytes, is_parameter, .. } => {
                let modes = [MemoryAllocationMode::Persistent, MemoryAllocationMode::Auto];
                if is_parameter {
                    pools.mode(modes[0]);
                }
                let handle = pools.reserve(bytes).ok();
                if is_parameter {
                    pools.mode(modes[1]);
                }
                held.insert(buffer, handle?);
            }
            Event::Scratch { .. } => unreachable!("no kernel runs here"),
            Event::Free { buffer } => drop(held.remove(&buffer)),
        }
    }
    Some(most.load(Relaxed))
}

#[derive(Default)]
struct CountingStorage {
    alignment: usize,
    pages: BTreeMap<StorageId, u64>,
    now: u64,
    most: Arc<AtomicU64>,
}

impl ComputeStorage for CountingStorage {
    type Resource = ();

    fn alignment(&self) -> usize {
        self.alignment
    }

    fn get(&mut self, _handle: &StorageHandle) -> Result<(), IoError> {
        Ok(())
    }

    fn alloc(&mut self, size: u64) -> Result<StorageHandle, IoError> {
        let handle = StorageHandle::new(StorageId::new(), StorageUtilization { offset: 0, size });
        self.pages.insert(handle.id, size);
        self.now += size;
        self.most.fetch_max(self.now, Relaxed);
        Ok(handle)
    }

    fn dealloc(&mut self, id: StorageId) {
        self.now -= self.pages.remove(&id).unwrap_or(0);
    }

    fn flush(&mut self) {}
}

/// Numbers that are the same in every run (a linear congruence, Knuth's constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }
}

/// Buffers of all sizes come and go: many alike, as in a model, a few odd, some parameters.
fn random_events(seed: u64, count: usize, largest: u64) -> Vec<Event> {
    let mut numbers = Numbers(seed);
    let (mut events, mut live) = (Vec::new(), Vec::new());
    for buffer in 0..count {
        let exponent = numbers.below(u64::from(largest.ilog2()) + 1);
        let bytes = match numbers.below(4) {
            0 => 1 + numbers.below(1 << exponent),
            1 => 3 << exponent.saturating_sub(2),
            _ => 1 << exponent,
        };
        events.push(Event::Allocate { buffer, bytes, padded_bytes: bytes, is_parameter: numbers.below(12) == 0 });
        live.push(buffer);
        while live.len() as u64 > 20 + numbers.below(40) {
            let position = numbers.below(live.len() as u64) as usize;
            events.push(Event::Free { buffer: live.swap_remove(position) });
        }
    }
    events
}

#[test]
fn the_replay_reserves_what_cubecl_reserves() {
    let layouts = [
        PoolLayout::Runtime,
        PoolLayout::pages(12, 900 * MIB, 20 * MIB),
        PoolLayout::pages(24, 300 * MIB, 20 * MIB),
        PoolLayout::pages(2, 700 * MIB, 0),
    ];
    let devices = [
        AllocatorModel::cuda(6 << 30),
        AllocatorModel { max_page_bytes: 128 * MIB, alignment_bytes: 32, pools: PoolLayout::Runtime, pads_rows: false },
    ];
    for device in devices {
        for layout in layouts {
            let model = device.with_pools(layout);
            for seed in 0..3 {
                let events = random_events(seed, 4_000, 48 * MIB);
                let expected = replay_in_cubecl(model, &events);
                assert!(expected.is_some_and(|bytes| bytes > 100 * MIB), "{expected:?}");
                assert_eq!(replay(model, events), expected, "{model:?} {seed}");
            }
        }
    }
}

#[test]
fn pages_that_lie_idle_are_given_back_when_cubecl_gives_them_back() {
    // Two buffers above the sliced pools, one after the other with many small allocations between: the first one's page is gone by then.
    let model =
        AllocatorModel { max_page_bytes: 128 * MIB, alignment_bytes: 32, pools: PoolLayout::Runtime, pads_rows: false };
    let large = |buffer, bytes| Event::Allocate { buffer, bytes, padded_bytes: bytes, is_parameter: false };
    let mut events = vec![large(0, 100 * MIB), Event::Free { buffer: 0 }];
    for buffer in 1..7_000 {
        events.extend([large(buffer, 1_000), Event::Free { buffer }]);
    }
    events.push(large(7_000, 120 * MIB));
    let expected = replay_in_cubecl(model, &events);
    assert_eq!(replay(model, events), expected);
    assert!(expected.is_some_and(|bytes| bytes < 200 * MIB), "{expected:?}");
}

#[test]
fn what_no_pool_takes_fits_nowhere() {
    let model = AllocatorModel::cuda(1 << 30);
    let events = [Event::Allocate { buffer: 0, bytes: 300 * MIB, padded_bytes: 300 * MIB, is_parameter: false }];
    assert_eq!((replay(model, events), replay_in_cubecl(model, &events)), (None, None));
}

/// ConvNeXt-T's widths in f32 and in two bytes; a head of 10 classes; single numbers.
#[test]
fn rows_are_padded_as_cuda_pads_them() {
    let pitches = |element_bytes, rows: &[u64]| {
        rows.iter().map(|&elements| row_pitch(elements, element_bytes, CUDA_ALIGNMENT)).collect::<Vec<_>>()
    };
    assert_eq!(pitches(4, &[96, 192, 384, 768]), [512, 1024, 1536, 3072], "a third more for the first two stages");
    assert_eq!(
        pitches(2, &[96, 192, 384, 768]),
        [256, 512, 1024, 1536],
        "and for the third, where numbers have two bytes"
    );
    assert_eq!(pitches(4, &[10, 3, 1000]), [64, 16, 4096]);
    assert_eq!(pitches(4, &[1]), [4], "single numbers are not padded");
    for elements in 1..3_000 {
        let pitch = row_pitch(elements, 4, CUDA_ALIGNMENT);
        assert!(pitch >= 4 * elements && pitch < 4 * elements + CUDA_ALIGNMENT, "{elements}: {pitch}");
    }
}

#[test]
fn padded_rows_are_taken_where_the_device_pads_them() {
    let events = [Event::Allocate { buffer: 0, bytes: 3 << 20, padded_bytes: 4 << 20, is_parameter: true }];
    let cuda = AllocatorModel::cuda(6 << 30);
    assert_eq!(replay(cuda, events), Some(4 << 20));
    assert_eq!(replay(AllocatorModel { pads_rows: false, ..cuda }, events), Some(3 << 20));
}
