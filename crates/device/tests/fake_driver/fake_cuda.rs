//! A library with the CUDA driver's functions and two cards that do not exist. Compiled by the tests beside it, with a
//! `cfg` for each way in which drivers fail.
#![allow(non_snake_case, unsafe_op_in_unsafe_fn, clippy::missing_safety_doc, missing_docs)]

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

static RETAINED: AtomicI32 = AtomicI32::new(0);
static CURRENT: AtomicI32 = AtomicI32::new(0);

const INVALID_VALUE: c_int = 1;
const NO_DEVICE: c_int = 100;
const INVALID_DEVICE: c_int = 101;
const INVALID_CONTEXT: c_int = 201;
const OUT_OF_MEMORY: c_int = 2;

#[unsafe(no_mangle)]
pub extern "system" fn cuInit(flags: c_uint) -> c_int {
    if cfg!(no_device) {
        return NO_DEVICE;
    }
    if cfg!(mismatch) { 803 } else { c_int::from(flags != 0) * INVALID_VALUE }
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuGetErrorName(code: c_int, name: *mut *const c_char) -> c_int {
    let text = match code {
        803 => c"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        _ => return INVALID_VALUE,
    };
    *name = text.as_ptr();
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    *version = 12_040;
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    *count = if cfg!(no_card) { 0 } else { 2 };
    0
}

/// Handles are not indices here, so that mixing them up shows.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    if !(0..2).contains(&ordinal) {
        return INVALID_DEVICE;
    }
    *device = 70 + ordinal;
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int) -> c_int {
    let text = if device == 70 { "Fake RTX 3060".to_owned() } else { "long name ".repeat(40) };
    // The real driver cuts names that are too long; this one leaves the final zero to the caller.
    let bytes = text.bytes().take(length as usize);
    bytes.enumerate().for_each(|(index, byte)| *name.add(index) = byte as c_char);
    0
}

#[cfg(not(incomplete))]
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> c_int {
    *bytes = if device == 70 { 12 << 30 } else { 24 << 30 };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) -> c_int {
    *value = match attribute {
        75 => 8,
        76 => 6,
        _ => return INVALID_VALUE,
    };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: c_int) -> c_int {
    if cfg!(full) {
        return OUT_OF_MEMORY;
    }
    RETAINED.fetch_add(1, SeqCst);
    *context = device as usize as *mut c_void;
    0
}

#[unsafe(no_mangle)]
pub extern "system" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> c_int {
    RETAINED.fetch_sub(1, SeqCst);
    0
}

#[unsafe(no_mangle)]
pub extern "system" fn cuCtxPushCurrent_v2(context: *mut c_void) -> c_int {
    CURRENT.store(context as usize as i32, SeqCst);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuCtxPopCurrent_v2(context: *mut *mut c_void) -> c_int {
    *context = CURRENT.swap(0, SeqCst) as usize as *mut c_void;
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> c_int {
    let current = CURRENT.load(SeqCst);
    if current == 0 || cfg!(lost) {
        return INVALID_CONTEXT;
    }
    *total = if current == 70 { 12 << 30 } else { 24 << 30 };
    *free = *total - (2 << 30);
    0
}

/// How many contexts are still held. Only the tests know this function.
#[unsafe(no_mangle)]
pub extern "system" fn fake_retained_contexts() -> c_int {
    RETAINED.load(SeqCst) + CURRENT.load(SeqCst)
}
