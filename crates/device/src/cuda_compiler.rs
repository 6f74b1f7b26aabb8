//! The compiler that kernels need at run time: NVRTC and CUDA's headers.
//!
//! A driver alone is not enough: CubeCL hands kernels to NVRTC as C++ that includes CUDA's headers, and gives up the process's device thread where
//! either is missing. So they are looked for before a card is taken, in the places where `cubecl-cuda` (its `install` module) and `cudarc` look.

use std::ffi::c_int;
use std::path::{Path, PathBuf};

use libloading::Library;
use thiserror::Error;

use crate::CudaDevice;

type GetVersion = unsafe extern "system" fn(*mut c_int, *mut c_int) -> c_int;
type GetCount = unsafe extern "system" fn(*mut c_int) -> c_int;
type GetArchitectures = unsafe extern "system" fn(*mut c_int) -> c_int;

/// A header that kernels in half precision include; where it is, the others are.
const HEADER: &str = "include/cuda_fp16.h";

/// What brings compiler and headers without the toolkit.
const PACKAGES: &str = "nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl";

/// The compiler at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaCompiler {
    /// Major and minor of the CUDA version that it comes from.
    pub version: (u32, u32),
    /// Compute capabilities that it compiles for, as NVRTC counts them: 86 is 8.6. Empty where it does not tell.
    pub architectures: Vec<u32>,
}

/// Why no kernel can be compiled for a card.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompilerUnavailable {
    /// NVRTC cannot be loaded under any of its names.
    #[error("CUDA's run-time compiler (NVRTC) cannot be loaded: `{}` and others were tried", tried.first().map_or("", String::as_str))]
    NoLibrary {
        /// File names that were tried.
        tried: Vec<String>,
    },
    /// The headers are nowhere.
    #[error("CUDA's headers are missing: there is no `{HEADER}` in {}", places(looked_in))]
    NoHeaders {
        /// Where they were looked for.
        looked_in: Vec<PathBuf>,
    },
    /// The driver does not know the code that this compiler makes.
    #[error("NVRTC {}.{} makes code that a driver for CUDA {}.{} does not take", compiler.0, compiler.1, driver.0, driver.1)]
    TooNewForDriver {
        /// Version of the compiler.
        compiler: (u32, u32),
        /// Newest version that the driver takes.
        driver: (u32, u32),
    },
    /// The compiler does not know the card.
    #[error("NVRTC {}.{} compiles nothing for compute capability {}.{}", compiler.0, compiler.1, capability.0, capability.1)]
    NoArchitecture {
        /// Version of the compiler.
        compiler: (u32, u32),
        /// Capability of the card.
        capability: (u32, u32),
    },
}

impl CompilerUnavailable {
    /// A way out that can be pasted.
    pub fn hint(&self) -> String {
        let toolkit = "`CUDA_PATH` to the folder `nvidia/cu13` that it makes and `LD_LIBRARY_PATH` to `lib` in there";
        match self {
            Self::NoLibrary { .. } | Self::NoHeaders { .. } => {
                format!("install the CUDA toolkit, or `pip install {PACKAGES}` and set {toolkit}; or set `device: cpu`")
            }
            Self::TooNewForDriver { driver: (major, minor), .. } => {
                format!("update the driver, or install NVRTC {major}.{minor} or older; or set `device: cpu`")
            }
            Self::NoArchitecture { capability, .. } if *capability < (7, 5) => {
                "install NVRTC 12, the last for this card: `pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12`; or set `device: cpu`"
                    .to_owned()
            }
            Self::NoArchitecture { .. } => "install a newer NVRTC, or set `device: cpu`".to_owned(),
        }
    }
}

/// Looks for the compiler and the headers, and whether they serve this card with a driver for CUDA `driver_version`.
///
/// # Errors
/// A [`CompilerUnavailable`] that says what is missing or does not fit.
pub fn find_compiler(card: &CudaDevice, driver_version: (u32, u32)) -> Result<CudaCompiler, CompilerUnavailable> {
    let compiler = load_first(&library_names())?;
    find_headers(&toolkit_folders())?;
    check(&compiler, card.compute_capability, driver_version)?;
    Ok(compiler)
}

/// Whether a compiler's code can run on the card: the driver translates PTX of its own version and older, and the card's architecture must be known.
fn check(compiler: &CudaCompiler, capability: (u32, u32), driver: (u32, u32)) -> Result<(), CompilerUnavailable> {
    if compiler.version > driver {
        return Err(CompilerUnavailable::TooNewForDriver { compiler: compiler.version, driver });
    }
    let architecture = capability.0 * 10 + capability.1;
    if !compiler.architectures.is_empty() && !compiler.architectures.contains(&architecture) {
        return Err(CompilerUnavailable::NoArchitecture { compiler: compiler.version, capability });
    }
    Ok(())
}

/// The names that `cudarc` tries and that exist on this system.
fn library_names() -> Vec<String> {
    if cfg!(windows) {
        return ["nvrtc64_130_0.dll", "nvrtc64_120_0.dll", "nvrtc64_112_0.dll"].map(str::to_owned).to_vec();
    }
    ["", ".13", ".12", ".11"].map(|version| format!("libnvrtc.so{version}")).to_vec()
}

