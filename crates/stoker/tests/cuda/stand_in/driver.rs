//! A CUDA driver whose cards hold memory, and compute nothing or on the processor.
//!
//! It counts what is allocated as a card would, refuses what does not fit, copies bytes in and out, takes kernels and does not run them: fresh memory
//! is zero and stays so. With it the whole way of a run on CUDA goes through CubeCL's own runtime, allocator and kernel sources on a machine
//! without a card; only numbers mean nothing. Pages are reserved, not committed: a card of 141 GiB stands on a laptop.
//!
//! Where `STAND_IN_COMPUTES` is set, kernels run on the processor, slowly, and numbers are what a card's would be: see `computing.rs`. Fresh memory is
//! then no zero but what a card may have there.
//!
//! Compiled by `rustc` as `libcuda.so.1`, without dependencies. Set by the environment, read once:
//!
//! - `STAND_IN_CARD_MEMORY`: bytes of each card, 12 GiB when unset.
//! - `STAND_IN_CARD_MEMORY_THERE`: bytes of each card that can really be had, whatever it says is free; all of them when unset.
//! - `STAND_IN_CARD_CAPABILITY`: compute capability, `8.6` when unset.
//! - `STAND_IN_CARD_NAME`: product name, `NVIDIA GeForce RTX 3060` when unset.
//! - `STAND_IN_CARD_COUNT`: number of cards, 1 when unset.
//! - `STAND_IN_COMPUTES`: set, kernels are run; see `host.rs`.
//! - `STAND_IN_CARD_STATISTICS`: a file for six numbers of eight bytes; see [`Statistic`].
//!
//! Signatures and numbers are those of the CUDA driver API: <https://docs.nvidia.com/cuda/cuda-driver-api/>.
#![allow(non_snake_case, clippy::missing_safety_doc)]
#![warn(missing_docs)]

mod computing;
mod memory;
mod queue;

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

type Code = c_int;
type Address = u64;

const SUCCESS: Code = 0;
const INVALID_VALUE: Code = 1;
const OUT_OF_MEMORY: Code = 2;
const INVALID_DEVICE: Code = 101;
const INVALID_CONTEXT: Code = 201;
const NOT_FOUND: Code = 500;

/// What a context takes on a card before anything is allocated; a few hundred MiB on real ones.
const CONTEXT_BYTES: u64 = 300 << 20;

/// Memory is mapped in pages of 2 MiB on real cards.
const PAGE_BYTES: u64 = 2 << 20;

/// What is allocated in the order of a stream comes out of a pool of the driver's, in pieces of this. Pages that the pool has and does not use are not
/// told apart here.
const PIECE_BYTES: u64 = 512;

/// The places of the file of statistics.
#[derive(Clone, Copy)]
enum Statistic {
    /// The most bytes of all cards that were allocated at once, without contexts.
    Peak,
    /// Kernels launched.
    Launches,
    /// Kernels loaded.
    Kernels,
    /// Allocations refused.
    Refusals,
    /// Bytes allocated now.
    Held,
    /// Kernels launched on cards beside the first.
    LaunchesElsewhere,
}

/// Of fresh memory on a card that computes, this much holds something: all of it would be committed.
const FILLED_BYTES: usize = 256 << 20;

struct Settings {
    memory_bytes: u64,
    memory_there_bytes: u64,
    capability: (c_int, c_int),
    name: String,
    count: c_int,
}

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let text = |name: &str| std::env::var(format!("STAND_IN_CARD_{name}")).ok();
    let capability = text("CAPABILITY").unwrap_or_else(|| "8.6".to_owned());
    let (major, minor) = capability.split_once('.').expect("a capability is `8.6` or the like");
    let bytes = |name| text(name).map(|bytes| bytes.parse().expect("memory is a number of bytes"));
    Settings {
        memory_bytes: bytes("MEMORY").unwrap_or(12 << 30),
        memory_there_bytes: bytes("MEMORY_THERE").unwrap_or(u64::MAX),
        capability: (major.parse().expect("a number"), minor.parse().expect("a number")),
        name: text("NAME").unwrap_or_else(|| "NVIDIA GeForce RTX 3060".to_owned()),
        count: text("COUNT").map_or(1, |count| count.parse().expect("a number of cards")),
    }
});

/// What a card holds.
#[derive(Default)]
struct Card {
    /// Bytes of each allocation, by its address.
    blocks: HashMap<Address, u64>,
    held_bytes: u64,
    has_context: bool,
}

