//! A heap that knows how much it holds: the measure of memory on the CPU.
//!
//! ```no_run
//! use device::heap::{self, CountingAllocator};
//!
//! #[global_allocator]
//! static HEAP: CountingAllocator = CountingAllocator;
//!
//! heap::reset_peak();
//! let step = vec![0u8; 1 << 20];
//! assert!(heap::peak_bytes() >= 1 << 20);
//! # drop(step);
//! ```
//!
//! It counts the bytes that the program asks for. What the allocators behind it add (some bytes a block, free pages they
//! keep) is not in it, nor are stacks, code and mapped files. Memory that is asked for and never touched is.

mod blocks;
mod limit;
mod pages;

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub use limit::{limit_bytes, set_aside_overrun, set_limit, take_overrun, take_set_aside};
pub use pages::keep_pages;

/// The system's allocator for blocks of 256 KiB and more and mimalloc for others, with a count of live bytes and of the most there ever were. Blocks of 4 KiB
/// and more begin with a line of the cache.
///
/// Install it with `#[global_allocator]` in the binary. Allocating and freeing cost one atomic addition each; the peak
/// is written only while it rises. The count is one number for all threads, so that the peak is one that really was and
/// not a sum of peaks of different moments.
///
/// Bytes are counted from when their allocation has succeeded, before anyone can write to them, until after they are
/// freed. Counting them earlier would let an allocation that fails raise the peak by way of another thread that counts
/// in that moment. A `realloc` counts as its difference: whether the block moved, and for a moment existed twice,
/// cannot be seen from here.
#[derive(Debug, Default, Clone, Copy)]
pub struct CountingAllocator;

/// Bytes that are allocated now. 0 where the allocator is not installed.
pub fn current_bytes() -> u64 {
    CURRENT.0.load(Relaxed) as u64
}

/// The most bytes that were allocated at any moment since the start, or since [`reset_peak`]. 0 where the allocator is
/// not installed.
pub fn peak_bytes() -> u64 {
    // An allocation that is counted but has not yet raised the peak must not make it look lower than the present.
    PEAK.0.load(Relaxed).max(CURRENT.0.load(Relaxed)) as u64
}

/// Lets the peak begin again from the present, also while other threads allocate.
pub fn reset_peak() {
    // Storing the present would erase a higher peak that another thread reaches between reading and storing.
    PEAK.0.store(0, Relaxed);
    PEAK.0.fetch_max(CURRENT.0.load(Relaxed), Relaxed);
}

/// Whether [`CountingAllocator`] is this program's global allocator.
pub fn is_counting() -> bool {
    if CURRENT.0.load(Relaxed) > 0 {
        return true;
    }
    let probe = black_box(Box::new(0u8));
    let is_counting = CURRENT.0.load(Relaxed) > 0;
    drop(probe);
    is_counting
}

/// A counter on cache lines of its own: one that is only read must not move with one that every allocation writes. 128
/// because processors fetch lines of 64 bytes in pairs.
#[repr(align(128))]
struct Counter(AtomicUsize);

impl Counter {
    const fn new(value: usize) -> Self {
        Self(AtomicUsize::new(value))
    }
}

static CURRENT: Counter = Counter::new(0);
static PEAK: Counter = Counter::new(0);

/// Adds to the count and returns it. Additions to one atomic are in one order for all threads, so each value returned
/// was the true count at a moment.
fn add(bytes: usize) -> usize {
    CURRENT.0.fetch_add(bytes, Relaxed).wrapping_add(bytes)
}

fn subtract(bytes: usize) {
    CURRENT.0.fetch_sub(bytes, Relaxed);
}

/// Mostly only a read: the peak is seldom exceeded.
fn raise_peak(count: usize) {
    if count > PEAK.0.load(Relaxed) {
        PEAK.0.fetch_max(count, Relaxed);
    }
}

/// Counts an allocation of `bytes` that `allocate` makes. One that fails leaves no trace.
fn counted(bytes: usize, allocate: impl FnOnce() -> *mut u8) -> *mut u8 {
    let pointer = allocate();
    if !pointer.is_null() {
        let count = add(bytes);
        raise_peak(count);
        limit::watch(count);
    }
    pointer
}

// SAFETY: every call goes to `blocks` with the arguments it came with, and its answer is returned as it is; counting
// neither allocates nor panics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        counted(layout.size(), || unsafe { blocks::allocate(layout, false) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        counted(layout.size(), || unsafe { blocks::allocate(layout, true) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from this allocator, with this layout.
        unsafe { blocks::free(pointer, layout) };
        subtract(layout.size());
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let grown_bytes = new_size.saturating_sub(layout.size());
        // SAFETY: the pointer came from this allocator, with this layout; the caller keeps the contract for `new_size`.
        let moved = counted(grown_bytes, || unsafe { blocks::reallocate(pointer, layout, new_size) });
        if !moved.is_null() {
            subtract(layout.size().saturating_sub(new_size));
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_the_allocator_counts_nothing_and_says_so() {
        let block = black_box(vec![1u8; 1 << 20]);
        assert!(!is_counting());
        assert_eq!((current_bytes(), peak_bytes()), (0, 0));
        drop(block);
    }
}
