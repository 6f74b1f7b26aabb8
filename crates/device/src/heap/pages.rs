//! How the system's allocator deals with pages, where it is glibc's.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Lets the system's allocator keep the pages that large blocks leave, where it is glibc's: without, each tensor that is freed goes back to the system,
/// and each one that is made is faulted in and zeroed anew, page by page, which takes a fifth of a forward pass. What is kept is below the
/// peak that was reached before. All threads share one arena: those of their own give up what they have emptied, whatever is set. To be called before
/// there are other threads.
///
/// Where the system has huge pages for those who ask, [`CountingAllocator`](super::CountingAllocator) asks from now on: tensors are then found
/// with fewer steps.
pub fn keep_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // From glibc's malloc.h.
        const TRIM_THRESHOLD: i32 = -1;
        const TOP_PAD: i32 = -2;
        const MOST_MAPPED_BLOCKS: i32 = -4;
        const MOST_ARENAS: i32 = -8;
        /// What the heap grows by at least: addresses, not memory. Whole huge pages.
        const GROWTH: i32 = 32 << 20;
        // SAFETY: these settings are the allocator's own and may be made at any time.
        unsafe {
            mallopt(MOST_MAPPED_BLOCKS, 0);
            mallopt(TRIM_THRESHOLD, i32::MAX);
            mallopt(MOST_ARENAS, 1);
            mallopt(TOP_PAD, GROWTH);
        }
        HUGE_FROM.store(0, Relaxed);
    }
}

/// Huge pages were asked for in the heap below here; none are wanted before [`keep_pages`].
static HUGE_FROM: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Asks for huge pages in all of the heap from a block on, which reaches from one address to the other, if that has not been done.
pub(super) fn use_huge_pages(start: usize, end: usize) {
    if end > HUGE_FROM.load(Relaxed) {
        ask_for_huge_pages(start, end);
    }
}

/// Where the heap has grown: seldom.
#[cold]
fn ask_for_huge_pages(start: usize, end: usize) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// From the kernel's mman-common.h.
        const HUGE_PAGES: i32 = 14;
        /// The largest of any such system.
        const PAGE: usize = 64 << 10;
        // SAFETY: asks where the heap ends.
        let top = unsafe { sbrk(0) }.addr();
        // What is not below that is not of the heap.
        if end <= top {
            // Nothing between the last end and this block was asked for; what lies before the first block is little.
            let start = match HUGE_FROM.load(Relaxed) {
                0 => start.next_multiple_of(PAGE),
                from => from,
            };
            // SAFETY: the range is of this process, and what is in it stays as it is. A refusal changes nothing.
            unsafe { madvise(std::ptr::without_provenance_mut(start), top.saturating_sub(start), HUGE_PAGES) };
            HUGE_FROM.store(top, Relaxed);
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = (start, end);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    fn mallopt(parameter: i32, value: i32) -> i32;
    fn sbrk(increment: isize) -> *mut u8;
    fn madvise(start: *mut u8, length: usize, advice: i32) -> i32;
}
