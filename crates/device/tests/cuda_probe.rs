//! The driver probe against a stand-in for the driver: every machine can run these, with a card or without.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use device::{CudaUnavailable, probe_cuda_library};

/// Compiles the stand-in, so that it fails in the way that `cfg` names.
fn fake_driver(cfg: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_driver/fake_cuda.rs");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "{}fake_cuda_{cfg}{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    ));
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(compiler)
        .args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "fake_cuda", "-A", "warnings"])
        .args(["--cfg", cfg, "-o"])
        .arg(&library)
        .arg(source)
        .status();
    assert!(status.unwrap().success(), "the stand-in for the driver does not compile");
    library
}

fn retained_contexts(library: &Path) -> i32 {
    // SAFETY: the library is the stand-in, whose function has this signature.
    unsafe {
        let library = libloading::Library::new(library).unwrap();
        library.get::<extern "system" fn() -> i32>(b"fake_retained_contexts").unwrap()()
    }
}

#[test]
fn cards_are_listed_with_what_the_driver_says_of_them() {
    let library = fake_driver("well");
    let driver = probe_cuda_library(&library).unwrap();
    assert_eq!(driver.version, (12, 4));
    let [first, second] = driver.devices.as_slice() else { panic!("{driver:?}") };
    assert_eq!((first.index, first.name.as_str()), (0, "Fake RTX 3060"));
    assert_eq!((first.total_bytes, first.compute_capability), (12 << 30, (8, 6)));
    assert_eq!(second.name.len(), 255, "a name that fills the buffer is cut, not overrun");
    assert_eq!(retained_contexts(&library), 0);
    let memory = second.read_memory().unwrap();
    assert_eq!((memory.total_bytes, memory.free_bytes), (24 << 30, 22 << 30));
    assert_eq!(retained_contexts(&library), 0, "the context must be let go of");
}

#[test]
fn a_driver_without_cards_is_no_failure_of_the_driver() {
    for cfg in ["no_device", "no_card"] {
        assert_eq!(probe_cuda_library(&fake_driver(cfg)), Err(CudaUnavailable::NoCard), "{cfg}");
    }
}

#[test]
fn a_driver_that_fails_is_quoted() {
    let error = probe_cuda_library(&fake_driver("mismatch")).unwrap_err();
    assert_eq!(error.to_string(), "CUDA driver call `cuInit` failed: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)");
}

#[test]
fn a_library_that_is_no_whole_driver_is_told_by_what_it_lacks() {
    let error = probe_cuda_library(&fake_driver("incomplete")).unwrap_err();
    assert!(
        matches!(error, CudaUnavailable::MissingFunction { ref function, .. } if function == "cuDeviceTotalMem_v2")
    );
    assert!(error.hint().is_some());
}

#[test]
fn a_card_that_cannot_tell_its_memory_is_an_error_and_holds_no_context() {
    let full = fake_driver("full");
    let error = probe_cuda_library(&full).unwrap().devices[0].read_memory().unwrap_err();
    assert!(error.to_string().ends_with("`cuDevicePrimaryCtxRetain` failed: CUDA_ERROR_OUT_OF_MEMORY (2)"), "{error}");
    let lost = fake_driver("lost");
    let error = probe_cuda_library(&lost).unwrap().devices[0].read_memory().unwrap_err();
    assert!(error.to_string().ends_with("`cuMemGetInfo_v2` failed: unknown error (201)"), "{error}");
    assert_eq!(retained_contexts(&full) + retained_contexts(&lost), 0);
}

#[test]
fn a_file_that_is_no_library_is_no_driver() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    assert!(matches!(probe_cuda_library(&source), Err(CudaUnavailable::NoDriver { .. })));
}
