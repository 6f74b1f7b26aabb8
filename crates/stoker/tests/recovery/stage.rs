//! A folder with images and a configuration, and `stoker` run in it with things going wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::{Rgb, RgbImage};
use metrics::{EpochRecord, read_records};
use serde_json::Value;
use tempfile::TempDir;

/// The run of every test.
pub(crate) const RUN: &str = "runs/latest";

/// 24 training images in three steps an epoch, each in one micro-batch unless a test says otherwise.
const CONFIG: &str = "
name: tiny
seed: 7
device: cpu
output: runs
data: { train: data/train, validation: data/validation, workers: 1 }
model: { name: convnext_atto, image_size: 64, drop_path: 0.2 }
augment: { horizontal_flip: 0.5, brightness: 0.2 }
train: { epochs: 2, effective_batch_size: 8, micro_batch_size: 8, learning_rate: 3.0e-4, warmup_epochs: 1 }
";

/// Variables of the environment, by name.
pub(crate) type Injected<'a> = &'a [(&'a str, &'a str)];

pub(crate) struct Stage {
    folder: TempDir,
}

/// How a command ended and what it said.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("the system's temporary folder is writable");
        fs::write(folder.path().join("tiny.yaml"), CONFIG).expect("writable");
        for (set, count) in [("train", 12), ("validation", 3), ("test", 3)] {
            draw_set(&folder.path().join("data").join(set), count);
        }
        Self { folder }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn run(&self, arguments: &str, injected: Injected) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_stoker"))
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .env_remove("CARGO_MANIFEST_DIR") // else the next steps are told as `cargo run`
            .envs(injected.iter().copied())
            .output()
            .expect("the binary was built for this test");
        let stderr = String::from_utf8(output.stderr).expect("stderr is UTF-8");
        Ended { code: output.status.code(), stderr }
    }

    /// What a command that must end well prints on stdout.
    pub(crate) fn output(&self, arguments: &str) -> Vec<u8> {
        let output = Command::new(env!("CARGO_BIN_EXE_stoker"))
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .expect("the binary was built for this test");
        assert!(output.status.success(), "`stoker {arguments}`\n{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Runs what must end well, and returns what it said on stderr.
    pub(crate) fn succeed(&self, arguments: &str, injected: Injected) -> String {
        let ended = self.run(arguments, injected);
        assert_eq!(ended.code, Some(0), "`stoker {arguments}`\n{}", ended.stderr);
        ended.stderr
    }

    pub(crate) fn records(&self) -> Vec<EpochRecord> {
        read_records(&self.path(RUN).join("metrics.jsonl")).expect("the run wrote it")
    }

    /// Training and validation loss of each epoch.
    pub(crate) fn losses(&self) -> Vec<[f64; 2]> {
        let validation = |record: &EpochRecord| record.validation.as_ref().expect("it was validated").loss;
        self.records().iter().map(|record| [record.train.loss, validation(record)]).collect()
    }

    /// The lines of `memory_events.jsonl`.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path(RUN).join("memory_events.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Step, size before and size after of each event.
    pub(crate) fn sizes(&self) -> Vec<[u64; 3]> {
        let number = |event: &Value, key: &str| event[key].as_u64().expect("a number");
        let keys = ["step", "micro_batch_before", "micro_batch_after"];
        self.events().iter().map(|event| keys.map(|key| number(event, key))).collect()
    }

    /// A path of the run folder without its date.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let target = fs::read_link(self.path(RUN)).expect("a run was started");
        text.replace(&format!("runs/{}", target.display()), "RUN")
    }
}

/// The lines of `stderr` in which the binary tells of memory.
pub(crate) fn told(stderr: &str) -> Vec<&str> {
    stderr
        .lines()
        .filter(|line| line.starts_with("warning: out of memory in ") || line.starts_with("micro-batch "))
        .collect()
}

/// The text with `SIZE` in the place of amounts of memory, which are not the same everywhere.
pub(crate) fn without_sizes(text: &str) -> String {
    let is_size = |word: &str| word.parse::<f64>().is_ok_and(|_| word.contains('.'));
    let scrubbed = |word: &str| match word.trim_start_matches(|letter: char| letter.is_ascii_digit()) {
        "MiB`" => "SIZEMiB`".to_owned(),
        _ if is_size(word) => "SIZE".to_owned(),
        _ => word.to_owned(),
    };
    let lines = text.lines().map(|line| line.split(' ').map(scrubbed).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Losses of the same samples that were summed in another order: f32 rounds at 6e-8, some hundred times over.
#[track_caller]
pub(crate) fn assert_same_losses(found: &[[f64; 2]], expected: &[[f64; 2]]) {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().flatten().zip(expected.iter().flatten()).map(|(found, expected)| found - expected);
    assert!(differences.clone().all(|difference| difference.abs() < 1e-5), "{found:?}\n{expected:?}");
}

/// `count` images of each of two textures.
pub(crate) fn draw_set(folder: &Path, count: u32) {
    for (class, name) in (0u32..).zip(["dots", "stripes"]) {
        fs::create_dir_all(folder.join(name)).expect("writable");
        for number in 0..count {
            let shade = |value: u32| (value % 256) as u8;
            let image = RgbImage::from_fn(70, 66, |x, y| {
                let noise = (x * 73 + y * 151 + number * 37) ^ (x * y * (number + 3));
                Rgb([shade(x * (class + 1) * 17 + number * 29), shade(y * (3 - class) * 23), shade(noise)])
            });
            image.save(folder.join(name).join(format!("{number}.png"))).expect("writable");
        }
    }
}
