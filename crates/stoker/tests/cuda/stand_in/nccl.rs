//! NCCL, NVIDIA's library for collective communication, among cards that are not there: see `driver.rs`. Memory of all cards is the host's, and every
//! operation is over when it returns, for which each waits for its peers: stricter than the real one, which queues them.
//!
//! Compiled by `rustc` as `libnccl.so`, without dependencies. Set by the environment:
//!
//! - `STAND_IN_NCCL_TALLY`: a file that grows by a byte for each all-reduce of a card.
//! - `STAND_IN_NCCL_REFUSES`: set, all-reduces are refused.
//!
//! Signatures and numbers are those of NCCL: <https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html>.
#![allow(non_snake_case, clippy::missing_safety_doc)]
#![warn(missing_docs)]

use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_void};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

type Code = c_int;

const SUCCESS: Code = 0;
const INVALID_ARGUMENT: Code = 4;
const INVALID_USAGE: Code = 5;

/// `ncclFloat32`.
const FLOAT32: c_uint = 7;
/// `ncclSum`.
const SUM: c_uint = 0;

/// What a communicator is known by before it is made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct UniqueId {
    bytes: [u8; 128],
}

/// A rank's end of a communicator.
pub struct Communicator {
    group: Arc<Group>,
    rank: usize,
}

/// Memory that a rank has given for an operation. An address: the others reach for it.
#[derive(Clone, Copy)]
struct Given {
    source: usize,
    target: usize,
    count: usize,
}

/// All ranks of a communicator.
struct Group {
    ranks: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    joined: usize,
    /// All-reduces that are over.
    rounds: u64,
    /// By rank, for the all-reduce that is under way.
    given: HashMap<usize, Given>,
    /// The code of the last all-reduce.
    ended: Code,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is so.
    fn until<'a>(&self, state: MutexGuard<'a, State>, is_so: impl Fn(&State) -> bool) -> MutexGuard<'a, State> {
        self.changed.wait_while(state, |state| !is_so(state)).unwrap_or_else(PoisonError::into_inner)
    }
}

static GROUPS: LazyLock<Mutex<HashMap<[u8; 128], Arc<Group>>>> = LazyLock::new(Mutex::default);

fn tell_of_one() {
    let Some(path) = std::env::var_os("STAND_IN_NCCL_TALLY") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(b"a")).expect("the tally is writable");
}

/// A name that no communicator has had.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetUniqueId(id: *mut UniqueId) -> Code {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [0; 128];
    bytes[..8].copy_from_slice(&NEXT.fetch_add(1, SeqCst).to_ne_bytes());
    unsafe { *id = UniqueId { bytes } };
    SUCCESS
}

/// Makes a rank's end of a communicator, once all ranks ask for theirs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommInitRank(
    communicator: *mut *mut Communicator,
    ranks: c_int,
    id: UniqueId,
    rank: c_int,
) -> Code {
    if !(0..ranks).contains(&rank) {
        return INVALID_ARGUMENT;
    }
    let ranks = ranks as usize;
    let make = || Arc::new(Group { ranks, state: Mutex::default(), changed: Condvar::new() });
    let group = GROUPS.lock().unwrap_or_else(PoisonError::into_inner).entry(id.bytes).or_insert_with(make).clone();
    let mut state = group.lock();
    state.joined += 1;
    group.changed.notify_all();
    drop(group.until(state, |state| state.joined >= ranks));
    unsafe { *communicator = Box::into_raw(Box::new(Communicator { group, rank: rank as usize })) };
    SUCCESS
}

/// Adds up what all ranks have, for each of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllReduce(
    source: *const c_void,
    target: *mut c_void,
    count: usize,
    kind: c_uint,
    operation: c_uint,
    communicator: *mut Communicator,
    _stream: *mut c_void,
) -> Code {
    if kind != FLOAT32 || operation != SUM {
        return INVALID_ARGUMENT;
    }
    let Communicator { group, rank } = unsafe { &*communicator };
    tell_of_one();
    if std::env::var_os("STAND_IN_NCCL_REFUSES").is_some() {
        return INVALID_USAGE;
    }
    let mut state = group.lock();
    let round = state.rounds;
    state.given.insert(*rank, Given { source: source as usize, target: target as usize, count });
    if state.given.len() == group.ranks {
        let given = std::mem::take(&mut state.given);
        state.ended = unsafe { add_up(&given) };
        state.rounds += 1;
        group.changed.notify_all();
    }
    group.until(state, |state| state.rounds > round).ended
}

/// The sums of what was given, in the order of the ranks, wherever each wants them.
unsafe fn add_up(given: &HashMap<usize, Given>) -> Code {
    let count = given[&0].count;
    if given.values().any(|given| given.count != count) {
        return INVALID_ARGUMENT;
    }
    let mut sums = vec![0.0; count];
    for rank in 0..given.len() {
        let numbers = unsafe { std::slice::from_raw_parts(given[&rank].source as *const f32, count) };
        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }
    for given in given.values() {
        unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), given.target as *mut f32, count) };
    }
    SUCCESS
}
