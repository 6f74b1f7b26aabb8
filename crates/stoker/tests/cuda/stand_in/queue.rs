//! Streams, events and kernels: all is done when it is asked for. Kernels are loaded, and run where this card computes.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr;

use crate::computing::{self, Extent};
use crate::{Code, INVALID_VALUE, SETTINGS, SUCCESS, Statistic, count, current, shared_bytes_of_a_block};

/// Makes a stream.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuStreamCreate(stream: *mut *mut c_void, _flags: c_uint) -> Code {
    unsafe { *stream = ptr::dangling_mut::<u64>().cast() };
    SUCCESS
}

/// Makes a stream of a priority.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuStreamCreateWithPriority(
    stream: *mut *mut c_void,
    flags: c_uint,
    _priority: c_int,
) -> Code {
    unsafe { cuStreamCreate(stream, flags) }
}

/// Waits for a stream.
#[unsafe(no_mangle)]
pub extern "system" fn cuStreamSynchronize(_stream: *mut c_void) -> Code {
    SUCCESS
}

/// Has a stream wait for an event.
#[unsafe(no_mangle)]
pub extern "system" fn cuStreamWaitEvent(_stream: *mut c_void, _event: *mut c_void, _flags: c_uint) -> Code {
    SUCCESS
}

/// Makes an event.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuEventCreate(event: *mut *mut c_void, flags: c_uint) -> Code {
    unsafe { cuStreamCreate(event, flags) }
}

/// Records an event.
#[unsafe(no_mangle)]
pub extern "system" fn cuEventRecord(_event: *mut c_void, _stream: *mut c_void) -> Code {
    SUCCESS
}

/// Waits for an event.
#[unsafe(no_mangle)]
pub extern "system" fn cuEventSynchronize(_event: *mut c_void) -> Code {
    SUCCESS
}

/// Ends an event.
#[unsafe(no_mangle)]
pub extern "system" fn cuEventDestroy_v2(_event: *mut c_void) -> Code {
    SUCCESS
}

/// Loads compiled code.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuModuleLoadData(module: *mut *mut c_void, image: *const c_void) -> Code {
    if image.is_null() {
        return INVALID_VALUE;
    }
    count(Statistic::Kernels);
    if computing::runs_kernels() {
        unsafe { *module = computing::load(image) };
        return SUCCESS;
    }
    unsafe { cuStreamCreate(module, 0) }
}

/// A kernel of loaded code.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuModuleGetFunction(
    function: *mut *mut c_void,
    module: *mut c_void,
    _name: *const c_char,
) -> Code {
    // A module is of one kernel.
    unsafe { *function = module };
    SUCCESS
}

/// Sets an attribute of a kernel.
#[unsafe(no_mangle)]
pub extern "system" fn cuFuncSetAttribute(_function: *mut c_void, _attribute: c_int, _value: c_int) -> Code {
    SUCCESS
}

/// Takes a kernel of a size that a card would take.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuLaunchKernel(
    function: *mut c_void,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    _stream: *mut c_void,
    parameters: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> Code {
    let is_grid = grid_x > 0 && (1..=65_535).contains(&grid_y) && (1..=65_535).contains(&grid_z);
    let is_block = (1..=1024).contains(&(block_x * block_y * block_z));
    if !is_grid || !is_block || shared_bytes as c_int > shared_bytes_of_a_block(SETTINGS.capability) {
        return INVALID_VALUE;
    }
    count_launch();
    let grid = Extent { x: grid_x, y: grid_y, z: grid_z };
    let block = Extent { x: block_x, y: block_y, z: block_z };
    unsafe { computing::run(function, parameters, grid, block, shared_bytes) };
    SUCCESS
}

fn count_launch() {
    count(Statistic::Launches);
    if current().is_some_and(|card| card > 0) {
        count(Statistic::LaunchesElsewhere);
    }
}
