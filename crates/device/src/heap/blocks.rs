//! Blocks, of which the larger ones begin with a line of the cache. The largest are the system's, the others mimalloc's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;

use mimalloc::MiMalloc;

use super::pages::use_huge_pages;

/// Bytes of a cache line, and of the widest vector registers: a load or store that begins elsewhere touches two lines, which takes loops over tensors up to 1.4
/// times as long.
const LINE: usize = 64;

/// Blocks of fewer bytes hold no tensor that is worth it.
const LEAST: usize = 4096;

/// Blocks from so many bytes on are the system's: it finds room for tensors in what others left, and its heap has huge pages. But its one arena has one lock
/// for all threads, which those that decode images would take dozens of times an image.
const LEAST_OF_SYSTEM: usize = 1 << 18;

/// What allocators align everything to. The place of the block around stands in that many bytes before ours, or in part of them.
const ALIGNED: usize = align_of::<Header>();

/// The allocator's block, which begins at most [`LINE`] bytes earlier.
#[repr(align(16))]
struct Header(*mut u8);

const _: () = assert!(size_of::<Header>() == ALIGNED && LINE.is_multiple_of(ALIGNED));

/// Who has blocks of this layout.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    System,
    MiMalloc,
}

impl Owner {
    fn of(layout: Layout) -> Self {
        if layout.size() >= LEAST_OF_SYSTEM { Self::System } else { Self::MiMalloc }
    }

    fn allocator(self) -> &'static dyn GlobalAlloc {
        match self {
            Self::System => &System,
            Self::MiMalloc => &MiMalloc,
        }
    }
}

/// The layout of an allocator's block around one of ours; none where ours is its own.
///
/// It is larger by one line, whatever comes of that: the system's `memalign` asks for more as well, gives back what is left over, and then finds no block of the
/// same size to use again.
fn around(layout: Layout) -> Option<Layout> {
    if layout.size() < LEAST || layout.align() > ALIGNED {
        return None;
    }
    Layout::from_size_align(layout.size().checked_add(LINE)?, ALIGNED).ok()
}

/// # Safety
/// The contract of [`GlobalAlloc::alloc`].
pub(super) unsafe fn allocate(layout: Layout, is_zeroed: bool) -> *mut u8 {
    // SAFETY: as the caller says, and what is around is no smaller.
    let allocated = |layout: Layout| unsafe {
        let allocator = Owner::of(layout).allocator();
        if is_zeroed { allocator.alloc_zeroed(layout) } else { allocator.alloc(layout) }
    };
    match around(layout) {
        None if is_large(layout) => null_mut(),
        None => allocated(layout),
        // SAFETY: the block is as large as `around` says.
        Some(around) => unsafe { begun(allocated(around), around) },
    }
}

/// Whether a block is so large that there is no room for a line more in what a pointer can address.
fn is_large(layout: Layout) -> bool {
    layout.align() <= ALIGNED && layout.size() > isize::MAX as usize - LINE - ALIGNED
}

/// # Safety
/// The contract of [`GlobalAlloc::dealloc`], for a pointer that came from here.
pub(super) unsafe fn free(pointer: *mut u8, layout: Layout) {
    // SAFETY: as the caller says; a block that has one around it has its header.
    unsafe {
        match around(layout) {
            None => Owner::of(layout).allocator().dealloc(pointer, layout),
            Some(around) => Owner::of(around).allocator().dealloc(header(pointer).read().0, around),
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
            [None, None] if !is_large(new_layout) && Owner::of(layout) == Owner::of(new_layout) => {
                Owner::of(layout).allocator().realloc(pointer, layout, new_size)
            }
            [Some(around), Some(new_around)] if Owner::of(around) == Owner::of(new_around) => {
                let start = header(pointer).read().0;
                let offset = pointer.offset_from_unsigned(start);
                let moved = Owner::of(around).allocator().realloc(start, around, new_around.size());
                if moved.is_null() {
                    return moved;
                }
                ask_for_huge_pages(moved, new_around);
                let (found, block) = (moved.add(offset), place(moved));
                // The allocator has moved the numbers with its block, whose start may be further from a line or nearer.
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

/// Has the heap of the system's blocks in huge pages.
fn ask_for_huge_pages(start: *mut u8, layout: Layout) {
    if Owner::of(layout) == Owner::System {
        use_huge_pages(start.addr(), start.addr() + layout.size());
    }
}

/// Our block in an allocator's, with its header written; null in null.
///
/// # Safety
/// The allocator's block is of this layout and longer than ours by [`LINE`], or null.
unsafe fn begun(start: *mut u8, layout: Layout) -> *mut u8 {
    if start.is_null() {
        return start;
    }
    ask_for_huge_pages(start, layout);
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
/// The block is longer than a line, and aligned to [`ALIGNED`].
unsafe fn place(start: *mut u8) -> *mut u8 {
    // SAFETY: inside, as the caller says.
    unsafe { start.add(LINE - start.addr() % LINE) }
}

/// # Safety
/// The block came from [`place`].
unsafe fn header(block: *mut u8) -> *mut Header {
    // SAFETY: there is room for it between the starts of both blocks, which are apart by a multiple of its size.
    unsafe { block.sub(ALIGNED).cast() }
}
