//! Where the kernels of cards are kept between runs.
//!
//! A card's kernels are compiled and tuned when a shape is first met: some hundred of them for a training step. CubeCL keeps what it has tuned, and
//! what it has compiled where it is told to, in one SQLite file. `cubecl.toml` may say another place, as CubeCL documents it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use burn::cubecl::config::cache::CacheConfig;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn::cubecl::environment;

/// Has kernels compiled once, and kept in the user's cache folder whatever folder a command is given in. To be called before any device is used.
pub fn keep_kernels() {
    CubeClRuntimeConfig::try_set(settings());
}

/// CubeCL's settings, which it takes once, for a command that adds its own.
pub(crate) fn settings() -> CubeClRuntimeConfig {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache = true;
    if matches!(config.environment.path, CacheConfig::Target) {
        config.environment.path = CacheConfig::Global;
    }
    config
}

/// A number that is another one as soon as a kernel has been tuned and kept, by this process or another. `None` where nothing is kept.
pub(crate) fn tuned() -> Option<u64> {
    if CubeClRuntimeConfig::get().autotune.disable_cache {
        return None;
    }
    let path = environment::path();
    // What SQLite has not moved into the file yet lies beside it.
    let mut beside = path.clone().into_os_string();
    beside.push("-wal");
    let mark = |path: &Path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.len(), file.modified().ok()?))
    };
    let marks = (mark(&path)?, mark(Path::new(&beside)));
    let mut hasher = DefaultHasher::new();
    marks.hash(&mut hasher);
    Some(hasher.finish())
}

/// The file, and its bytes when it is there.
pub(crate) fn kernel_file() -> (PathBuf, Option<u64>) {
    let path = environment::path();
    let bytes = std::fs::metadata(&path).ok().map(|file| file.len());
    (path, bytes)
}
