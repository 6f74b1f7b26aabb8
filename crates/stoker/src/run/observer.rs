//! Shows a training run as it goes.

use std::path::Path;
use std::time::{Duration, Instant};

use memory_planner::format_bytes;
use memory_probe::Meter;
use metrics::EpochRecord;
use trainer::{NonFiniteStep, Observer, RecoveryEvent, StepReport};

use crate::run::recovery::{tell_growth, tell_out_of_memory};
use crate::ui::{self, Progress};

/// Corrupt images are named up to this many; the rest is in the run folder's list.
const CORRUPT_SHOWN: usize = 5;

/// A card is asked for its memory at most this often: each time is a message to the thread that feeds it.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

/// One bar an epoch, one line when it ends.
pub(crate) struct RunObserver {
    train_samples: usize,
    epochs: u32,
    progress: Option<Progress>,
    corrupt: usize,
    memory: MemoryLine,
}

impl RunObserver {
    /// An observer of a run over so many training images, whose memory `meter` measures and the plan predicted.
    pub(crate) fn new(train_samples: usize, meter: Box<dyn Meter>, predicted_peak_bytes: u64) -> Self {
        let memory = MemoryLine { meter, predicted_peak_bytes, highest_bytes: 0, said: String::new(), asked: None };
        Self { train_samples, epochs: 0, progress: None, corrupt: 0, memory }
    }

    /// Corrupt images that were skipped so far.
    pub(crate) fn corrupt(&self) -> usize {
        self.corrupt
    }
}

/// Memory in a few words.
struct MemoryLine {
    meter: Box<dyn Meter>,
    predicted_peak_bytes: u64,
    /// The most so far, whatever resets the meter.
    highest_bytes: u64,
    said: String,
    asked: Option<Instant>,
}

impl MemoryLine {
    /// `memory 81.0 MiB, peak 98.2 MiB of 103.6 MiB predicted`, a second old at most.
    fn said(&mut self) -> &str {
        if self.asked.is_none_or(|asked| asked.elapsed() >= MEMORY_INTERVAL) {
            self.asked = Some(Instant::now());
            self.highest_bytes = self.highest_bytes.max(self.meter.peak_bytes());
            let bytes = [self.meter.current_bytes(), self.highest_bytes, self.predicted_peak_bytes];
            let [now, peak, predicted] = bytes.map(format_bytes);
            self.said = format!("memory {now}, peak {peak} of {predicted} predicted");
        }
        &self.said
    }
}

impl Observer for RunObserver {
    fn epoch_started(&mut self, epoch: u32, epochs: u32, _batches: usize) {
        self.epochs = epochs;
        let task = format!("epoch {epoch} of {epochs}");
        self.progress = Some(Progress::start(task, "images", self.train_samples as u64));
    }

    fn step_done(&mut self, report: &StepReport) {
        if let Some(progress) = &mut self.progress {
            progress.say(format_args!(
                "loss {:.3}, lr {:.1e}, {:.0} % waiting, {}",
                report.mean_loss,
                report.learning_rate,
                100.0 * report.data_wait_share,
                self.memory.said()
            ));
            progress.set(report.samples_done);
        }
    }

    fn validating(&mut self, done: usize, total: usize) {
        if let Some(progress) = &mut self.progress {
            progress.say(format_args!("validating {done} of {total}"));
            progress.set(self.train_samples as u64);
        }
    }

    fn epoch_done(&mut self, record: &EpochRecord, improved: bool) {
        let Some(progress) = self.progress.take() else { return };
        let scores = record.validation.as_ref().map_or(String::new(), |scores| {
            format!(
                ", validation loss {:.3}, accuracy {:.1} %, macro-F1 {:.3}{}",
                scores.loss,
                100.0 * scores.accuracy,
                scores.macro_f1,
                if improved { " (best)" } else { "" }
            )
        });
        let run = &record.run;
        let peak = run.peak_memory_bytes.map_or(String::new(), |peak| format!(", peak {}", format_bytes(peak)));
        progress.finish(format_args!(
            "loss {:.3}{scores}; {:.0} images/s, {:.0} % waiting for data{peak}",
            record.train.loss,
            run.images_per_second,
            100.0 * run.data_wait_share
        ));
    }

    fn corrupt_image(&mut self, path: &Path, reason: &str) {
        self.corrupt += 1;
        if self.corrupt <= CORRUPT_SHOWN {
            ui::warn(format_args!("skipped `{}`: {reason}", path.display()));
        }
    }

    fn step_left_out(&mut self, left: &NonFiniteStep) {
        let NonFiniteStep { step, what, value, in_a_row } = left;
        ui::warn(format_args!("step {step} left out: the {what} is {value} ({in_a_row} in a row)"));
    }

    fn out_of_memory(&mut self, event: &RecoveryEvent) {
        tell_out_of_memory(event);
    }

    fn micro_batch_grown(&mut self, event: &RecoveryEvent) {
        tell_growth(event);
    }
}
