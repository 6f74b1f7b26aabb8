//! A machine with cards that are not there, and `stoker` run on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use image::{Rgb, RgbImage};
use tempfile::TempDir;

pub(crate) const GIB: u64 = 1 << 30;

/// 24 images in three batches of eight. On a card that computes nothing no kernel is faster than another, and no micro-batch as fast as a larger one.
const CONFIG: &str = "
name: tiny
device: cuda:0
kernels: ours
memory: { prefer_throughput: never }
output: runs
data: { train: data/train, validation: data/validation, workers: 1 }
model: { name: convnext_atto, image_size: 32 }
train: { epochs: 2, effective_batch_size: 8 }
";

/// A folder of its own with data, a configuration, a stand-in for the driver, and a place for compiled kernels that no real card shares.
pub(crate) struct Machine {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Machine {
    /// A machine with one card of `bytes`, of compute capability 8.6.
    pub(crate) fn with_card(bytes: u64) -> Self {
        let machine =
            Self { folder: TempDir::new().expect("the temporary folder is writable"), environment: Vec::new() };
        machine.write("tiny.yaml", CONFIG.as_bytes());
        machine.write("toolkit/include/cuda_fp16.h", b"");
        for (set, count) in [("train", 12), ("validation", 4)] {
            machine.draw_set(set, count);
        }
        machine.set("STAND_IN_CARD_MEMORY", &bytes.to_string())
    }

    /// The machine with cards that compute, on the processor: see `stand_in/host.rs`. Needs a C++ compiler.
    pub(crate) fn that_computes(self) -> Self {
        let headers = stand_in().join("computing");
        self.set("STAND_IN_COMPUTES", &computing().to_string_lossy())
            .set("STAND_IN_HEADERS", &headers.to_string_lossy())
    }

    /// The machine with a library by which cards exchange numbers; see `stand_in/nccl.rs`.
    pub(crate) fn with_nccl(self) -> Self {
        let folders = [libraries(), nccl()].map(|folder| folder.to_string_lossy().into_owned());
        let tally = self.path("all_reduces").to_string_lossy().into_owned();
        self.set("LD_LIBRARY_PATH", &folders.join(":")).set("STAND_IN_NCCL_TALLY", &tally)
    }

    /// The machine with a setting of its driver; see `stand_in/driver.rs`.
    pub(crate) fn set(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Runs `stoker` with arguments that are separated by single spaces.
    pub(crate) fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stoker"));
        command.args(arguments.split(' ')).current_dir(self.folder.path()).env("NO_COLOR", "1");
        command.env("LD_LIBRARY_PATH", libraries()).env("CUDA_PATH", self.path("toolkit"));
        command.env("XDG_CACHE_HOME", self.path("cache")).env("STAND_IN_CARD_STATISTICS", self.path("statistics"));
        command.env("STAND_IN_COMPILER_TALLY", self.path("compiled"));
        // On a card that computes nothing every kernel is as fast as any other.
        command.env("CUBECL_AUTOTUNE_LEVEL", "minimal");
        for name in ["CARGO_MANIFEST_DIR", "STAND_IN_COMPILER", "STAND_IN_COMPUTES", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.output().expect("the binary was built for this test")
    }

    /// Runs what must end well; what it printed, and what it said meanwhile.
    pub(crate) fn succeed(&self, arguments: &str) -> (String, String) {
        let output = self.run(arguments);
        let [stdout, stderr] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(output.status.success(), "`stoker {arguments}`\n{stdout}\n{stderr}");
        (stdout, stderr)
    }

    /// Trains, and gives the losses of its epochs, in training and in validation in turn.
    pub(crate) fn losses(&self, arguments: &str) -> Vec<f64> {
        self.succeed(arguments);
        let metrics = fs::read_to_string(self.path("runs/latest/metrics.jsonl")).expect("the run wrote it");
        let epoch = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON");
        let of_epoch = |epoch: serde_json::Value| ["train", "validation"].map(|part| epoch[part]["loss"].as_f64());
        metrics.lines().map(epoch).flat_map(of_epoch).collect::<Option<_>>().expect("an epoch has its losses")
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// What the driver counted over all processes so far.
    pub(crate) fn statistics(&self) -> Statistics {
        let bytes = fs::read(self.path("statistics")).expect("the driver wrote it");
        let number =
            |place: usize| u64::from_ne_bytes(bytes[8 * place..8 * place + 8].try_into().expect("eight bytes"));
        let [launches, kernels, refusals] = [1, 2, 3].map(number);
        Statistics { launches, kernels, refusals, held_bytes: number(4), launches_elsewhere: number(5) }
    }

    /// A file of one JSON value.
    pub(crate) fn read_json(&self, path: &str) -> serde_json::Value {
        let text = fs::read_to_string(self.path(path)).expect("the run wrote it");
        serde_json::from_str(&text).expect("it is JSON")
    }

    /// How many kernels were compiled by all processes so far.
    pub(crate) fn compiled(&self) -> u64 {
        fs::metadata(self.path("compiled")).map_or(0, |file| file.len())
    }

    /// All-reduces so far, each counted once a card.
    pub(crate) fn all_reduces(&self) -> usize {
        fs::metadata(self.path("all_reduces")).map_or(0, |file| file.len() as usize)
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it is below the folder")).expect("writable");
        fs::write(path, content).expect("writable");
    }

    fn draw_set(&self, set: &str, count: u8) {
        for (class, shade) in [("dark", 40), ("light", 200)] {
            let folder = self.path(&format!("data/{set}/{class}"));
            fs::create_dir_all(&folder).expect("writable");
            for index in 0..count {
                let image = RgbImage::from_pixel(32, 32, Rgb([shade, shade + index, shade]));
                image.save(folder.join(format!("{index}.png"))).expect("writable");
            }
        }
    }
}

/// What the driver counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statistics {
    pub(crate) launches: u64,
    pub(crate) kernels: u64,
    pub(crate) refusals: u64,
    /// What the last process had allocated at its end, without contexts.
    pub(crate) held_bytes: u64,
    /// Of the launches, those on cards beside the first.
    pub(crate) launches_elsewhere: u64,
}

/// The folder with the stand-ins for driver and compiler, compiled once.
fn libraries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand_in_card");
        fs::create_dir_all(&folder).expect("the target folder is writable");
        for (source, name, library) in [("driver.rs", "cuda", "libcuda.so.1"), ("compiler.rs", "nvrtc", "libnvrtc.so")]
        {
            compile(source, name, &folder.join(library));
        }
        folder
    })
}

/// The folder with the stand-in for NCCL, compiled once. A machine without it exchanges through the host.
fn nccl() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand_in_nccl");
        fs::create_dir_all(&folder).expect("the target folder is writable");
        compile("nccl.rs", "nccl", &folder.join(device::NCCL_LIBRARY));
        folder
    })
}

/// The folder that cards compute with; kernels that were compiled once stay there.
fn computing() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("computing_card");
        fs::create_dir_all(&folder).expect("the target folder is writable");
        let mut command = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
        command.args([
            "-std=c++17",
            "-O2",
            "-U_FORTIFY_SOURCE",
            "-shared",
            "-fPIC",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-o",
        ]);
        command.arg(folder.join("liblanes.so")).arg(stand_in().join("computing/lanes.cpp"));
        let output = command.output().expect("there is a C++ compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    })
}

fn stand_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/stand_in")
}

fn compile(source: &str, name: &str, library: &Path) {
    let source = stand_in().join(source);
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(compiler);
    command.args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-D", "warnings", "--crate-name", name, "-o"]);
    let output = command.arg(library).arg(source).output().expect("the Rust compiler runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