impl Card {
    fn free_bytes(&self) -> u64 {
        let context = if self.has_context { CONTEXT_BYTES } else { 0 };
        SETTINGS.memory_bytes.saturating_sub(self.held_bytes + context)
    }
}

static CARDS: LazyLock<Mutex<Vec<Card>>> =
    LazyLock::new(|| Mutex::new((0..SETTINGS.count).map(|_| Card::default()).collect()));

fn cards() -> MutexGuard<'static, Vec<Card>> {
    CARDS.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// The card of the context that is current on this thread, plus one; zero without.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The card that this thread computes on.
fn current() -> Option<usize> {
    CURRENT.get().checked_sub(1)
}

static STATISTICS: LazyLock<Option<usize>> = LazyLock::new(|| {
    let path = std::env::var_os("STAND_IN_CARD_STATISTICS")?;
    let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).ok()?;
    file.set_len(64).ok()?;
    // SAFETY: the file has that many bytes, and the mapping outlives its descriptor.
    let address = unsafe { mmap(ptr::null_mut(), 64, READ_AND_WRITE, SHARED, file.as_raw_fd(), 0) };
    (address as isize != -1).then_some(address as usize)
});

fn statistic(place: Statistic) -> Option<&'static AtomicU64> {
    // SAFETY: the mapping stays for the life of the process, is aligned to a page, and holds eight such numbers.
    STATISTICS.map(|address| unsafe { &*(address as *const AtomicU64).add(place as usize) })
}

fn count(place: Statistic) {
    if let Some(number) = statistic(place) {
        number.fetch_add(1, SeqCst);
    }
}

const READ_AND_WRITE: c_int = 1 | 2;
const SHARED: c_int = 1;
/// `MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE` on Linux.
const RESERVED: c_int = 0x2 | 0x20 | 0x4000;

unsafe extern "C" {
    fn mmap(address: *mut c_void, length: usize, protection: c_int, flags: c_int, file: c_int, offset: i64)
    -> *mut c_void;
    fn munmap(address: *mut c_void, length: usize) -> c_int;
}

/// Takes memory of a card, in multiples of a granularity, or refuses as a full one does.
fn allocate(bytes: usize, granularity: u64) -> Result<Address, Code> {
    let mut cards = cards();
    let card = current().and_then(|index| cards.get_mut(index)).ok_or(INVALID_CONTEXT)?;
    let bytes = (bytes as u64).max(1).next_multiple_of(granularity);
    if bytes > card.free_bytes().min(SETTINGS.memory_there_bytes.saturating_sub(card.held_bytes)) {
        count(Statistic::Refusals);
        return Err(OUT_OF_MEMORY);
    }
    // SAFETY: a fresh mapping of nothing else.
    let address = unsafe { mmap(ptr::null_mut(), bytes as usize, READ_AND_WRITE, RESERVED, -1, 0) };
    if address as isize == -1 {
        return Err(OUT_OF_MEMORY);
    }
    if computing::runs_kernels() {
        // SAFETY: the mapping has that many bytes.
        unsafe { ptr::write_bytes(address.cast::<u8>(), computing::LEFT_BEHIND, (bytes as usize).min(FILLED_BYTES)) };
    }
    card.held_bytes += bytes;
    card.blocks.insert(address as Address, bytes);
    tell_held(&cards);
    Ok(address as Address)
}

fn free(address: Address) -> Code {
    let mut cards = cards();
    let Some(card) = cards.iter_mut().find(|card| card.blocks.contains_key(&address)) else { return INVALID_VALUE };
    let bytes = card.blocks.remove(&address).expect("the card was found by it");
    card.held_bytes -= bytes;
    // SAFETY: the mapping was made by `allocate` with this length, and the card no longer knows it.
    unsafe { munmap(address as *mut c_void, bytes as usize) };
    tell_held(&cards);
    SUCCESS
}

fn tell_held(cards: &[Card]) {
    let held = cards.iter().map(|card| card.held_bytes).sum();
    if let (Some(now), Some(peak)) = (statistic(Statistic::Held), statistic(Statistic::Peak)) {
        now.store(held, SeqCst);
        peak.fetch_max(held, SeqCst);
    }
}

// The driver's start, and what it says of its cards.

/// Starts the driver.
#[unsafe(no_mangle)]
pub extern "system" fn cuInit(flags: c_uint) -> Code {
    if flags == 0 { SUCCESS } else { INVALID_VALUE }
}

