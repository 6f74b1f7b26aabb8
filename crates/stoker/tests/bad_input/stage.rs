//! A folder with photos and a configuration, and `stoker` run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::pictures;
use crate::scrub::scrub;

/// As small as a run gets: well under a second.
const CONFIG: &str = "\
name: pets
device: cpu
output: runs
data: {train: photos, validation_share: 0.34, workers: 1}
model: {name: convnext_atto, image_size: 32}
train: {epochs: 1, effective_batch_size: 4, warmup_epochs: 0, top_k: 1}
";

/// A folder that the binary runs in, so that messages hold relative paths only.
pub(crate) struct Stage {
    folder: TempDir,
}

impl Stage {
    /// Six photos of cats, six of dogs, and `x.yaml` to train on them.
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("the system's temporary folder is writable") }
            .file("x.yaml", CONFIG)
            .photos("photos/cat", 200)
            .photos("photos/dog", 20)
    }

    /// A stage with a finished run.
    pub(crate) fn trained() -> Self {
        let stage = Self::new();
        let printed = stage.run("train --config x.yaml");
        assert!(printed.contains("exit code 0"), "{printed}");
        stage
    }

    /// As [`Stage::new`], but with other photos to validate on, so that training leaves none out by chance.
    pub(crate) fn with_validation() -> Self {
        Self::new()
            .file("x.yaml", CONFIG.replace("validation_share: 0.34", "validation: held"))
            .photos("held/cat", 210)
            .photos("held/dog", 10)
    }

    /// Adds six photos of one kind.
    pub(crate) fn photos(self, folder: &str, red: u8) -> Self {
        (0..6).fold(self, |stage, number| stage.file(&format!("{folder}/{number}.png"), pictures::photo(red, number)))
    }

    /// Adds a file, and the folders above it.
    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it is below the stage")).expect("writable");
        fs::write(path, content).expect("writable");
        self
    }

    /// Adds an empty folder.
    pub(crate) fn folder(self, path: &str) -> Self {
        fs::create_dir_all(self.path(path)).expect("writable");
        self
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Runs `stoker` with arguments that are separated by single spaces, and tells all that came of it, scrubbed.
    pub(crate) fn run(&self, arguments: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_stoker"))
            .args(arguments.split(' '))
            .current_dir(self.folder.path())
            .env_remove("CARGO_MANIFEST_DIR") // else the next steps are told as `cargo run`
            .env_remove("CLICOLOR_FORCE")
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("the binary was built for this test");
        let stdout = String::from_utf8(output.stdout).expect("stdout is UTF-8");
        let stderr = String::from_utf8(output.stderr).expect("stderr is UTF-8");
        let code = output.status.code().expect("it was not killed");
        let printed = scrub(&format!("--- exit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}"));
        assert!(!printed.contains("panicked") && !printed.contains("made a mistake"), "{printed}");
        format!("$ stoker {}\n{printed}", self.without_date(arguments))
    }

    /// Runs a request that must be refused before anything is written.
    pub(crate) fn refuse(&self, arguments: &str) -> String {
        let before = self.files();
        let printed = self.run(arguments);
        assert!(printed.contains("--- exit code 2"), "{printed}");
        assert!(printed.contains("\nhint: "), "{printed}");
        assert_eq!(self.files(), before, "a refused request leaves no trace");
        printed
    }

    /// Where a run is: `runs/<date>/<name>`. The date may change while a test runs.
    pub(crate) fn run_path(&self, name: &str) -> String {
        let dates = fs::read_dir(self.path("runs")).expect("there are runs").map(|date| date.expect("readable"));
        let mut dates =
            dates.map(|date| date.file_name().into_string().expect("digits")).filter(|date| date != "latest");
        let date = dates.find(|date| self.path(&format!("runs/{date}/{name}")).exists());
        format!("runs/{}/{name}", date.expect("the run is there"))
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("`{path}`: {error}"))
    }

    /// Every file and folder below the stage with its size, links not followed.
    pub(crate) fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        collect(self.folder.path(), &mut found);
        found.sort();
        found
    }

    fn without_date(&self, arguments: &str) -> String {
        let words = arguments.split(' ').map(|word| match word.starts_with("runs/") {
            true => scrub(word),
            false => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable")) {
        let metadata = entry.metadata().expect("readable");
        if metadata.is_dir() {
            collect(&entry.path(), found);
            found.push((entry.path(), 0));
        } else {
            found.push((entry.path(), metadata.len()));
        }
    }
}
