//! One name for all the ways in which memory runs out, and the moment at which it is asked.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::tensor::Device;
use device::heap;
use memory_planner::format_bytes;

/// What a device says when a reservation fails (cubecl-runtime 0.11.0-pre.3, `server/base.rs`, `IoError`; cubecl-cuda, `compute/server.rs`,
/// `initialize_memory`).
const RESERVATION_FAILED: [&str; 5] = [
    "failed to reserve",
    "out of device memory",
    "can't allocate buffer",
    "memory pool capacity exceeded",
    "PoolCapacityExceeded",
];

/// What the next `sync` says after a reservation failed in the device's own thread: the launches that wanted the buffer found none. Nothing
/// else leaves a buffer of ours unbound.
const BUFFER_MISSING: &str = "couldn't find resource for that handle";

/// Memory ran out, wherever that showed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutOfMemory {
    /// The device gave no buffer.
    #[error("the device gave no buffer{}: {reason}", requested_bytes.map_or(String::new(), |bytes| format!(" of {}", format_bytes(bytes))))]
    Device {
        /// Of the buffer, where the device says.
        requested_bytes: Option<u64>,
        /// Of the pool, where it is capped and the device says.
        limit_bytes: Option<u64>,
        /// The device's words, their first line.
        reason: String,
    },
    /// The heap went above its limit; see [`heap::set_limit`].
    #[error("the heap held {} of at most {}", format_bytes(*held_bytes), format_bytes(*limit_bytes))]
    Limit {
        /// The most that lived at once in the piece of work that is given up.
        held_bytes: u64,
        /// What may live.
        limit_bytes: u64,
    },
    /// A test wanted it so; see [`FaultPlan`](crate::FaultPlan).
    #[error("injected by a test")]
    Injected,
}

impl OutOfMemory {
    /// Reads it off a panic's or an error's text; none when the text is about something else.
    pub fn from_message(text: &str) -> Option<Self> {
        let failed = RESERVATION_FAILED.iter().find_map(|words| Some(&text[text.find(words)?..]));
        if failed.is_none() && !text.contains(BUFFER_MISSING) {
            return None;
        }
        let limit_bytes = text.split_once("capped at ").and_then(|(_, rest)| first_number(rest));
        let line = text.lines().find(|line| RESERVATION_FAILED.iter().any(|words| line.contains(words)));
        let line = line.or_else(|| text.lines().find(|line| line.contains(BUFFER_MISSING)));
        Some(Self::Device {
            requested_bytes: failed.and_then(first_number),
            limit_bytes,
            reason: line.unwrap_or(text).trim().to_owned(),
        })
    }

    /// Bytes that were asked for, or held, when it happened.
    pub fn requested_bytes(&self) -> Option<u64> {
        match self {
            Self::Device { requested_bytes, .. } => *requested_bytes,
            Self::Limit { held_bytes, .. } => Some(*held_bytes),
            Self::Injected => None,
        }
    }

    /// Bytes that there are, where it is known.
    pub fn limit_bytes(&self) -> Option<u64> {
        match self {
            Self::Device { limit_bytes, .. } => *limit_bytes,
            Self::Limit { limit_bytes, .. } => Some(*limit_bytes),
            Self::Injected => None,
        }
    }

    /// The limit that this piece of work would have kept, in whole MiB; none where there was no limit to keep.
    pub fn sufficient_limit_mebibytes(&self) -> Option<u64> {
        match self {
            // A twentieth more: the heap of the next attempt is not the same to the byte.
            Self::Limit { held_bytes, .. } => Some((held_bytes + held_bytes / 20).div_ceil(1 << 20)),
            Self::Device { .. } | Self::Injected => None,
        }
    }
}

impl OutOfMemory {
    /// A way out when it befell a single image, which cannot be cut: what is left is more memory, or a smaller image or model.
    pub fn hint(&self) -> String {
        match (self, self.sufficient_limit_mebibytes()) {
            (_, Some(mebibytes)) => {
                format!("set `memory.limit: {mebibytes}MiB` or more, or a smaller `model.image_size` or `model.name`")
            }
            (Self::Injected, _) => "memory did not really run out: do not inject it".to_owned(),
            _ => "set a smaller `model.image_size` or `model.name`, or end what else holds memory there".to_owned(),
        }
    }
}

/// Why work on a device came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// Less work at once may fit.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// Something else: less work will not help.
    #[error("the device failed: {reason}")]
    Device {
        /// The device's words.
        reason: String,
    },
}

impl ComputeError {
    /// Reads it off a device's words.
    pub fn from_device(reason: &str) -> Self {
        match OutOfMemory::from_message(reason) {
            Some(out_of_memory) => out_of_memory.into(),
            None => Self::Device { reason: reason.to_owned() },
        }
    }
}

/// Watches memory over one piece of work that can be given up and done again in smaller parts.
#[derive(Debug)]
pub struct MemoryWatch {
    device: Device,
}

impl MemoryWatch {
    /// Begins to watch: what the heap did before does not count, and is set aside for [`UncutWork::take`]. `device` may be an autodiff device.
    pub fn begin(device: &Device) -> Self {
        heap::set_aside_overrun();
        Self { device: device.clone().inner() }
    }

