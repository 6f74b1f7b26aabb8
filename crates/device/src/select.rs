//! From the device asked for to the device there is.

use std::num::NonZero;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    CompilerUnavailable, CudaCompiler, CudaDevice, CudaDriver, CudaUnavailable, DeviceRequest, find_compiler,
    probe_cuda,
};

/// What this build can compute on, beside the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompiledBackends {
    /// Whether CUDA was compiled in.
    pub cuda: bool,
}

/// The device to run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The device.
    pub device: SelectedDevice,
    /// One line for the user, when `auto` did not find what might be hoped for.
    pub note: Option<String>,
}

/// A device that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectedDevice {
    /// The CPU.
    Cpu {
        /// Threads that this process may run at once.
        threads: usize,
    },
    /// A card.
    Cuda(CudaDevice),
}

impl SelectedDevice {
    /// In a sentence: `cpu, 2 threads`, `cuda:0, NVIDIA H200`.
    pub fn describe(&self) -> String {
        match self {
            Self::Cpu { threads: 1 } => "cpu, 1 thread".to_owned(),
            Self::Cpu { threads } => format!("cpu, {threads} threads"),
            Self::Cuda(card) => format!("cuda:{}, {}", card.index, card.name),
        }
    }

    /// The request that names exactly this device.
    pub fn request(&self) -> DeviceRequest {
        match self {
            Self::Cpu { .. } => DeviceRequest::Cpu,
            Self::Cuda(card) => DeviceRequest::Cuda(card.index),
        }
    }
}

/// Finds the device that the user asks for.
///
/// `auto` takes the first card where there is one that this build can use and compile for, else the CPU, and says why in a note.
///
/// # Errors
/// A [`DeviceError`] when a card is asked for that is not there or that this build cannot use.
pub fn select(request: DeviceRequest, compiled: CompiledBackends) -> Result<Selection, DeviceError> {
    choose(request, compiled, probe_cuda, find_compiler)
}

/// Why the device asked for cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// The build is without CUDA.
    #[error("device `{request}` is asked for, but this build has no CUDA")]
    CudaNotCompiled {
        /// What was asked for.
        request: DeviceRequest,
    },
    /// No driver, or no card at all.
    #[error("device `{request}` cannot be used")]
    CudaUnavailable {
        /// What was asked for.
        request: DeviceRequest,
        /// Why.
        #[source]
        source: CudaUnavailable,
    },
    /// Other cards, but not this one.
    #[error("device `{request}` is asked for, but found only {}", found.join(", "))]
    NoSuchCard {
        /// What was asked for.
        request: DeviceRequest,
        /// The cards there are: `cuda:0 (NVIDIA H200)`.
        found: Vec<String>,
    },
    /// A card, and nothing to compile its kernels with.
    #[error("device `{request}` ({name}) cannot be used")]
    NoCompiler {
        /// What was asked for.
        request: DeviceRequest,
        /// The card.
        name: String,
        /// Why.
        #[source]
        source: CompilerUnavailable,
    },
}

impl DeviceError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::CudaNotCompiled { .. } => {
                Some("build with `cargo build --release --features cuda`, or set `device: auto`".to_owned())
            }
            Self::CudaUnavailable { source, .. } => source.hint(),
            Self::NoSuchCard { .. } => Some("set `device: cuda:0`, or `device: auto`".to_owned()),
            Self::NoCompiler { source, .. } => Some(source.hint()),
        }
    }
}

/// Looks for the compiler of a card's kernels, with a driver of this version.
type Find = fn(&CudaDevice, (u32, u32)) -> Result<CudaCompiler, CompilerUnavailable>;

fn choose(
    request: DeviceRequest,
    compiled: CompiledBackends,
    probe: impl FnOnce() -> Result<CudaDriver, CudaUnavailable>,
    find: Find,
) -> Result<Selection, DeviceError> {
    match request {
        DeviceRequest::Cpu => Ok(on_cpu(None)),
        DeviceRequest::Auto => Ok(choose_freely(compiled, probe(), find)),
        DeviceRequest::Cuda(_) if !compiled.cuda => Err(DeviceError::CudaNotCompiled { request }),
        DeviceRequest::Cuda(index) => choose_card(request, index, probe(), find),
    }
}

fn choose_freely(compiled: CompiledBackends, driver: Result<CudaDriver, CudaUnavailable>, find: Find) -> Selection {
    let driver = match driver {
        Ok(driver) => driver,
        Err(unavailable) => return on_cpu(Some(format!("{unavailable}: using the CPU"))),
    };
    let version = driver.version;
    let Some(card) = driver.devices.into_iter().next() else {
        return on_cpu(Some(format!("{}: using the CPU", CudaUnavailable::NoCard)));
    };
    if !compiled.cuda {
        let note = format!("{} is here, but this build has no CUDA (`--features cuda`): using the CPU", card.name);
        return on_cpu(Some(note));
    }
    if let Err(unavailable) = find(&card, version) {
        let note = format!("{} is here, but {unavailable}: using the CPU; {}", card.name, unavailable.hint());
        return on_cpu(Some(note));
    }
    Selection { device: SelectedDevice::Cuda(card), note: None }
}

