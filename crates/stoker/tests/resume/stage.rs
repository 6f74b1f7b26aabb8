//! A folder with images and a configuration, `stoker` run in it, and what a run leaves.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use image::{Rgb, RgbImage};
use metrics::read_records;
use tempfile::TempDir;

use crate::running::Running;

/// Epochs of each run.
pub(crate) const EPOCHS: usize = 3;

/// Goes to the newest run of a stage, whatever the date.
pub(crate) const RUN: &str = "runs/latest";

/// 24 training images in batches of 10, 10 and 4, each in micro-batches of at most 4: no size divides another.
const CONFIG: &str = "
name: tiny
seed: 7
device: cpu
output: runs
data: { train: data/train, validation: data/validation, workers: 2 }
model: { name: convnext_atto, image_size: 32, drop_path: 0.2 }
augment: { quarter_turns: true, rotation_degrees: 10, brightness: 0.2, contrast: 0.2, saturation: 0.2, erase: 0.3 }
train:
  epochs: 3
  effective_batch_size: 10
  micro_batch_size: 4
  label_smoothing: 0.1
  clip_norm: 1.0
  ema_decay: 0.9
";

/// A folder of its own, so that tests may run at the same time and all paths are relative.
pub(crate) struct Stage {
    folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let stage = Self { folder: TempDir::new().expect("the system's temporary folder is writable") };
        stage.write("tiny.yaml", CONFIG.as_bytes());
        for (set, count) in [("train", 8), ("validation", 4), ("test", 2)] {
            draw_set(&stage.path(&format!("data/{set}")), count);
        }
        stage
    }

    /// A stage on which the run is finished already.
    pub(crate) fn finished() -> Self {
        let stage = Self::new();
        let end = undisturbed();
        stage.write("runs/2026-01-01/tiny/config.resolved.yaml", &end.config);
        stage.write("runs/2026-01-01/tiny/metrics.jsonl", &end.metrics_file);
        stage.write("runs/2026-01-01/tiny/checkpoints/last.safetensors", &end.end.last);
        stage.write("runs/2026-01-01/tiny/checkpoints/best.safetensors", &end.end.best);
        fs::create_dir(stage.path("runs/2026-01-01/tiny/events")).expect("writable");
        std::os::unix::fs::symlink("2026-01-01/tiny", stage.path(RUN)).expect("writable");
        stage
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A path below the run folder.
    pub(crate) fn run_path(&self, path: &str) -> PathBuf {
        self.path(RUN).join(path)
    }

    /// The run folder as messages name it.
    pub(crate) fn run_folder(&self) -> String {
        let target = fs::read_link(self.path(RUN)).expect("a run was started");
        format!("runs/{}", target.display())
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it is below the stage")).expect("writable");
        fs::write(path, content).expect("writable");
    }

    /// `stoker` with arguments that are separated by single spaces, ready to be run.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stoker"));
        command.args(arguments.split(' ')).current_dir(self.folder.path()).env("NO_COLOR", "1");
        // Otherwise the commands that it proposes are cargo's.
        command.env_remove("CARGO_MANIFEST_DIR");
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Ended {
        Ended::of(self.command(arguments).output().expect("the binary was built for this test"))
    }

    /// Runs what must end well.
    pub(crate) fn succeed(&self, arguments: &str) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "`stoker {arguments}`\n{}", ended.stderr);
        ended
    }

    /// Runs `stoker` after a line of shell in which `$$` is the number of its process: names of files that are being written have it.
    pub(crate) fn run_after(&self, line: &str, arguments: &str) -> Ended {
        Ended::of(self.command_after(line, arguments).output().expect("`sh` is there"))
    }

    fn command_after(&self, line: &str, arguments: &str) -> Command {
        let stoker = self.command(arguments);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{line}; exec \"$@\""), "sh"]).arg(stoker.get_program()).args(stoker.get_args());
        shell.current_dir(self.path("")).env("NO_COLOR", "1").env_remove("CARGO_MANIFEST_DIR");
        shell
    }

    /// Runs a prediction that cannot write its table, because a folder stands where the table would be written. `line` is as in
    /// [`run_after`](Self::run_after).
    pub(crate) fn run_without_table(&self, table: &str, line: &str, arguments: &str) -> Ended {
        let ended = self.run_after(&format!("{line}; mkdir {table}.$$.writing"), arguments);
        for entry in fs::read_dir(self.path("")).expect("it is there").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "writing") {
                fs::remove_dir(entry.path()).expect("nothing was written into it");
            }
        }
        ended
    }

    /// Starts `stoker` and lets it run.
    pub(crate) fn start(&self, arguments: &str) -> Running<'_> {
        self.start_command(self.command(arguments))
    }

    /// Starts `stoker` after a line of shell, as [`run_after`](Self::run_after) runs it.
    pub(crate) fn start_after(&self, line: &str, arguments: &str) -> Running<'_> {
        self.start_command(self.command_after(line, arguments))
    }

    fn start_command(&self, mut command: Command) -> Running<'_> {
        let log = File::create(self.path("stderr.txt")).expect("writable");
        let out = File::create(self.path("stdout.txt")).expect("writable");
        Running::start(self, command.stderr(log).stdout(out))
    }

    /// What the run folder holds that must not depend on what happened to the run.
    pub(crate) fn end(&self) -> End {
        let records = read_records(&self.run_path("metrics.jsonl")).expect("the run wrote it");
        let read = |path: &str| fs::read(self.run_path(path)).expect("the run wrote it");
        End {
            metrics: records.iter().map(metrics::EpochRecord::to_deterministic_json).collect(),
            epoch_seconds: records.iter().map(|record| record.run.seconds).sum::<f64>() / records.len() as f64,
            last: read("checkpoints/last.safetensors"),
            best: read("checkpoints/best.safetensors"),
            leftovers: leftovers(&self.path("runs")),
        }
    }
}

