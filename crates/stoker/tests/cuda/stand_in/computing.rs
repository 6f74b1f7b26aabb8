//! Kernels on the processor: libraries that `host.rs` compiled, run by `computing/lanes.cpp`.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;

/// Bytes of memory that nobody has written: as numbers of 16 or 32 bits they are none.
pub(crate) const LEFT_BEHIND: u8 = 0xff;

#[repr(C)]
pub(crate) struct Extent {
    pub(crate) x: c_uint,
    pub(crate) y: c_uint,
    pub(crate) z: c_uint,
}

type Kernel = unsafe extern "C" fn(*mut *mut c_void);
type Run = unsafe extern "C" fn(Kernel, *const c_char, *mut *mut c_void, Extent, Extent, c_uint);

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

const NOW: c_int = 2;
/// Kernels find the functions of the library that runs them.
const FOR_ALL: c_int = 0x100;

/// The function that runs a kernel; none where this card computes nothing.
static RUN: LazyLock<Option<Run>> = LazyLock::new(|| {
    let folder = std::env::var_os("STAND_IN_COMPUTES")?;
    let library = open(&Path::new(&folder).join("liblanes.so"), FOR_ALL);
    // SAFETY: `lanes.cpp` gives that function this signature.
    Some(unsafe { mem::transmute::<*mut c_void, Run>(symbol(library, c"stand_in_run")) })
});

/// Whether this card computes.
pub(crate) fn runs_kernels() -> bool {
    RUN.is_some()
}

/// Loads a kernel's library: `code` is its path.
///
/// # Safety
/// `code` ends with a zero.
pub(crate) unsafe fn load(code: *const c_void) -> *mut c_void {
    let path = unsafe { CStr::from_ptr(code.cast()) };
    open(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())), 0)
}

/// Runs a kernel of a [loaded](load) library.
///
/// # Safety
/// The arguments are as the kernel's are, by address, and memory that they point to is there.
pub(crate) unsafe fn run(
    library: *mut c_void,
    arguments: *mut *mut c_void,
    grid: Extent,
    block: Extent,
    shared_bytes: c_uint,
) {
    let Some(run) = *RUN else { return };
    // SAFETY: `host.rs` gives each library both symbols, of these types.
    unsafe {
        let kernel = mem::transmute::<*mut c_void, Kernel>(symbol(library, c"stand_in_kernel"));
        let name = symbol(library, c"stand_in_name").cast::<c_char>();
        run(kernel, name, arguments, grid, block, shared_bytes);
    }
}

fn open(path: &Path, flags: c_int) -> *mut c_void {
    let name = CString::new(path.as_os_str().as_bytes()).expect("a path has no zeros");
    // SAFETY: the library is compiled from the sources in this folder, and has no initialisers.
    let library = unsafe { dlopen(name.as_ptr(), NOW | flags) };
    assert!(!library.is_null(), "{:?}", unsafe { CStr::from_ptr(dlerror()) });
    library
}

fn symbol(library: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: the library was opened and is never closed.
    let symbol = unsafe { dlsym(library, name.as_ptr()) };
    assert!(!symbol.is_null(), "the library lacks {name:?}");
    symbol
}
