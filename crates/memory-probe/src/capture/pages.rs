//! Two kinds of CubeCL's memory pools, told by sizes alone.

/// A sliced pool without a cap also takes what fills its page but for this part (`SlicedPool::accept`).
const UNUSED_PART: u64 = 5;

/// A page that was found free so often in a row is given back (`ALLOC_AFTER_FREE`).
const IDLE_CHECKS: u32 = 5;

/// Weight of the newest size in the running average (`SIZE_AVG_DECAY`).
const NEWEST_SHARE: f64 = 0.01;

/// What came of asking a pool for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is a place on a page, for which so many bytes were newly reserved.
    Reserved { page: usize, new_bytes: u64 },
    /// The pool does not take this size, or has no more pages.
    Declined,
}

/// Pages of one size that are cut into slices.
pub(super) struct SlicedPages {
    page_bytes: u64,
    max_slice_bytes: u64,
    max_pages: Option<usize>,
    pages: Vec<Page>,
}

impl SlicedPages {
    pub(super) fn new(page_bytes: u64, max_slice_bytes: u64, max_pages: Option<usize>) -> Self {
        Self { page_bytes, max_slice_bytes: max_slice_bytes.min(page_bytes), max_pages, pages: Vec::new() }
    }

    /// The first free place on the first page that has one, or a new page.
    pub(super) fn reserve(&mut self, buffer: usize, bytes: u64, alignment: u64) -> Outcome {
        if !self.accepts(bytes) {
            return Outcome::Declined;
        }
        if let Some(page) = self.pages.iter_mut().position(|page| page.reserve(buffer, bytes, alignment)) {
            return Outcome::Reserved { page, new_bytes: 0 };
        }
        if self.max_pages.is_some_and(|most| self.pages.len() >= most) {
            return Outcome::Declined;
        }
        let mut page = Page::new(self.page_bytes);
        page.reserve(buffer, bytes, alignment);
        self.pages.push(page);
        Outcome::Reserved { page: self.pages.len() - 1, new_bytes: self.page_bytes }
    }

    pub(super) fn free(&mut self, page: usize, buffer: usize) {
        self.pages[page].free(buffer);
    }

    fn accepts(&self, bytes: u64) -> bool {
        let fills_a_page =
            || self.page_bytes.checked_sub(bytes).is_some_and(|unused| unused * UNUSED_PART < self.page_bytes);
        bytes <= self.max_slice_bytes || self.max_pages.is_none() && fills_a_page()
    }
}

/// A page with its slices in order.
struct Page {
    slices: Vec<Slice>,
    /// Something was given back since free neighbours were last joined.
    is_loose: bool,
    /// No free slice is larger.
    largest_free_bytes: u64,
}

/// A stretch of a page.
#[derive(Clone, Copy)]
struct Slice {
    holder: Option<usize>,
    bytes: u64,
    /// Up to the next aligned address. It is not asked for while the slice is free and alone, as in CubeCL.
    padding: u64,
}

impl Page {
    fn new(bytes: u64) -> Self {
        let whole = Slice { holder: None, bytes, padding: 0 };
        Self { slices: vec![whole], is_loose: false, largest_free_bytes: bytes }
    }

    fn reserve(&mut self, buffer: usize, bytes: u64, alignment: u64) -> bool {
        let padded = bytes.next_multiple_of(alignment);
        self.join_free();
        if self.largest_free_bytes < padded {
            return false;
        }
        let place = self.slices.iter().position(|slice| slice.holder.is_none() && slice.bytes >= padded);
        let Some(place) = place else { return false };
        let rest = self.slices[place].bytes - padded;
        self.slices[place] = Slice { holder: Some(buffer), bytes, padding: padded - bytes };
        if rest > 0 {
            self.slices.insert(place + 1, Slice { holder: None, bytes: rest, padding: 0 });
        }
        true
    }

    fn free(&mut self, buffer: usize) {
        if let Some(slice) = self.slices.iter_mut().find(|slice| slice.holder == Some(buffer)) {
            slice.holder = None;
            self.is_loose = true;
        }
    }

    fn join_free(&mut self) {
        if !self.is_loose {
            return;
        }
        self.slices.dedup_by(|next, slice| {
            let joined = next.holder.is_none() && slice.holder.is_none();
            if joined {
                let bytes = slice.bytes + slice.padding + next.bytes + next.padding;
                *slice = Slice { holder: None, bytes, padding: 0 };
            }
            joined
        });
        let free = self.slices.iter().filter(|slice| slice.holder.is_none());
        self.largest_free_bytes = free.map(|slice| slice.bytes).max().unwrap_or(0);
        self.is_loose = false;
    }
}

/// Pages that hold one buffer each, as large as the average of what was asked for, or larger.
pub(super) struct ExclusivePages {
    largest_bytes: u64,
    /// A page is given back when it was not used for about so many allocations.
    idle_allocations: u64,
    last_check: u64,
    average_bytes: f64,
    pages: Vec<ExclusivePage>,
}

struct ExclusivePage {
    bytes: u64,
    holder: Option<usize>,
    idle_checks: u32,
}

impl ExclusivePages {
    pub(super) fn new(largest_bytes: u64, idle_allocations: u64) -> Self {
        let average_bytes = largest_bytes as f64 / 2.0;
        Self { largest_bytes, idle_allocations, last_check: 0, average_bytes, pages: Vec::new() }
    }

    /// Of the free pages that are large enough the most used one, or a new page.
    pub(super) fn reserve(&mut self, buffer: usize, bytes: u64, alignment: u64) -> Outcome {
        if bytes > self.largest_bytes {
            return Outcome::Declined;
        }
        self.average_bytes = self.average_bytes * (1.0 - NEWEST_SHARE) + bytes as f64 * NEWEST_SHARE;
        let free = self.pages.iter_mut().filter(|page| page.bytes >= bytes && page.holder.is_none());
        if let Some(page) = free.min_by_key(|page| page.idle_checks) {
            page.idle_checks = page.idle_checks.saturating_sub(1);
            page.holder = Some(buffer);
            return Outcome::Reserved { page: 0, new_bytes: 0 };
        }
        let new_bytes = (self.average_bytes as u64).max(bytes).next_multiple_of(alignment);
        self.pages.push(ExclusivePage { bytes: new_bytes, holder: Some(buffer), idle_checks: IDLE_CHECKS - 1 });
        Outcome::Reserved { page: 0, new_bytes }
    }

    /// A page holds one buffer, so that the buffer alone tells it.
    pub(super) fn free(&mut self, buffer: usize) {
        if let Some(page) = self.pages.iter_mut().find(|page| page.holder == Some(buffer)) {
            page.holder = None;
        }
    }

    /// Gives back pages that lay idle: so many bytes. `allocations` is how many there were of any kind.
    pub(super) fn release_idle(&mut self, allocations: u64) -> u64 {
        if allocations - self.last_check < self.idle_allocations / u64::from(IDLE_CHECKS) {
            return 0;
        }
        self.last_check = allocations;
        let mut released_bytes = 0;
        self.pages.retain_mut(|page| {
            if page.holder.is_none() {
                page.idle_checks += 1;
            }
            let is_kept = page.holder.is_some() || page.idle_checks < IDLE_CHECKS;
            if !is_kept {
                released_bytes += page.bytes;
            }
            is_kept
        });
        released_bytes
    }
}