fn load_first(names: &[String]) -> Result<CudaCompiler, CompilerUnavailable> {
    // SAFETY: loading runs the initialisers of NVIDIA's compiler, which ask nothing of the process.
    let library = names.iter().find_map(|name| unsafe { Library::new(name) }.ok());
    let library = library.ok_or_else(|| CompilerUnavailable::NoLibrary { tried: names.to_vec() })?;
    let compiler = CudaCompiler { version: version(&library), architectures: architectures(&library) };
    // It stays loaded: whoever takes the card compiles with it.
    std::mem::forget(library);
    Ok(compiler)
}

/// `nvrtcVersion`; zeros where it is not told.
fn version(library: &Library) -> (u32, u32) {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the signature is that of `nvrtc.h`, and both pointers are to live variables.
    unsafe {
        if let Ok(function) = library.get::<GetVersion>(b"nvrtcVersion") {
            function(&mut major, &mut minor);
        }
    }
    (u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0))
}

/// `nvrtcGetSupportedArchs`, which NVRTC has from 11.2 on; nothing where it is not told.
fn architectures(library: &Library) -> Vec<u32> {
    // SAFETY: the signatures are those of `nvrtc.h`; the list is as long as the library says.
    unsafe {
        let count = library.get::<GetCount>(b"nvrtcGetNumSupportedArchs");
        let list = library.get::<GetArchitectures>(b"nvrtcGetSupportedArchs");
        let (Ok(count), Ok(list)) = (count, list) else { return Vec::new() };
        let mut number = 0;
        if count(&mut number) != 0 {
            return Vec::new();
        }
        let mut found = vec![0; usize::try_from(number).unwrap_or(0)];
        if list(found.as_mut_ptr()) != 0 {
            return Vec::new();
        }
        found.into_iter().filter_map(|architecture| u32::try_from(architecture).ok()).collect()
    }
}

/// The folders that `cubecl-cuda` takes for the toolkit: what `CUDA_PATH` names, else the first of these that is there.
fn toolkit_folders() -> Vec<PathBuf> {
    match std::env::var_os("CUDA_PATH") {
        Some(path) => vec![path.into()],
        None if cfg!(windows) => vec!["C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA/".into()],
        None => {
            let all = ["/usr/local/cuda", "/opt/cuda", "/usr"].map(PathBuf::from);
            let first = all.iter().find(|folder| has_toolkit(folder)).cloned();
            first.map_or(all.to_vec(), |first| vec![first])
        }
    }
}

/// Whether `cubecl-cuda` stops looking at this folder.
fn has_toolkit(folder: &Path) -> bool {
    if folder == Path::new("/usr") { folder.join("bin/nvcc").exists() } else { folder.exists() }
}

fn find_headers(folders: &[PathBuf]) -> Result<(), CompilerUnavailable> {
    match folders.iter().any(|folder| folder.join(HEADER).exists()) {
        true => Ok(()),
        false => Err(CompilerUnavailable::NoHeaders { looked_in: folders.to_vec() }),
    }
}

fn places(folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
    folders.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(version: (u32, u32)) -> CudaCompiler {
        CudaCompiler { version, architectures: vec![75, 80, 86, 90] }
    }

    #[test]
    fn code_of_a_newer_compiler_is_for_newer_drivers() {
        assert_eq!(check(&compiler((12, 9)), (8, 6), (13, 0)), Ok(()));
        assert_eq!(check(&compiler((12, 9)), (8, 6), (12, 9)), Ok(()));
        let error = check(&compiler((12, 9)), (8, 6), (12, 4)).unwrap_err();
        assert_eq!(error.to_string(), "NVRTC 12.9 makes code that a driver for CUDA 12.4 does not take");
        assert!(error.hint().contains("NVRTC 12.4 or older"));
    }

    #[test]
    fn a_card_that_the_compiler_has_left_behind_is_sent_to_an_older_one() {
        let error = check(&compiler((13, 0)), (6, 1), (13, 0)).unwrap_err();
        assert_eq!(error.to_string(), "NVRTC 13.0 compiles nothing for compute capability 6.1");
        assert!(error.hint().contains("nvidia-cuda-nvrtc-cu12"), "{}", error.hint());
        let newer = check(&compiler((12, 0)), (12, 0), (13, 0)).unwrap_err();
        assert!(newer.hint().contains("newer NVRTC"));
    }

    #[test]
    fn a_compiler_that_does_not_list_its_architectures_is_taken_at_its_word() {
        let silent = CudaCompiler { version: (11, 0), architectures: Vec::new() };
        assert_eq!(check(&silent, (8, 6), (12, 0)), Ok(()));
    }

    #[test]
    fn missing_pieces_are_named_with_a_way_out() {
        let error = load_first(&["libnvrtc-that-nobody-has.so".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("`libnvrtc-that-nobody-has.so`"), "{error}");
        assert!(error.hint().contains("pip install nvidia-cuda-nvrtc"));
        let error = find_headers(&["/nowhere".into(), "/nor/here".into()]).unwrap_err();
        let expected = "CUDA's headers are missing: there is no `include/cuda_fp16.h` in `/nowhere` or `/nor/here`";
        assert_eq!(error.to_string(), expected);
    }
}
