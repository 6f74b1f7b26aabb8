use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use checkpoint::{CheckpointError, RunFolder};
use device::heap;
use serde::{Deserialize, Serialize};

use crate::OutOfMemory;
use crate::micro_batch::MicroBatch;

/// What was being done when memory ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// An optimizer step.
    Training,
    /// Scoring labelled images, in training or after it.
    Evaluation,
    /// Scoring images for their predictions.
    Prediction,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Training => "training",
            Self::Evaluation => "evaluation",
            Self::Prediction => "prediction",
        })
    }
}

/// Fewer samples at once from now on, because memory ran out; or more, because it allows it again. No result changes by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryEvent {
    /// What was being done.
    pub phase: Phase,
    /// Optimizer step, from 0, in training and in its validation.
    pub step: Option<u64>,
    /// Most samples at once until now.
    pub micro_batch_before: usize,
    /// Most samples at once from now on.
    pub micro_batch_after: usize,
    /// Why, on one line.
    pub reason: String,
    /// The limit that was passed, bytes, where there is one.
    pub limit_bytes: Option<u64>,
}

impl RecoveryEvent {
    /// The event that follows `reason` at `before` samples at once; none when that is one, and nothing smaller is left.
    pub(crate) fn halved(phase: Phase, step: Option<u64>, before: usize, reason: &OutOfMemory) -> Option<Self> {
        (before > 1).then(|| Self {
            phase,
            step,
            micro_batch_before: before,
            micro_batch_after: before / 2,
            reason: reason.to_string(),
            limit_bytes: reason.limit_bytes(),
        })
    }

    /// Whether the micro-batch became larger.
    pub fn is_growth(&self) -> bool {
        self.micro_batch_after > self.micro_batch_before
    }
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// What the run was planned with.
    planned_micro_batch: usize,
    #[serde(flatten)]
    event: RecoveryEvent,
}

/// `memory_events.jsonl` in a run folder: one line an event, in order. Without an event there is no file.
///
/// A line that a kill has cut short is passed over: the limit is then learnt again.
#[derive(Debug, Clone)]
pub struct MemoryLog {
    path: PathBuf,
}

impl MemoryLog {
    /// The log of a run.
    pub fn of(folder: &RunFolder) -> Self {
        Self { path: folder.root().join("memory_events.jsonl") }
    }

    /// Adds an event of a run that was planned with micro-batches of `planned`.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn append(&self, planned: usize, event: &RecoveryEvent) -> Result<(), CheckpointError> {
        let line = Line { planned_micro_batch: planned, event: event.clone() };
        let line = serde_json::to_string(&line).expect("a line has string keys and plain values");
        let write = || {
            let is_cut_short = fs::read(&self.path).is_ok_and(|bytes| bytes.last().is_some_and(|&byte| byte != b'\n'));
            let start = if is_cut_short { "\n" } else { "" };
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.write_all(format!("{start}{line}\n").as_bytes())
        };
        write().map_err(|source| CheckpointError::Write { path: self.path.clone(), source })
    }

    /// The micro-batch that a run planned with `planned` goes on with.
    ///
    /// What was learnt under another plan does not count, and neither does what was learnt under a limit that has been raised since.
    pub(crate) fn micro_batch(&self, planned: usize) -> Result<MicroBatch, CheckpointError> {
        let mut batch = MicroBatch::new(planned);
        let lines = self.read()?;
        let counts = |line: &&Line| {
            let of_training = line.event.phase == Phase::Training && line.planned_micro_batch == planned;
            of_training && !is_raised(line.event.limit_bytes, heap::limit_bytes())
        };
        lines.iter().filter(counts).for_each(|line| batch.follow(&line.event));
        Ok(batch)
    }

    fn read(&self) -> Result<Vec<Line>, CheckpointError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(CheckpointError::Read { path: self.path.clone(), source }),
        }
    }
}

/// Whether a limit that was passed is now higher, or gone.
fn is_raised(then: Option<u64>, now: Option<u64>) -> bool {
    then.is_some_and(|then| now.is_none_or(|now| now > then))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(micro_batch_before: usize, micro_batch_after: usize, limit_bytes: Option<u64>) -> RecoveryEvent {
        let (phase, step, reason) = (Phase::Training, Some(3), "the heap held 9 B of at most 8 B".to_owned());
        RecoveryEvent { phase, step, micro_batch_before, micro_batch_after, reason, limit_bytes }
    }

    fn log() -> (tempfile::TempDir, MemoryLog) {
        let folder = tempfile::tempdir().unwrap();
        let log = MemoryLog { path: folder.path().join("memory_events.jsonl") };
        (folder, log)
    }

    #[test]
    fn the_last_size_of_the_same_plan_is_remembered() {
        let (_folder, log) = log();
        assert_eq!(log.micro_batch(8).unwrap().size(), 8);
        log.append(8, &event(8, 4, None)).unwrap();
        log.append(8, &event(4, 2, None)).unwrap();
        log.append(8, &RecoveryEvent { phase: Phase::Evaluation, ..event(8, 1, None) }).unwrap();
        assert_eq!(log.micro_batch(8).unwrap().size(), 2);
        assert_eq!(log.micro_batch(16).unwrap().size(), 16, "another plan");
    }

    #[test]
    fn what_was_learnt_under_a_limit_holds_until_it_is_raised() {
        assert!(is_raised(Some(8), Some(9)) && is_raised(Some(8), None));
        assert!(!is_raised(Some(8), Some(8)) && !is_raised(Some(8), Some(7)) && !is_raised(None, None));
        let (_folder, log) = log();
        log.append(8, &event(8, 4, Some(100))).unwrap();
        assert_eq!(log.micro_batch(8).unwrap().size(), 8, "this process has no limit");
    }

    #[test]
    fn a_line_cut_short_is_passed_over_and_does_not_spoil_the_next() {
        let (_folder, log) = log();
        log.append(8, &event(8, 4, None)).unwrap();
        let text = fs::read_to_string(&log.path).unwrap();
        fs::write(&log.path, format!("{text}{}", &text[..text.len() / 2])).unwrap();
        log.append(8, &event(4, 2, None)).unwrap();
        assert_eq!(fs::read_to_string(&log.path).unwrap().lines().count(), 3);
        assert_eq!(log.micro_batch(8).unwrap().size(), 2);
    }
}