    /// Does a part of the work, waits for the device, and asks whether memory was enough so far.
    ///
    /// On an error nothing that the work made may be used: a device answers with meaningless numbers for what it could not compute. On the CPU
    /// waiting and asking cost nothing.
    ///
    /// # Errors
    /// [`ComputeError::OutOfMemory`] when a reservation failed or the heap went above its limit, [`ComputeError::Device`] when the device
    /// failed otherwise.
    ///
    /// # Panics
    /// As `work` does, unless it panics for lack of memory.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, ComputeError> {
        let done = catch_out_of_memory(work);
        // Also after a panic: the device holds its error until it is asked, and would tell it of the next attempt.
        let waited = wait_for(&self.device);
        let done = done?;
        waited?;
        match (heap::take_overrun(), heap::limit_bytes()) {
            (Some(held_bytes), Some(limit_bytes)) => Err(OutOfMemory::Limit { held_bytes, limit_bytes }.into()),
            _ => Ok(done),
        }
    }

    /// Gives back what the device's pools hold unused, so that smaller parts find room. Everything that the work made must be dropped.
    pub fn clean_up(&self) {
        self.device.memory_cleanup();
    }
}

/// A limit that was passed where nothing can be done in smaller parts: while weights were updated, a file was written, or images were loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UncutWork {
    /// The most that lived at once.
    pub held_bytes: u64,
    /// What may live.
    pub limit_bytes: u64,
}

impl UncutWork {
    /// What happened since this was last asked, outside of all that [`MemoryWatch`] watched.
    pub fn take() -> Option<Self> {
        heap::set_aside_overrun();
        heap::take_set_aside()
            .zip(heap::limit_bytes())
            .map(|(held_bytes, limit_bytes)| Self { held_bytes, limit_bytes })
    }
}

/// Turns a panic for lack of memory into an error; other panics go on. When every kernel candidate of a tuning run fails, the tuner panics in
/// the caller's thread.
pub(crate) fn catch_out_of_memory<T>(work: impl FnOnce() -> T) -> Result<T, OutOfMemory> {
    // Whoever gets the error drops all that the work could have left half done.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| match OutOfMemory::from_message(message_of(&*payload)) {
        Some(out_of_memory) => out_of_memory,
        None => resume_unwind(payload),
    })
}

/// Waits for the device, and tells what failed since it was last waited for.
pub(crate) fn wait_for(device: &Device) -> Result<(), ComputeError> {
    device.sync().map_err(|error| ComputeError::from_device(&error.to_string()))
}

fn message_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default()
}

fn first_number(text: &str) -> Option<u64> {
    let digits = text.trim_start_matches(|character: char| !character.is_ascii_digit());
    digits.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(requested_bytes: Option<u64>, limit_bytes: Option<u64>) -> impl Fn(&str) -> OutOfMemory {
        move |reason| OutOfMemory::Device { requested_bytes, limit_bytes, reason: reason.to_owned() }
    }

    /// The texts are those of the sources named above, with a backtrace as they carry one.
    #[test]
    fn what_devices_say_of_memory_is_understood_with_its_numbers() {
        let reserve = "failed to reserve 4096 bytes of device memory: out of device memory allocating 4096 bytes";
        let said = OutOfMemory::from_message(&format!("{reserve}\n   0: std::backtrace 12")).unwrap();
        assert_eq!(said, device(Some(4096), None)(reserve));
        let capped = "memory pool capacity exceeded: failed to reserve 512 bytes, pool is capped at 2048 bytes (1900 bytes in use)";
        assert_eq!(OutOfMemory::from_message(capped).unwrap(), device(Some(512), Some(2048))(capped));
        let too_big = "can't allocate buffer of size: 77";
        let said = OutOfMemory::from_message(&format!("a launch failed\nCaused by:\n  {too_big}\n")).unwrap();
        assert_eq!(said, device(Some(77), None)(too_big));
        let unbound = "couldn't find resource for that handle: memory slice not found";
        let said = OutOfMemory::from_message(&format!("The server is in an invalid state\nCaused by:\n  {unbound}"));
        assert_eq!(said.unwrap(), device(None, None)(unbound));
    }

    #[test]
    fn other_failures_of_a_device_are_not_about_memory() {
        for text in
            ["index out of bounds: the len is 3", "The server is in an invalid state", "a kernel failed to compile", ""]
        {
            assert_eq!(OutOfMemory::from_message(text), None, "{text}");
            let reason = text.to_owned();
            assert_eq!(ComputeError::from_device(text), ComputeError::Device { reason });
        }
    }

    #[test]
    fn a_panic_for_lack_of_memory_is_an_error_and_another_goes_on() {
        let watch = MemoryWatch::begin(&Device::flex());
        let formatted = watch.run(|| panic!("failed to reserve {} bytes of device memory", 9)).unwrap_err();
        assert!(matches!(formatted, ComputeError::OutOfMemory(error) if error.requested_bytes() == Some(9)));
        assert!(watch.run(|| panic!("out of device memory")).is_err());
        let other = catch_unwind(AssertUnwindSafe(|| watch.run(|| panic!("a mistake"))));
        assert_eq!(message_of(&*other.unwrap_err()), "a mistake");
        assert_eq!(watch.run(|| 3), Ok(3));
    }
}
