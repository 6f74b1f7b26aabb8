//! What hardware there is: which device to run on, what its CUDA cards and its memory are, how much heap this process
//! holds, and a catalogue of cards that are elsewhere.
//!
//! It never computes on a device, keeps none open, and knows no tensor library: the caller maps a
//! [`SelectedDevice`] to its own. A missing driver is an answer here, not a failure.
//!
//! ```
//! use device::{CompiledBackends, DeviceRequest, HostMemory, select};
//!
//! let request: DeviceRequest = "cpu".parse()?;
//! let selection = select(request, CompiledBackends { cuda: false })?;
//! assert!(selection.device.describe().starts_with("cpu, "));
//! assert!(HostMemory::read()?.available_bytes > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]

mod card_name;
mod catalogue;
mod cgroup;
mod cuda;
mod cuda_compiler;
mod cuda_driver;
pub mod heap;
mod host;
mod nccl;
mod request;
mod select;

pub use catalogue::{Card, CardCatalogue, CatalogueError, UnknownCard};
pub use cuda::{CudaDevice, CudaDriver, CudaMemory, CudaUnavailable, probe_cuda, probe_cuda_library};
pub use cuda_compiler::{CompilerUnavailable, CudaCompiler, find_compiler};
pub use host::{HostMemory, HostMemoryError};
pub use nccl::{NCCL_LIBRARY, has_nccl};
pub use request::{DeviceRequest, ParseDeviceError};
pub use select::{CompiledBackends, DeviceError, SelectedDevice, Selection, select};
