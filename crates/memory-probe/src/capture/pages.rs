//! Two kinds of CubeCL's memory pools, told by sizes alone.

/// A sliced pool without a cap also takes what fills its page but for this part (`SlicedPool::accept`).
const UNUSED_PART: u64 = 5;

/// A page that was found free so often in a row is given back (`ALLOC_AFTER_FREE`).
const IDLE_CHECKS: u32 = 5;

/// Weight of the newest size in the running average (`SIZE_AVG_DECAY`).
const NEWEST_SHARE: f64 = 0.01;

/// Where in a pool of slices a buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    page: usize,
    slice: Slice,
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

    /// The first free place on the first page that has one, or a new page, and how many bytes were newly reserved for it. `None` when the pool does not
    /// take this size, or has no more pages.
    pub(super) fn reserve(&mut self, bytes: u64, alignment: u64) -> Option<(Place, u64)> {
        if !self.accepts(bytes) {
            return None;
        }
        let padded = bytes.next_multiple_of(alignment);
        let on = |(page, of): (usize, &mut Page)| of.reserve(bytes, padded).map(|slice| Place { page, slice });
        if let Some(place) = self.pages.iter_mut().enumerate().find_map(on) {
            return Some((place, 0));
        }
        if self.max_pages.is_some_and(|most| self.pages.len() >= most) {
            return None;
        }
        let mut page = Page::new(self.page_bytes);
        let slice = page.reserve(bytes, padded)?;
        self.pages.push(page);
        Some((Place { page: self.pages.len() - 1, slice }, self.page_bytes))
    }

    pub(super) fn free(&mut self, Place { page, slice }: Place) {
        self.pages[page].free(slice);
    }

    fn accepts(&self, bytes: u64) -> bool {
        let fills_a_page =
            || self.page_bytes.checked_sub(bytes).is_some_and(|unused| unused * UNUSED_PART < self.page_bytes);
        bytes <= self.max_slice_bytes || self.max_pages.is_none() && fills_a_page()
    }
}

/// A page's free slices. CubeCL joins free neighbours when it next looks for a place, here they are joined at once: nobody can see the difference.
struct Page {
    /// By where each begins, no two of them neighbours.
    gaps: Vec<Slice>,
    /// No gap is larger.
    largest_gap_bytes: u64,
}

/// A stretch of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    /// The address within the page.
    start: u64,
    bytes: u64,
    /// Up to the next aligned address. It is not asked for while the slice is free and alone, as in CubeCL.
    padding: u64,
    /// Where the next slice begins.
    end: u64,
}

impl Slice {
    /// Two free neighbours as one.
    fn joined(self, next: Self) -> Self {
        let bytes = self.bytes + self.padding + next.bytes + next.padding;
        Self { start: self.start, bytes, padding: 0, end: next.end }
    }
}

impl Page {
    fn new(bytes: u64) -> Self {
        Self { gaps: vec![Slice { start: 0, bytes, padding: 0, end: bytes }], largest_gap_bytes: bytes }
    }

    /// Takes the first gap that is long enough, or a part of it.
    fn reserve(&mut self, bytes: u64, padded: u64) -> Option<Slice> {
        if self.largest_gap_bytes < padded {
            return None;
        }
        let Some(place) = self.gaps.iter().position(|gap| gap.bytes >= padded) else {
            self.largest_gap_bytes = self.gaps.iter().map(|gap| gap.bytes).max().unwrap_or(0);
            return None;
        };
        let gap = self.gaps[place];
        let rest = gap.bytes - padded;
        let start = gap.start;
        let end = if rest > 0 { start + padded } else { gap.end };
        if rest > 0 {
            self.gaps[place] = Slice { start: end, bytes: rest, padding: 0, end: gap.end };
        } else {
            self.gaps.remove(place);
        }
        Some(Slice { start, bytes, padding: padded - bytes, end })
    }

    fn free(&mut self, slice: Slice) {
        // The first gap behind.
        let next = self.gaps.partition_point(|gap| gap.start < slice.start);
        let is_behind = self.gaps.get(next).is_some_and(|gap| gap.start == slice.end);
        let free = if is_behind { slice.joined(self.gaps.remove(next)) } else { slice };
        let place = match next.checked_sub(1).filter(|before| self.gaps[*before].end == slice.start) {
            Some(before) => {
                self.gaps[before] = self.gaps[before].joined(free);
                before
            }
            None => {
                self.gaps.insert(next, free);
                next
            }
        };
        self.largest_gap_bytes = self.largest_gap_bytes.max(self.gaps[place].bytes);
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

    /// Of the free pages that are large enough the most used one, or a new page: so many bytes newly reserved. `None` when no page may be so large.
    pub(super) fn reserve(&mut self, buffer: usize, bytes: u64, alignment: u64) -> Option<u64> {
        if bytes > self.largest_bytes {
            return None;
        }
        self.average_bytes = self.average_bytes * (1.0 - NEWEST_SHARE) + bytes as f64 * NEWEST_SHARE;
        let free = self.pages.iter_mut().filter(|page| page.bytes >= bytes && page.holder.is_none());
        if let Some(page) = free.min_by_key(|page| page.idle_checks) {
            page.idle_checks = page.idle_checks.saturating_sub(1);
            page.holder = Some(buffer);
            return Some(0);
        }
        let new_bytes = (self.average_bytes as u64).max(bytes).next_multiple_of(alignment);
        self.pages.push(ExclusivePage { bytes: new_bytes, holder: Some(buffer), idle_checks: IDLE_CHECKS - 1 });
        Some(new_bytes)
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
