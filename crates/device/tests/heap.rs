//! The counting heap, installed.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;

use device::heap::{self, CountingAllocator};

#[global_allocator]
static HEAP: CountingAllocator = CountingAllocator;

const MIB: u64 = 1 << 20;

/// The counts are the process's: what the test harness allocates beside a test is some KiB.
const SLACK_BYTES: u64 = 256 << 10;

/// One test at a time: each of them moves the same count.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[track_caller]
fn assert_near(found: u64, expected: u64) {
    assert!(found.abs_diff(expected) <= SLACK_BYTES, "found {found}, expected {expected}");
}

#[test]
fn an_installed_allocator_is_noticed() {
    assert!(heap::is_counting());
}

#[test]
fn a_block_counts_while_it_lives_and_its_peak_stays() {
    let _alone = alone();
    let before = heap::current_bytes();
    heap::reset_peak();
    let block = black_box(vec![1u8; 8 << 20]);
    assert_near(heap::current_bytes(), before + 8 * MIB);
    drop(block);
    assert_near(heap::current_bytes(), before);
    assert_near(heap::peak_bytes(), before + 8 * MIB);
    heap::reset_peak();
    assert_near(heap::peak_bytes(), before);
}

#[test]
fn zeroed_blocks_count_like_others_and_are_zero() {
    let _alone = alone();
    let before = heap::current_bytes();
    let block = black_box(vec![0u8; 4 << 20]);
    assert!(block.iter().all(|byte| *byte == 0));
    assert_near(heap::current_bytes(), before + 4 * MIB);
}

#[test]
fn a_grown_or_shrunk_block_counts_with_its_new_size() {
    let _alone = alone();
    let before = heap::current_bytes();
    heap::reset_peak();
    let mut block: Vec<u8> = Vec::with_capacity(2 << 20);
    block.extend_from_slice(&[7; 1000]);
    block.reserve_exact(6 << 20);
    assert_near(heap::current_bytes(), before + 6 * MIB);
    assert_near(heap::peak_bytes(), before + 6 * MIB);
    block.shrink_to(1 << 20);
    assert_near(heap::current_bytes(), before + MIB);
    assert!(block.iter().all(|byte| *byte == 7) && block.len() == 1000);
    drop(black_box(block));
    assert_near(heap::current_bytes(), before);
}

#[test]
fn ten_thousand_reallocations_leave_nothing_behind() {
    let _alone = alone();
    let before = heap::current_bytes();
    let mut block: Vec<u64> = Vec::new();
    for round in 0..10_000usize {
        block.resize(1 + round * 7919 % 5_000, round as u64);
        block.shrink_to_fit();
    }
    drop(black_box(block));
    assert_near(heap::current_bytes(), before);
}

#[test]
fn alignment_is_kept() {
    let _alone = alone();
    for power in 0..=16 {
        let alignment = 1usize << power;
        let layout = Layout::from_size_align(3 * alignment, alignment).unwrap();
        // SAFETY: the layout is not empty; the block is used within its size and freed with the layout it has.
        unsafe {
            let pointer = HEAP.alloc(layout);
            assert!(!pointer.is_null() && pointer.addr().is_multiple_of(alignment), "alignment {alignment}");
            pointer.write_bytes(0xA5, layout.size());
            let pointer = HEAP.realloc(pointer, layout, 9 * alignment);
            assert!(!pointer.is_null() && pointer.addr().is_multiple_of(alignment), "alignment {alignment}");
            assert_eq!(pointer.add(layout.size() - 1).read(), 0xA5);
            HEAP.dealloc(pointer, Layout::from_size_align(9 * alignment, alignment).unwrap());
        }
    }
}

#[test]
fn large_blocks_begin_with_a_cache_line_and_keep_their_bytes() {
    let _alone = alone();
    let before = heap::current_bytes();
    let byte = |at: usize| (at % 251) as u8;
    // From below the least size to above it and back, and so far that the system's block moves.
    for sizes in [[100, 5_000, 90], [5_000, 50_000, 4_096], [1 << 20, 40 << 20, 6_001], [4_095, 4_096, 4_095]] {
        for is_zeroed in [false, true] {
            let layout = |size| Layout::from_size_align(size, 4).unwrap();
            // SAFETY: no layout is empty; blocks are used within their size and freed with the layout they have.
            unsafe {
                let mut block =
                    if is_zeroed { HEAP.alloc_zeroed(layout(sizes[0])) } else { HEAP.alloc(layout(sizes[0])) };
                if is_zeroed {
                    assert!((0..sizes[0]).all(|at| block.add(at).read() == 0));
                }
                (0..sizes[0]).for_each(|at| block.add(at).write(byte(at)));
                for (old, new) in [(sizes[0], sizes[1]), (sizes[1], sizes[2])] {
                    assert!(old < 4_096 || block.addr().is_multiple_of(64), "{old} bytes");
                    block = HEAP.realloc(block, layout(old), new);
                    let kept = sizes[0].min(old).min(new);
                    assert!((0..kept).all(|at| block.add(at).read() == byte(at)), "{old} bytes to {new}");
                }
                HEAP.dealloc(block, layout(sizes[2]));
            }
        }
    }
    assert_near(heap::current_bytes(), before);
}