/// Files that only exist while others are written.
pub(crate) fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("it is there").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(leftovers(&path));
        } else if path
            .extension()
            .is_some_and(|extension| ["writing", "tmp", "linking"].map(Some).contains(&extension.to_str()))
        {
            found.push(path);
        }
    }
    found
}

/// How a command ended and what it said.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// What a run ends with.
pub(crate) struct End {
    last: Vec<u8>,
    best: Vec<u8>,
    metrics: Vec<String>,
    epoch_seconds: f64,
    leftovers: Vec<PathBuf>,
}

impl End {
    /// The first line of the metrics.
    pub(crate) fn first_epoch(&self) -> &str {
        &self.metrics[0]
    }

    /// A share of the time that an epoch took.
    pub(crate) fn part_of_an_epoch(&self, share: f64) -> Duration {
        Duration::from_secs_f64(self.epoch_seconds * share)
    }

    /// Checkpoints are too long to be shown, so that each has a message of its own.
    pub(crate) fn assert_is(&self, other: &Self) {
        assert_eq!(self.metrics, other.metrics);
        assert!(self.last == other.last, "`last` differs");
        assert!(self.best == other.best, "`best` differs");
        assert_eq!(self.leftovers, other.leftovers);
    }
}

/// The run that nothing happens to.
struct Undisturbed {
    end: End,
    config: Vec<u8>,
    metrics_file: Vec<u8>,
}

fn undisturbed() -> &'static Undisturbed {
    static RUN_ONCE: OnceLock<Undisturbed> = OnceLock::new();
    RUN_ONCE.get_or_init(|| {
        let stage = Stage::new();
        stage.succeed("train --config tiny.yaml");
        let end = stage.end();
        assert_eq!((end.metrics.len(), end.leftovers.len()), (EPOCHS, 0));
        let read = |path| fs::read(stage.run_path(path)).expect("the run wrote it");
        Undisturbed { end, config: read("config.resolved.yaml"), metrics_file: read("metrics.jsonl") }
    })
}

/// What the run that nothing happens to ends with.
pub(crate) fn undisturbed_end() -> &'static End {
    &undisturbed().end
}

/// `count` images of each of three textures.
pub(crate) fn draw_set(folder: &Path, count: u32) {
    for (class, name) in (0u32..).zip(["dots", "stripes", "waves"]) {
        fs::create_dir_all(folder.join(name)).expect("writable");
        for number in 0..count {
            let shade = |value: u32| (value % 256) as u8;
            let image = RgbImage::from_fn(40, 36, |x, y| {
                let noise = (x * 73 + y * 151 + number * 37) ^ (x * y * (number + 3));
                Rgb([
                    shade(x * (class + 1) * 17 + number * 29),
                    shade(y * (3 - class) * 23 + number * 11),
                    shade(noise),
                ])
            });
            image.save(folder.join(name).join(format!("{number}.png"))).expect("writable");
        }
    }
}