fn choose_card(
    request: DeviceRequest,
    index: usize,
    driver: Result<CudaDriver, CudaUnavailable>,
    find: Find,
) -> Result<Selection, DeviceError> {
    let CudaDriver { version, devices } = driver.map_err(|source| DeviceError::CudaUnavailable { request, source })?;
    let found = devices.iter().map(|card| format!("`cuda:{}` ({})", card.index, card.name)).collect();
    let Some(card) = devices.into_iter().find(|card| card.index == index) else {
        return Err(DeviceError::NoSuchCard { request, found });
    };
    match find(&card, version) {
        Ok(_) => Ok(Selection { device: SelectedDevice::Cuda(card), note: None }),
        Err(source) => Err(DeviceError::NoCompiler { request, name: card.name, source }),
    }
}

fn on_cpu(note: Option<String>) -> Selection {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    Selection { device: SelectedDevice::Cpu { threads }, note }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_CUDA: CompiledBackends = CompiledBackends { cuda: true };
    const WITHOUT_CUDA: CompiledBackends = CompiledBackends { cuda: false };

    fn two_cards() -> Result<CudaDriver, CudaUnavailable> {
        let devices = (0..2).map(|index| CudaDevice::for_test(index, &format!("Card {index}"))).collect();
        Ok(CudaDriver { version: (12, 4), devices })
    }

    fn compiler(_card: &CudaDevice, version: (u32, u32)) -> Result<CudaCompiler, CompilerUnavailable> {
        Ok(CudaCompiler { version, architectures: vec![86] })
    }

    fn no_compiler(_card: &CudaDevice, _version: (u32, u32)) -> Result<CudaCompiler, CompilerUnavailable> {
        Err(CompilerUnavailable::NoLibrary { tried: vec!["libnvrtc.so".to_owned()] })
    }

    fn no_driver() -> Result<CudaDriver, CudaUnavailable> {
        Err(CudaUnavailable::NoDriver { library: "libcuda.so.1".into(), reason: "no such file".to_owned() })
    }

    #[test]
    fn auto_takes_the_first_card_or_the_cpu_with_one_line() {
        let selection = choose(DeviceRequest::Auto, WITH_CUDA, two_cards, compiler).unwrap();
        assert_eq!(selection.device.describe(), "cuda:0, Card 0");
        assert_eq!(selection.note, None);
        let selection = choose(DeviceRequest::Auto, WITH_CUDA, no_driver, compiler).unwrap();
        assert!(matches!(selection.device, SelectedDevice::Cpu { threads: 1.. }));
        assert_eq!(selection.note.as_deref(), Some("no CUDA driver (`libcuda.so.1` cannot be loaded): using the CPU"));
    }

    #[test]
    fn a_build_without_cuda_says_what_it_leaves_idle() {
        let selection = choose(DeviceRequest::Auto, WITHOUT_CUDA, two_cards, compiler).unwrap();
        assert_eq!(selection.device.request(), DeviceRequest::Cpu);
        assert!(selection.note.unwrap().starts_with("Card 0 is here, but this build has no CUDA"));
        let error = choose(DeviceRequest::Cuda(0), WITHOUT_CUDA, two_cards, compiler).unwrap_err();
        assert_eq!(error.to_string(), "device `cuda:0` is asked for, but this build has no CUDA");
        assert!(error.hint().unwrap().contains("--features cuda"));
    }

    #[test]
    fn a_card_that_is_asked_for_must_be_there() {
        let selection = choose(DeviceRequest::Cuda(1), WITH_CUDA, two_cards, compiler).unwrap();
        assert_eq!(selection.device.request(), DeviceRequest::Cuda(1));
        let error = choose(DeviceRequest::Cuda(2), WITH_CUDA, two_cards, compiler).unwrap_err();
        assert_eq!(
            error.to_string(),
            "device `cuda:2` is asked for, but found only `cuda:0` (Card 0), `cuda:1` (Card 1)"
        );
        let error = choose(DeviceRequest::Cuda(0), WITH_CUDA, no_driver, compiler).unwrap_err();
        assert_eq!(error.to_string(), "device `cuda:0` cannot be used");
        assert!(error.hint().unwrap().contains("`device: cpu`"));
    }

    #[test]
    fn a_card_without_a_compiler_is_left_with_a_way_to_one() {
        let selection = choose(DeviceRequest::Auto, WITH_CUDA, two_cards, no_compiler).unwrap();
        assert_eq!(selection.device.request(), DeviceRequest::Cpu);
        let note = selection.note.unwrap();
        assert!(note.starts_with("Card 0 is here, but CUDA's run-time compiler (NVRTC) cannot be loaded"), "{note}");
        assert!(note.contains("using the CPU; install"), "{note}");
        let error = choose(DeviceRequest::Cuda(1), WITH_CUDA, two_cards, no_compiler).unwrap_err();
        assert_eq!(error.to_string(), "device `cuda:1` (Card 1) cannot be used");
        assert!(error.hint().unwrap().contains("`device: cpu`"));
    }

    #[test]
    fn the_cpu_is_taken_without_asking_a_driver() {
        let selection = choose(DeviceRequest::Cpu, WITH_CUDA, || panic!("the driver was asked"), compiler).unwrap();
        assert_eq!(selection.note, None);
        assert_eq!(selection.device.request(), DeviceRequest::Cpu);
    }
}