#[test]
fn an_allocation_that_fails_leaves_no_trace() {
    let _alone = alone();
    let before = heap::current_bytes();
    heap::reset_peak();
    let mut block: Vec<u8> = Vec::with_capacity(16);
    assert!(black_box(&mut block).try_reserve_exact(isize::MAX as usize - 64).is_err());
    assert_near(heap::current_bytes(), before);
    assert_near(heap::peak_bytes(), before);
}

#[test]
fn an_allocation_that_fails_raises_no_peak_by_way_of_another_thread() {
    let _alone = alone();
    let before = heap::current_bytes();
    heap::reset_peak();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                drop(black_box(vec![1u8; 64]));
            }
        });
        for _ in 0..20_000 {
            let mut block: Vec<u8> = Vec::new();
            assert!(black_box(&mut block).try_reserve_exact(isize::MAX as usize - 64).is_err());
        }
        is_over.store(true, Relaxed);
    });
    assert_near(heap::peak_bytes(), before);
}

#[test]
fn the_peak_of_threads_that_hold_memory_at_once_is_their_sum() {
    let _alone = alone();
    let before = heap::current_bytes();
    heap::reset_peak();
    let all_hold = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let block = black_box(vec![1u8; 4 << 20]);
                all_hold.wait();
                drop(block);
            });
        }
    });
    assert_near(heap::peak_bytes(), before + 32 * MIB);
    assert_near(heap::current_bytes(), before);
}

#[test]
fn the_peak_of_threads_that_take_turns_is_not_their_sum() {
    let _alone = alone();
    let before = heap::current_bytes();
    heap::reset_peak();
    let turn = Mutex::new(());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let _turn = turn.lock().unwrap();
                drop(black_box(vec![1u8; 4 << 20]));
            });
        }
    });
    assert_near(heap::peak_bytes(), before + 4 * MIB);
}

#[test]
fn a_storm_of_threads_leaves_the_count_as_it_was() {
    let _alone = alone();
    let before = heap::current_bytes();
    thread::scope(|scope| {
        for seed in 0..8u64 {
            scope.spawn(move || storm(seed));
        }
    });
    assert_near(heap::current_bytes(), before);
    assert!(heap::peak_bytes() >= heap::current_bytes());
}

#[test]
fn resetting_amid_a_storm_never_loses_what_is_held() {
    let _alone = alone();
    let held = black_box(vec![1u8; 16 << 20]);
    thread::scope(|scope| {
        for seed in 0..4u64 {
            scope.spawn(move || storm(seed));
        }
        for _ in 0..10_000 {
            heap::reset_peak();
            assert!(heap::peak_bytes() >= 16 * MIB);
        }
    });
    drop(held);
}

/// Allocates, grows, shrinks and frees up to 64 blocks at a time, then frees all.
fn storm(seed: u64) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut blocks: Vec<Vec<u8>> = vec![Vec::new(); 64];
    for _ in 0..20_000 {
        // A linear congruential step (Knuth's MMIX constants): any cheap sequence will do.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let block = &mut blocks[(state >> 58) as usize];
        let size = (state >> 40) as usize % 20_000;
        match (state >> 33) % 3 {
            0 => *block = vec![0; size],
            1 => block.reserve(size),
            _ => block.shrink_to(size / 2),
        }
        black_box(&block);
    }
}

#[test]
fn an_overrun_of_the_limit_is_told_once_with_its_height_and_the_allocation_stands() {
    let _alone = alone();
    let before = heap::current_bytes();
    let limit = before + 4 * MIB;
    heap::set_limit(Some(limit));
    assert_eq!(heap::limit_bytes(), Some(limit));
    drop(black_box(vec![1u8; 2 << 20]));
    assert_eq!(heap::take_overrun(), None);
    let block = black_box(vec![1u8; 8 << 20]);
    assert_eq!(block.len(), 8 << 20);
    drop(block);
    assert_near(heap::take_overrun().unwrap(), before + 8 * MIB);
    assert_eq!(heap::take_overrun(), None);
    heap::set_limit(None);
}

#[test]
fn an_overrun_in_another_thread_and_by_growing_counts() {
    let _alone = alone();
    let before = heap::current_bytes();
    heap::set_limit(Some(before + 2 * MIB));
    thread::spawn(|| {
        let mut block: Vec<u8> = Vec::with_capacity(1 << 20);
        block.reserve_exact(6 << 20);
        drop(black_box(block));
    })
    .join()
    .unwrap();
    assert_near(heap::take_overrun().unwrap(), before + 6 * MIB);
    heap::set_limit(None);
}

#[test]
fn without_a_limit_nothing_is_noted_and_a_new_limit_forgets_the_old_overrun() {
    let _alone = alone();
    heap::set_limit(Some(1));
    drop(black_box(vec![1u8; 1 << 20]));
    heap::set_limit(None);
    drop(black_box(vec![1u8; 1 << 20]));
    assert_eq!((heap::limit_bytes(), heap::take_overrun()), (None, None));
}
