//! `stoker` while it trains: watched, signalled, waited for.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use checkpoint::{Progress, read_card};

use crate::stage::{Ended, Stage};

/// Looked at this often: files of a checkpoint are there for milliseconds.
const POLL: Duration = Duration::from_micros(200);

/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process in a stage. Its output goes to files there.
pub(crate) struct Running<'a> {
    stage: &'a Stage,
    child: Child,
    loops_before: usize,
}

impl<'a> Running<'a> {
    pub(crate) fn start(stage: &'a Stage, command: &mut Command) -> Self {
        let loops_before = stage.loops_begun();
        // Tests that are run in the background are started to ignore Ctrl-C, and hand that on.
        let mind_ctrl_c = || {
            // SAFETY: the default action runs no code of this process.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: a system call alone is made between fork and exec.
        unsafe { command.pre_exec(mind_ctrl_c) };
        let child = command.spawn().expect("the binary was built for this test");
        Self { stage, child, loops_before }
    }

    /// Waits until the loop is in the epoch after `epochs` that are recorded and saved, and `delay` longer.
    pub(crate) fn wait_for_epoch_after(&mut self, epochs: usize, delay: Duration) {
        let before = self.loops_before;
        self.wait_until(|stage| stage.loops_begun() > before && stage.epochs_saved() >= epochs);
        sleep(delay);
    }

    /// Waits until what is saved in `last` stands where it should.
    pub(crate) fn wait_for_progress(&mut self, mut stands: impl FnMut(&Progress) -> bool) {
        self.wait_until(|stage| stage.progress().is_some_and(|progress| stands(&progress)));
    }

    /// Waits until an epoch is recorded, which happens before it is saved.
    pub(crate) fn wait_for_record_of(&mut self, epoch: usize) {
        self.wait_until(|stage| stage.epochs_recorded() >= epoch);
    }

    /// Waits until a file of the run folder is there.
    pub(crate) fn wait_for_file(&mut self, path: &str) {
        self.wait_until(|stage| stage.run_path(path).exists());
    }

    /// Waits until a folder of the stage has anything in it.
    pub(crate) fn wait_for_entry_of(&mut self, folder: &str) {
        self.wait_until(|stage| fs::read_dir(stage.path(folder)).is_ok_and(|mut entries| entries.next().is_some()));
    }

    /// Waits until it writes a file of the run folder, which stands beside its place until it is whole.
    pub(crate) fn wait_for_writing(&mut self, path: &str) {
        self.wait_for_file(&format!("{path}.{}.writing", self.child.id()));
    }

    /// Waits until a file of the stage has so many bytes.
    pub(crate) fn wait_for_bytes(&mut self, path: &str, bytes: u64) {
        self.wait_until(|stage| fs::metadata(stage.path(path)).is_ok_and(|file| file.len() >= bytes));
    }

    /// Waits until it has said so on stderr.
    pub(crate) fn wait_for_words(&mut self, words: &str) {
        self.wait_until(|stage| stage.log().contains(words));
    }

    /// Waits for a condition, or for the end of the process.
    fn wait_until(&mut self, mut holds: impl FnMut(&Stage) -> bool) {
        let start = Instant::now();
        while !holds(self.stage) && self.child.try_wait().expect("it is our child").is_none() {
            assert!(start.elapsed() < PATIENCE, "nothing happened for {PATIENCE:?}:\n{}", self.stage.log());
            sleep(POLL);
        }
    }

    /// Ends it at once: it cannot save a thing.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().expect("it is our child");
        self.end()
    }

    /// Sends a signal by name, and waits for the end.
    pub(crate) fn signal(self, name: &str) -> Ended {
        self.send(name);
        self.end()
    }

    /// Sends a signal by name: it holds still after `STOP`, with all that it has open, and goes on after `CONT`.
    pub(crate) fn send(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("`kill` is there");
        assert!(sent.success(), "it had ended already:\n{}", self.stage.log());
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        let status = self.child.wait().expect("it is our child");
        let stdout = fs::read_to_string(self.stage.path("stdout.txt")).expect("output is UTF-8");
        Ended { code: status.code(), stdout, stderr: self.stage.log() }
    }
}

impl Stage {
    /// Where training stood when `last` was saved; none before it is.
    pub(crate) fn progress(&self) -> Option<Progress> {
        read_card(&self.run_path("checkpoints/last.safetensors")).map(|card| card.progress)
    }

    /// Event files: the loop makes one as it begins.
    fn loops_begun(&self) -> usize {
        fs::read_dir(self.run_path("events")).map_or(0, Iterator::count)
    }

    /// The whole lines of `metrics.jsonl`.
    fn epochs_recorded(&self) -> usize {
        let text = fs::read(self.run_path("metrics.jsonl")).unwrap_or_default();
        text.iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Epochs that are recorded, once `last` is newer than the record.
    fn epochs_saved(&self) -> usize {
        let written = |path| fs::metadata(self.run_path(path)).and_then(|file| file.modified()).ok();
        match written("checkpoints/last.safetensors") >= written("metrics.jsonl") {
            true => self.epochs_recorded(),
            false => 0,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("stderr.txt")).unwrap_or_default()
    }
}
