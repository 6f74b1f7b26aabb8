//! CUDA cards, as the driver tells them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cuda_driver::DriverLibrary;

/// The driver's library; it comes with the driver, not with the toolkit.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// `CUDA_ERROR_NO_DEVICE` in the driver's header.
const NO_DEVICE: i32 = 100;

/// `CUDA_ERROR_STUB_LIBRARY`: the toolkit's stand-in for linking was loaded instead of a driver.
const STUB_LIBRARY: i32 = 34;

/// A CUDA driver with at least one card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaDriver {
    /// The newest CUDA version that the driver supports: major and minor.
    pub version: (u32, u32),
    /// Its cards, in its own order (the environment variable `CUDA_VISIBLE_DEVICES` may hide and reorder them).
    pub devices: Vec<CudaDevice>,
}

/// A CUDA card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaDevice {
    /// Its number.
    pub index: usize,
    /// Its product name: `NVIDIA GeForce RTX 3060`.
    pub name: String,
    /// All its memory.
    pub total_bytes: u64,
    /// Major and minor: (8, 6) is Ampere for desktops.
    pub compute_capability: (u32, u32),
    library: PathBuf,
}

/// A moment's memory of a card, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaMemory {
    /// All there is.
    pub total_bytes: u64,
    /// What this process can still allocate. A context of this process is already taken off.
    pub free_bytes: u64,
}

/// Asks the driver for its cards. Without a driver that takes well under a millisecond; with one, the time of its
/// start-up. It makes no context and takes no memory of a card.
///
/// # Errors
/// A [`CudaUnavailable`] when there is no driver, no card, or the driver fails.
pub fn probe_cuda() -> Result<CudaDriver, CudaUnavailable> {
    probe_cuda_library(Path::new(LIBRARY))
}

/// [`probe_cuda`] with the driver's library at a place of its own.
///
/// # Errors
/// Those of [`probe_cuda`].
pub fn probe_cuda_library(library: &Path) -> Result<CudaDriver, CudaUnavailable> {
    let driver = DriverLibrary::load(library)?;
    driver.start()?;
    let version = driver.version()?;
    let count = driver.device_count()?;
    if count == 0 {
        return Err(CudaUnavailable::NoCard);
    }
    let devices = (0..count).map(|index| read_device(&driver, index, library)).collect::<Result<_, _>>()?;
    Ok(CudaDriver { version, devices })
}

impl CudaDevice {
    /// Asks the driver how much of the card's memory is free. It makes the card's primary context if this process has
    /// none yet (some tenths of a second, some hundred MiB) and lets go of it again.
    ///
    /// # Errors
    /// A [`CudaUnavailable`] when the driver fails, as it does when the card is too full for a context.
    pub fn read_memory(&self) -> Result<CudaMemory, CudaUnavailable> {
        let driver = DriverLibrary::load(&self.library)?;
        driver.start()?;
        let (free_bytes, total_bytes) = driver.memory(self.index)?;
        Ok(CudaMemory { total_bytes, free_bytes })
    }

    #[cfg(test)]
    pub(crate) fn for_test(index: usize, name: &str) -> Self {
        Self {
            index,
            name: name.to_owned(),
            total_bytes: 12 << 30,
            compute_capability: (8, 6),
            library: LIBRARY.into(),
        }
    }
}

/// Why no CUDA card can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CudaUnavailable {
    /// The driver's library cannot be loaded.
    #[error("no CUDA driver (`{}` cannot be loaded)", library.display())]
    NoDriver {
        /// The library.
        library: PathBuf,
        /// What the system's loader said.
        reason: String,
    },
    /// The library is not a complete CUDA driver.
    #[error("CUDA driver `{}` lacks the function `{function}`", library.display())]
    MissingFunction {
        /// The library.
        library: PathBuf,
        /// What it lacks.
        function: String,
    },
    /// A driver and nothing to drive.
    #[error("the CUDA driver finds no card")]
    NoCard,
    /// The driver returned an error.
    #[error("CUDA driver call `{function}` failed: {name} ({code})")]
    CallFailed {
        /// Which call.
        function: &'static str,
        /// Its `CUresult`.
        code: i32,
        /// The driver's name for that.
        name: String,
    },
}

impl CudaUnavailable {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoDriver { .. } | Self::MissingFunction { .. } => {
                "install the NVIDIA driver, or set `device: cpu`".to_owned()
            }
            Self::NoCard => {
                "see what `nvidia-smi -L` lists and what `CUDA_VISIBLE_DEVICES` hides, or set `device: cpu`".to_owned()
            }
            Self::CallFailed { code: STUB_LIBRARY, .. } => {
                "take the toolkit's `stubs` folder out of `LD_LIBRARY_PATH`, or set `device: cpu`".to_owned()
            }
            Self::CallFailed { .. } => "see whether `nvidia-smi` works, or set `device: cpu`".to_owned(),
        })
    }

    pub(crate) fn from_code(function: &'static str, code: i32, name: String) -> Self {
        if code == NO_DEVICE { Self::NoCard } else { Self::CallFailed { function, code, name } }
    }
}

fn read_device(driver: &DriverLibrary, index: usize, library: &Path) -> Result<CudaDevice, CudaUnavailable> {
    let handle = driver.device(index)?;
    Ok(CudaDevice {
        index,
        name: driver.device_name(handle)?,
        total_bytes: driver.total_bytes(handle)?,
        compute_capability: driver.compute_capability(handle)?,
        library: library.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probing_a_machine_never_panics() {
        match probe_cuda() {
            Ok(driver) => assert!(!driver.devices.is_empty()),
            Err(unavailable) => assert!(unavailable.hint().is_some(), "{unavailable}"),
        }
    }

    #[test]
    fn a_missing_library_is_no_driver() {
        let missing = Path::new("libcuda-that-nobody-has.so.1");
        let error = probe_cuda_library(missing).unwrap_err();
        assert_eq!(error.to_string(), "no CUDA driver (`libcuda-that-nobody-has.so.1` cannot be loaded)");
        let CudaUnavailable::NoDriver { reason, .. } = error else { panic!("another error") };
        assert!(!reason.is_empty());
    }

    #[test]
    fn a_driver_without_cards_is_told_from_one_that_fails() {
        assert_eq!(CudaUnavailable::from_code("cuInit", 100, String::new()), CudaUnavailable::NoCard);
        let stub = CudaUnavailable::from_code("cuInit", 34, "CUDA_ERROR_STUB_LIBRARY".to_owned());
        assert_eq!(stub.to_string(), "CUDA driver call `cuInit` failed: CUDA_ERROR_STUB_LIBRARY (34)");
        assert!(stub.hint().unwrap().contains("stubs"));
    }
}
