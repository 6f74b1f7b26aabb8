//! Memory of a card and of the host, and copies between them.

use std::ffi::{c_uint, c_void};
use std::ptr;

use crate::{
    Address, Code, INVALID_CONTEXT, OUT_OF_MEMORY, PAGE_BYTES, PIECE_BYTES, READ_AND_WRITE, RESERVED, SETTINGS, SUCCESS, allocate, cards, current,
    free, mmap, munmap,
};

/// Free and total bytes of the current card.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Code {
    let cards = cards();
    let Some(card) = current().and_then(|index| cards.get(index)) else { return INVALID_CONTEXT };
    unsafe {
        *free = card.free_bytes() as usize;
        *total = SETTINGS.memory_bytes as usize;
    }
    SUCCESS
}

/// Allocates.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemAlloc_v2(address: *mut Address, bytes: usize) -> Code {
    unsafe { allocated(address, allocate(bytes, PAGE_BYTES)) }
}

/// Allocates, in the order of a stream.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemAllocAsync(address: *mut Address, bytes: usize, _stream: *mut c_void) -> Code {
    unsafe { allocated(address, allocate(bytes, PIECE_BYTES)) }
}

/// Tells the caller what came of an allocation.
unsafe fn allocated(address: *mut Address, result: Result<Address, Code>) -> Code {
    match result {
        Ok(found) => unsafe { *address = found },
        Err(code) => return code,
    }
    SUCCESS
}

/// Frees.
#[unsafe(no_mangle)]
pub extern "system" fn cuMemFree_v2(address: Address) -> Code {
    free(address)
}

/// Frees, in the order of a stream.
#[unsafe(no_mangle)]
pub extern "system" fn cuMemFreeAsync(address: Address, _stream: *mut c_void) -> Code {
    free(address)
}

/// Allocates memory of the host, 64 bytes of which in front of it hold its length.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize) -> Code {
    let length = bytes + 64;
    unsafe {
        let block = mmap(ptr::null_mut(), length, READ_AND_WRITE, RESERVED, -1, 0);
        if block as isize == -1 {
            return OUT_OF_MEMORY;
        }
        block.cast::<usize>().write(length);
        *pointer = block.byte_add(64);
    }
    SUCCESS
}

/// Frees memory of the host.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemFreeHost(pointer: *mut c_void) -> Code {
    unsafe {
        let block = pointer.byte_sub(64);
        munmap(block, block.cast::<usize>().read());
    }
    SUCCESS
}

/// Copies to a card.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemcpyHtoDAsync_v2(
    to: Address,
    from: *const c_void,
    bytes: usize,
    _stream: *mut c_void,
) -> Code {
    unsafe { ptr::copy(from.cast::<u8>(), to as *mut u8, bytes) };
    SUCCESS
}

/// Copies from a card.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: Address,
    bytes: usize,
    _stream: *mut c_void,
) -> Code {
    unsafe { ptr::copy(from as *const u8, to.cast::<u8>(), bytes) };
    SUCCESS
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
pub struct Rectangle {
    from_x: usize,
    from_y: usize,
    from_type: c_uint,
    from_host: *const u8,
    from_device: Address,
    from_array: *mut c_void,
    from_pitch: usize,
    to_x: usize,
    to_y: usize,
    to_type: c_uint,
    to_host: *mut u8,
    to_device: Address,
    to_array: *mut c_void,
    to_pitch: usize,
    width: usize,
    height: usize,
}

/// Copies a rectangle of bytes between host and card.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemcpy2DAsync_v2(copy: *const Rectangle, _stream: *mut c_void) -> Code {
    const HOST: c_uint = 1;
    unsafe {
        let copy = &*copy;
        let from = if copy.from_type == HOST { copy.from_host } else { copy.from_device as *const u8 };
        let to = if copy.to_type == HOST { copy.to_host } else { copy.to_device as *mut u8 };
        for row in 0..copy.height {
            let from = from.add((copy.from_y + row) * copy.from_pitch + copy.from_x);
            let to = to.add((copy.to_y + row) * copy.to_pitch + copy.to_x);
            ptr::copy(from, to, copy.width);
        }
    }
    SUCCESS
}