/// The newest version of CUDA that is supported.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDriverGetVersion(version: *mut c_int) -> Code {
    unsafe { *version = 13_000 };
    SUCCESS
}

/// The name of a code.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuGetErrorName(code: Code, name: *mut *const c_char) -> Code {
    unsafe { *name = error_text(code).as_ptr() };
    SUCCESS
}

/// The meaning of a code.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuGetErrorString(code: Code, text: *mut *const c_char) -> Code {
    unsafe { *text = error_text(code).as_ptr() };
    SUCCESS
}

fn error_text(code: Code) -> &'static CStr {
    match code {
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        INVALID_DEVICE => c"CUDA_ERROR_INVALID_DEVICE",
        INVALID_CONTEXT => c"CUDA_ERROR_INVALID_CONTEXT",
        _ => c"CUDA_ERROR_INVALID_VALUE",
    }
}

/// Tables of functions that are documented nowhere: there are none. NVRTC asks for one, and does without.
#[unsafe(no_mangle)]
pub extern "system" fn cuGetExportTable(_table: *mut *const c_void, _name: *const c_void) -> Code {
    NOT_FOUND
}

/// How many cards there are.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGetCount(count: *mut c_int) -> Code {
    unsafe { *count = SETTINGS.count };
    SUCCESS
}

/// A card's handle, which is its number.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> Code {
    if !(0..SETTINGS.count).contains(&ordinal) {
        return INVALID_DEVICE;
    }
    unsafe { *device = ordinal };
    SUCCESS
}

/// A card's product name, cut to the buffer and ended by a zero.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGetName(name: *mut c_char, length: c_int, _device: c_int) -> Code {
    let bytes = SETTINGS.name.bytes().take((length as usize).saturating_sub(1)).chain([0]);
    for (place, byte) in bytes.enumerate() {
        unsafe { *name.add(place) = byte as c_char };
    }
    SUCCESS
}

/// All memory of a card.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) -> Code {
    unsafe { *bytes = SETTINGS.memory_bytes as usize };
    SUCCESS
}

/// A property of a card, by its number in `CUdevice_attribute`. Those of an Ampere card where its capability does not decide.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) -> Code {
    let (major, minor) = SETTINGS.capability;
    let found = match attribute {
        1 | 2 | 3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65_535,
        8 => 49_152,
        10 => 32,
        16 => 28,
        75 => major,
        76 => minor,
        97 => shared_bytes_of_a_block((major, minor)),
        _ => 0,
    };
    unsafe { *value = found };
    SUCCESS
}

/// The most shared memory that a block may ask for: "Technical Specifications per Compute Capability" in NVIDIA's CUDA C++ Programming Guide.
fn shared_bytes_of_a_block(capability: (c_int, c_int)) -> c_int {
    let kibibytes = match capability {
        (..=6, _) => 48,
        (7, 0..=2) => 96,
        (7, _) => 64,
        (8, 0 | 7) => 163,
        (8, _) | (12, _) => 99,
        _ => 227,
    };
    kibibytes << 10
}

// Contexts: one a card.

/// Makes a card's context, or gives the one there is.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: c_int) -> Code {
    let mut cards = cards();
    let Some(card) = cards.get_mut(device as usize) else { return INVALID_DEVICE };
    card.has_context = true;
    unsafe { *context = (device as usize + 1) as *mut c_void };
    SUCCESS
}

/// Lets go of a context, which stays as long as the process.
#[unsafe(no_mangle)]
pub extern "system" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> Code {
    SUCCESS
}

/// Makes a context the current one of this thread.
#[unsafe(no_mangle)]
pub extern "system" fn cuCtxSetCurrent(context: *mut c_void) -> Code {
    CURRENT.set(context as usize);
    SUCCESS
}

/// The current context of this thread.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuCtxGetCurrent(context: *mut *mut c_void) -> Code {
    unsafe { *context = CURRENT.get() as *mut c_void };
    SUCCESS
}

/// Makes a context the current one for a while.
#[unsafe(no_mangle)]
pub extern "system" fn cuCtxPushCurrent_v2(context: *mut c_void) -> Code {
    cuCtxSetCurrent(context)
}

/// Ends that while.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuCtxPopCurrent_v2(context: *mut *mut c_void) -> Code {
    unsafe { cuCtxGetCurrent(context) };
    cuCtxSetCurrent(ptr::null_mut())
}

/// There is one priority.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> Code {
    unsafe {
        *least = 0;
        *greatest = 0;
    }
    SUCCESS
}
