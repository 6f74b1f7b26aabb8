//! NVRTC, CUDA's compiler at run time, that compiles nothing, compiles for this machine, or has another compile and keeps the minutes. See `driver.rs`.
//!
//! Set by the environment:
//!
//! - `STAND_IN_COMPUTES`: set, kernels are compiled for this machine; see `host.rs`.
//! - `STAND_IN_COMPILER`: a real NVRTC to hand everything to. With neither, every source becomes the same few bytes, at once.
//! - `STAND_IN_COMPILER_TALLY`: a file that grows by a byte for each source that is compiled.
//! - `STAND_IN_COMPILER_FAILURES`: a folder for each source that the real one refused, with its log.
//!
//! Signatures are those of NVRTC: <https://docs.nvidia.com/cuda/nvrtc/>.
#![allow(non_snake_case, clippy::missing_safety_doc)]
#![warn(missing_docs)]

mod host;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Write;
use std::path::PathBuf;
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

type Code = c_int;
type Program = *mut Source;

/// What a program is here.
pub struct Source {
    text: CString,
    /// The real compiler's program; null without one.
    real: *mut c_void,
    /// What this machine's compiler made of it.
    host: Option<host::Compiled>,
}

/// What every source becomes without any compiler.
const CODE: &CStr = c"// compiled by nobody";

impl Source {
    /// The code with its last zero.
    fn code(&self) -> &[u8] {
        self.host.as_ref().map_or(CODE, host::Compiled::code).to_bytes_with_nul()
    }

    /// What the compiler said, with a last zero.
    fn log(&self) -> &[u8] {
        self.host.as_ref().map_or(c"", |compiled| &compiled.log).to_bytes_with_nul()
    }
}

/// Copies to a place that was told how long it must be.
unsafe fn put(bytes: &[u8], place: *mut c_char) {
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len()) };
}

/// Those of CUDA 13.
const ARCHITECTURES: [c_int; 8] = [75, 80, 86, 89, 90, 100, 103, 120];

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The real library, as an address; none where there is none.
static REAL: LazyLock<Option<usize>> = LazyLock::new(|| {
    const NOW: c_int = 2;
    let path = CString::new(std::env::var("STAND_IN_COMPILER").ok()?).ok()?;
    // SAFETY: the library is NVIDIA's compiler, whose initialisers ask nothing of the process.
    let library = unsafe { dlopen(path.as_ptr(), NOW) };
    assert!(!library.is_null(), "`STAND_IN_COMPILER` names no library");
    Some(library as usize)
});

/// A function of the real library, where there is one.
///
/// # Safety
/// `F` is the signature that the library's header gives `name`.
unsafe fn real<F: Copy>(name: &CStr) -> Option<F> {
    let library = (*REAL)?;
    unsafe {
        let function = dlsym(library as *mut c_void, name.as_ptr());
        assert!(!function.is_null(), "the real compiler lacks {name:?}");
        Some(std::mem::transmute_copy(&function))
    }
}

type OfProgram = unsafe extern "system" fn(*mut c_void, *mut usize) -> Code;
type IntoBuffer = unsafe extern "system" fn(*mut c_void, *mut c_char) -> Code;

/// The version of CUDA that the compiler is of.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcVersion(major: *mut c_int, minor: *mut c_int) -> Code {
    unsafe {
        if let Some(version) = real::<unsafe extern "system" fn(*mut c_int, *mut c_int) -> Code>(c"nvrtcVersion") {
            return version(major, minor);
        }
        *major = 13;
        *minor = 0;
    }
    0
}

/// How many architectures it knows.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcGetNumSupportedArchs(count: *mut c_int) -> Code {
    unsafe {
        if let Some(number) = real::<unsafe extern "system" fn(*mut c_int) -> Code>(c"nvrtcGetNumSupportedArchs") {
            return number(count);
        }
        *count = ARCHITECTURES.len() as c_int;
    }
    0
}

/// The architectures.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcGetSupportedArchs(architectures: *mut c_int) -> Code {
    unsafe {
        if let Some(list) = real::<unsafe extern "system" fn(*mut c_int) -> Code>(c"nvrtcGetSupportedArchs") {
            return list(architectures);
        }
        ptr::copy_nonoverlapping(ARCHITECTURES.as_ptr(), architectures, ARCHITECTURES.len());
    }
    0
}

