//! A folder with files, and `stoker` run in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// An empty folder that the binary runs in, so that messages hold relative paths only.
pub(crate) struct Stage {
    folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("the system's temporary folder is writable") }
    }

    /// A stage with one configuration, `x.yaml`.
    pub(crate) fn with_config(text: impl AsRef<[u8]>) -> Self {
        Self::new().file("x.yaml", text)
    }

    /// Adds a file, and the folders above it.
    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("it is below the stage")).expect("writable");
        fs::write(path, content).expect("writable");
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `stoker` with arguments that are separated by single spaces.
    pub(crate) fn run(&self, arguments: &str) -> String {
        self.run_arguments(&arguments.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>())
    }

    pub(crate) fn run_arguments(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let stdout = String::from_utf8(output.stdout).expect("stdout is UTF-8");
        let stderr = String::from_utf8(output.stderr).expect("stderr is UTF-8");
        let code = output.status.code().expect("it was not killed");
        // One place names the binary `stoker.exe`.
        let text =
            format!("$ stoker {}\n--- exit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}", arguments.join(" "));
        text.replace("stoker.exe", "stoker")
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_stoker"))
            .args(arguments)
            .current_dir(self.path())
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .output()
            .expect("the binary was built for this test")
    }
}
