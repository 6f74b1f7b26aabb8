//! A limit on the heap that is watched, not enforced.

use std::sync::atomic::Ordering::Relaxed;

use super::Counter;

/// Every count is at most this, so that no limit needs no branch of its own.
const NO_LIMIT: usize = usize::MAX;

static LIMIT: Counter = Counter::new(NO_LIMIT);
static OVERRUN: Counter = Counter::new(0);
static SET_ASIDE: Counter = Counter::new(0);

/// From now on, an allocation that brings the live bytes above `bytes` is noted for [`take_overrun`]; `None` ends that. What was noted before is
/// forgotten.
///
/// The allocation itself succeeds. An allocator has two ways to refuse: to return null, upon which Rust's collections end the process, and to
/// unwind, which is undefined behaviour. So the limit is a line that the program steps over, learns of at the next moment where it can give
/// something up, and steps back from: whoever must never pass it leaves a margin.
///
/// Watching costs an allocation one relaxed load of a number that nobody writes. Without [`CountingAllocator`](super::CountingAllocator)
/// installed nothing is ever noted.
pub fn set_limit(bytes: Option<u64>) {
    let limit = bytes.map_or(NO_LIMIT, |bytes| usize::try_from(bytes).unwrap_or(NO_LIMIT));
    LIMIT.0.store(limit, Relaxed);
    OVERRUN.0.store(0, Relaxed);
    SET_ASIDE.0.store(0, Relaxed);
}

/// The limit that [`set_limit`] set.
pub fn limit_bytes() -> Option<u64> {
    match LIMIT.0.load(Relaxed) {
        NO_LIMIT => None,
        limit => Some(limit as u64),
    }
}

/// The most live bytes above the limit since this was last asked, by any thread; `None` when the limit was kept. Asking begins anew.
pub fn take_overrun() -> Option<u64> {
    // Mostly there is none, and a read does not take the line from other threads.
    if OVERRUN.0.load(Relaxed) == 0 {
        return None;
    }
    match OVERRUN.0.swap(0, Relaxed) {
        0 => None,
        bytes => Some(bytes as u64),
    }
}

/// Begins anew, for a piece of work that is to answer for itself alone. What was noted before is kept for [`take_set_aside`].
pub fn set_aside_overrun() {
    if let Some(bytes) = take_overrun() {
        SET_ASIDE.0.fetch_max(usize::try_from(bytes).unwrap_or(usize::MAX), Relaxed);
    }
}

/// The most live bytes above the limit that [`set_aside_overrun`] found since this was last asked: between pieces of work that can be given up, as where
/// weights are updated or a file is written. `None` when the limit was kept there.
pub fn take_set_aside() -> Option<u64> {
    match SET_ASIDE.0.swap(0, Relaxed) {
        0 => None,
        bytes => Some(bytes as u64),
    }
}

/// Notes a count of live bytes that an allocation has led to.
pub(super) fn watch(count: usize) {
    if count > LIMIT.0.load(Relaxed) {
        OVERRUN.0.fetch_max(count, Relaxed);
    }
}