type Create = unsafe extern "system" fn(
    *mut *mut c_void,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> Code;

/// Takes a source.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcCreateProgram(
    program: *mut Program,
    source: *const c_char,
    name: *const c_char,
    count: c_int,
    headers: *const *const c_char,
    names: *const *const c_char,
) -> Code {
    unsafe {
        let mut made = Source { text: CStr::from_ptr(source).to_owned(), real: ptr::null_mut(), host: None };
        if let Some(create) = real::<Create>(c"nvrtcCreateProgram") {
            let code = create(&mut made.real, source, name, count, headers, names);
            if code != 0 {
                return code;
            }
        }
        *program = Box::into_raw(Box::new(made));
    }
    0
}

/// Compiles it.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcCompileProgram(
    program: Program,
    count: c_int,
    options: *const *const c_char,
) -> Code {
    tally();
    if let Some(folder) = std::env::var_os("STAND_IN_COMPUTES") {
        const COMPILATION_ERROR: Code = 6;
        let program = unsafe { &mut *program };
        let compiled = host::compile(folder.as_ref(), &program.text);
        let code = if compiled.code.is_some() { 0 } else { COMPILATION_ERROR };
        program.host = Some(compiled);
        return code;
    }
    type Compile = unsafe extern "system" fn(*mut c_void, c_int, *const *const c_char) -> Code;
    unsafe {
        let Some(compile) = real::<Compile>(c"nvrtcCompileProgram") else { return 0 };
        let code = compile((*program).real, count, options);
        if code != 0 {
            keep_failure(&*program);
        }
        code
    }
}

/// Writes a source that was refused, and why, into the folder for them.
fn keep_failure(program: &Source) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let Some(folder) = std::env::var_os("STAND_IN_COMPILER_FAILURES").map(PathBuf::from) else { return };
    let number = NUMBER.fetch_add(1, SeqCst);
    let stem = format!("{}-{number}", std::process::id());
    let mut log = Vec::new();
    // SAFETY: the signatures are the header's, and the buffer has the length that the library tells.
    unsafe {
        let (length, text) =
            (real::<OfProgram>(c"nvrtcGetProgramLogSize"), real::<IntoBuffer>(c"nvrtcGetProgramLog"));
        if let (Some(length), Some(text)) = (length, text) {
            let mut bytes = 0;
            length(program.real, &mut bytes);
            log.resize(bytes, 0);
            text(program.real, log.as_mut_ptr().cast());
        }
    }
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(folder.join(format!("{stem}.cu")), program.text.as_bytes());
    let _ = std::fs::write(folder.join(format!("{stem}.log")), log);
}

/// Length of the code.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcGetPTXSize(program: Program, bytes: *mut usize) -> Code {
    unsafe {
        match real::<OfProgram>(c"nvrtcGetPTXSize") {
            Some(length) => return length((*program).real, bytes),
            None => *bytes = (*program).code().len(),
        }
    }
    0
}

/// The code.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcGetPTX(program: Program, code: *mut c_char) -> Code {
    unsafe {
        match real::<IntoBuffer>(c"nvrtcGetPTX") {
            Some(text) => return text((*program).real, code),
            None => put((*program).code(), code),
        }
    }
    0
}

/// Length of the log.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcGetProgramLogSize(program: Program, bytes: *mut usize) -> Code {
    unsafe {
        match real::<OfProgram>(c"nvrtcGetProgramLogSize") {
            Some(length) => return length((*program).real, bytes),
            None => *bytes = (*program).log().len(),
        }
    }
    0
}

/// The log.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcGetProgramLog(program: Program, log: *mut c_char) -> Code {
    unsafe {
        match real::<IntoBuffer>(c"nvrtcGetProgramLog") {
            Some(text) => return text((*program).real, log),
            None => put((*program).log(), log),
        }
    }
    0
}

/// Lets go of a source. What a real compiler holds of it goes with the process.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn nvrtcDestroyProgram(program: *mut Program) -> Code {
    unsafe {
        drop(Box::from_raw(*program));
        *program = ptr::null_mut();
    }
    0
}

/// The name of a code.
#[unsafe(no_mangle)]
pub extern "system" fn nvrtcGetErrorString(_code: Code) -> *const c_char {
    c"an error of the stand-in's compiler".as_ptr()
}

/// Counts a compilation, where that is asked for.
fn tally() {
    let Some(path) = std::env::var_os("STAND_IN_COMPILER_TALLY") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
        // A byte that cannot be written is missed by the test that counts them.
        let _ = file.write_all(b"x");
    }
}
