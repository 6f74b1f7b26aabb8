//! NVIDIA's library for collective communication, by which tensors get from card to card.

use libloading::Library;

/// The name under which `cudarc`, which CubeCL calls it by, finds it. It tries others, but not `libnccl.so.2`, which is all that a package for running
/// without development files has.
pub const NCCL_LIBRARY: &str = if cfg!(windows) { "nccl.dll" } else { "libnccl.so" };

/// Whether NCCL can be loaded. It stays loaded when it can.
#[must_use]
pub fn has_nccl() -> bool {
    // SAFETY: loading runs the library's initialisers. It is the system's NCCL, whose initialisers ask nothing of the process.
    let library = unsafe { Library::new(NCCL_LIBRARY) };
    library.map(std::mem::forget).is_ok()
}
