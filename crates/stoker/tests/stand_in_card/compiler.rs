//! NVRTC, CUDA's compiler at run time, that compiles nothing: for machines that have none. See `driver.rs`.
#![allow(non_snake_case, clippy::missing_safety_doc)]
#![warn(missing_docs)]

use std::ffi::{c_char, c_int};
use std::ptr;

type Code = c_int;
type Program = *mut u8;

/// What every source becomes.
const CODE: &[u8] = b"// compiled by nobody\0";

/// Takes a source.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcCreateProgram(
    program: *mut Program,
    _source: *const c_char,
    _name: *const c_char,
    _count: c_int,
    _headers: *const *const c_char,
    _names: *const *const c_char,
) -> Code {
    unsafe { *program = ptr::dangling_mut() };
    0
}

/// Compiles it.
#[unsafe(no_mangle)]
pub extern "system" fn nvrtcCompileProgram(_program: Program, _count: c_int, _options: *const *const c_char) -> Code {
    0
}

/// Length of the code.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcGetPTXSize(_program: Program, bytes: *mut usize) -> Code {
    unsafe { *bytes = CODE.len() };
    0
}

/// The code.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcGetPTX(_program: Program, code: *mut c_char) -> Code {
    unsafe { ptr::copy_nonoverlapping(CODE.as_ptr(), code.cast(), CODE.len()) };
    0
}

/// Length of the log, which is empty.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcGetProgramLogSize(_program: Program, bytes: *mut usize) -> Code {
    unsafe { *bytes = 1 };
    0
}

/// The log.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcGetProgramLog(_program: Program, log: *mut c_char) -> Code {
    unsafe { *log = 0 };
    0
}

/// Lets go of a source.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcDestroyProgram(program: *mut Program) -> Code {
    unsafe { *program = ptr::null_mut() };
    0
}

/// The name of a code.
#[unsafe(no_mangle)]
pub extern "system" fn nvrtcGetErrorString(_code: Code) -> *const c_char {
    c"an error of a compiler that makes none".as_ptr()
}
