//! The system's blocks, of which the larger ones begin with a line of the cache.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;

use super::pages::use_huge_pages;

/// Bytes of a cache line, and of the widest vector registers: a load or store that begins elsewhere touches two lines, which takes loops over tensors up to 1.4
/// times as long.
const LINE: usize = 64;

/// Blocks of fewer bytes hold no tensor that is worth it.
const LEAST: usize = 4096;

/// What the system's allocator aligns everything to. The place of its block stands in that many bytes before ours, or in part of them.
const SYSTEM: usize = align_of::<Header>();

/// The system's block, which begins at most [`LINE`] bytes earlier.
#[repr(align(16))]
struct Header(*mut u8);

const _: () = assert!(size_of::<Header>() == SYSTEM && LINE.is_multiple_of(SYSTEM));

/// The layout of the system's block around one of ours; none where ours is the system's own.
///
/// It is larger by one line, whatever comes of that: the system's `memalign` asks for more as well, gives back what is left over, and then finds no block of the
/// same size to use again.
fn around(layout: Layout) -> Option<Layout> {
    if layout.size() < LEAST || layout.align() > SYSTEM {
        return None;
    }
    Layout::from_size_align(layout.size().checked_add(LINE)?, SYSTEM).ok()
}

/// # Safety
/// The contract of [`GlobalAlloc::alloc`].
pub(super) unsafe fn allocate(layout: Layout, is_zeroed: bool) -> *mut u8 {
    // SAFETY: as the caller says, and what is around is no smaller.
    let of_system =
        |layout: Layout| unsafe { if is_zeroed { System.alloc_zeroed(layout) } else { System.alloc(layout) } };
    match around(layout) {
        None if is_large(layout) => null_mut(),
        None => of_system(layout),
        // SAFETY: the block is as large as `around` says.
        Some(around) => unsafe { begun(of_system(around), around) },
    }
}

/// Whether a block is so large that there is no room for a line more in what a pointer can address.
fn is_large(layout: Layout) -> bool {
    layout.align() <= SYSTEM && layout.size() > isize::MAX as usize - LINE - SYSTEM
}

/// # Safety
/// The contract of [`GlobalAlloc::dealloc`], for a pointer that came from here.
pub(super) unsafe fn free(pointer: *mut u8, layout: Layout) {
    // SAFETY: as the caller says; a block that has one around it has its header.
    unsafe {
        match around(layout) {
            None => System.dealloc(pointer, layout),
            Some(around) => System.dealloc(header(pointer).read().0, around),
        }
    }
}

/// # Safety
/// The contract of [`GlobalAlloc::realloc`], for a pointer that came from here.
pub(super) unsafe fn reallocate(pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else { return null_mut() };
    // SAFETY: as the caller says; a block that has one around it has its header, and the shorter of both sizes is inside of either block.
    unsafe {
        match [around(layout), around(new_layout)] {
            [None, None] if !is_large(new_layout) => System.realloc(pointer, layout, new_size),
            [Some(around), Some(new_around)] => {
                let start = header(pointer).read().0;
                let offset = pointer.offset_from_unsigned(start);
                let moved = System.realloc(start, around, new_around.size());
                if moved.is_null() {
                    return moved;
                }
                use_huge_pages(moved.addr(), moved.addr() + new_around.size());
                let (found, block) = (moved.add(offset), place(moved));
                // The system has moved the numbers with its block, whose start may be further from a line or nearer.
                found.copy_to(block, layout.size().min(new_size));
                header(block).write(Header(moved));
                block
            }
            _ => {
                let block = allocate(new_layout, false);
                if !block.is_null() {
                    block.copy_from_nonoverlapping(pointer, layout.size().min(new_size));
                    free(pointer, layout);
                }
                block
            }
        }
    }
}

/// Our block in one of the system's, with its header written; null in null.
///
/// # Safety
/// The system's block is of this layout and longer than ours by [`LINE`], or null.
unsafe fn begun(start: *mut u8, layout: Layout) -> *mut u8 {
    if start.is_null() {
        return start;
    }
    use_huge_pages(start.addr(), start.addr() + layout.size());
    // SAFETY: at least a header and at most a line further, and so inside.
    unsafe {
        let block = place(start);
        header(block).write(Header(start));
        block
    }
}

/// The first line that has a header before it.
///
/// # Safety
/// The block is longer than a line, and aligned to [`SYSTEM`].
unsafe fn place(start: *mut u8) -> *mut u8 {
    // SAFETY: inside, as the caller says.
    unsafe { start.add(LINE - start.addr() % LINE) }
}

/// # Safety
/// The block came from [`place`].
unsafe fn header(block: *mut u8) -> *mut Header {
    // SAFETY: there is room for it between the starts of both blocks, which are apart by a multiple of its size.
    unsafe { block.sub(SYSTEM).cast() }
}
