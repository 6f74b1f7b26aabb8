//! Shows a training run as it goes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use memory_planner::format_bytes;
use memory_probe::Meter;
use metrics::{EpochRecord, RunCosts};
use trainer::{NonFiniteStep, Observer, RecoveryEvent, StepReport, UncutWork};

use crate::run::recovery::{tell_growth, tell_limit_passed, tell_out_of_memory};
use crate::ui::{self, Progress, short_time};

/// Corrupt images are named up to this many; the rest is in the run folder's list.
const CORRUPT_SHOWN: usize = 5;

/// A card is asked for its memory at most this often: each time is a message to the thread that feeds it.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

/// One bar an epoch, one line when it ends.
pub(crate) struct RunObserver {
    train_samples: usize,
    epochs: u32,
    progress: Option<Progress>,
    /// Skipped before this process.
    known_corrupt: usize,
    corrupt: usize,
    /// Classes of which it was told that no score counts them.
    not_validated: BTreeSet<String>,
    memory: MemoryLine,
    pace: Pace,
    /// The most that was told to be above the limit.
    told_bytes: u64,
}

/// How fast the run goes, validation included.
struct Pace {
    started: Instant,
    steps: usize,
}

impl Pace {
    /// Seconds until the last epoch ends, once an epoch has; before that validation is not known, and the bar tells of this epoch.
    fn seconds_left(&mut self, report: &StepReport, epochs: u32) -> Option<f64> {
        self.steps += 1;
        let whole_epochs = epochs.saturating_sub(report.epoch) as usize;
        let steps_left = whole_epochs * report.batches + report.batches.saturating_sub(report.batches_done);
        let seconds = self.started.elapsed().as_secs_f64() / self.steps as f64 * steps_left as f64;
        (self.steps > report.batches && whole_epochs > 0).then_some(seconds)
    }
}

impl RunObserver {
    /// An observer of a run over so many training images, whose memory `meter` measures and the plan predicted.
    pub(crate) fn new(train_samples: usize, meter: Box<dyn Meter>, predicted_peak_bytes: u64) -> Self {
        let memory = MemoryLine { meter, predicted_peak_bytes, highest_bytes: 0, said: String::new(), asked: None };
        let pace = Pace { started: Instant::now(), steps: 0 };
        Self {
            train_samples,
            epochs: 0,
            progress: None,
            known_corrupt: 0,
            corrupt: 0,
            not_validated: BTreeSet::new(),
            memory,
            pace,
            told_bytes: 0,
        }
    }

    /// Corrupt images that were skipped so far, by the processes before this one too.
    pub(crate) fn corrupt(&self) -> usize {
        self.known_corrupt + self.corrupt
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

/// Names an image that cannot be read, if it is among the first: it is that many of them with this one.
pub(crate) fn tell_skipped(count: usize, path: &Path, reason: &str) {
    if count <= CORRUPT_SHOWN {
        ui::warn(format_args!("skipped `{}`: {reason}", path.display()));
    }
}

impl Observer for RunObserver {
    fn epoch_started(&mut self, epoch: u32, epochs: u32, _batches: usize) {
        self.epochs = epochs;
        let task = format!("epoch {epoch} of {epochs}");
        self.progress = Some(Progress::start(task, "images", self.train_samples as u64));
    }

    fn step_done(&mut self, report: &StepReport) {
        let left = self.pace.seconds_left(report, self.epochs);
        let left = left.map_or(String::new(), |seconds| format!(", {} to the last epoch", short_time(seconds)));
        if let Some(progress) = &mut self.progress {
            progress.say(said_of_step(report, self.memory.said(), &left));
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
        self.memory.highest_bytes = self.memory.highest_bytes.max(record.run.peak_memory_bytes.unwrap_or(0));
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
        progress.finish(format_args!("loss {:.3}{scores}; {}{peak}", record.train.loss, pace_in_words(run)));
        if let Some(loss) = record.validation.as_ref().map(|scores| scores.loss).filter(|loss| !loss.is_finite()) {
            let epoch = record.epoch;
            ui::warn(format_args!("epoch {epoch}: the validation loss is {loss}: these weights predict nothing"));
        }
    }

    fn corrupt_images_known(&mut self, count: usize) {
        self.known_corrupt = count;
    }

    fn corrupt_image(&mut self, path: &Path, reason: &str) {
        self.corrupt += 1;
        tell_skipped(self.corrupt, path, reason);
    }

    /// Told once.
    fn class_not_validated(&mut self, class: &str, images: usize) {
        if self.not_validated.insert(class.to_owned()) {
            ui::warn(format_args!("`{class}`: none of {images} images read in validation; no score counts it"));
        }
    }

    fn step_left_out(&mut self, left: &NonFiniteStep) {
        let NonFiniteStep { step, what, value, in_a_row } = left;
        ui::warn(format_args!("step {step} left out: the {what} is {value} ({in_a_row} in a row)"));
    }

    fn out_of_memory(&mut self, event: &RecoveryEvent) {
        tell_out_of_memory(event);
    }

    /// Told once, and again where it is more.
    fn limit_passed(&mut self, step: u64, work: &UncutWork) {
        if work.held_bytes > self.told_bytes + self.told_bytes / 20 {
            self.told_bytes = work.held_bytes;
            tell_limit_passed(&format!("before step {step}"), work);
        }
    }

    fn micro_batch_grown(&mut self, event: &RecoveryEvent) {
        tell_growth(event);
    }
}

/// How fast an epoch was, where this process trained in it and did not only validate.
fn pace_in_words(run: &RunCosts) -> String {
    match run.images_per_second.is_finite() {
        true => {
            format!("{:.0} images/s, {:.0} % waiting for data", run.images_per_second, 100.0 * run.data_wait_share)
        }
        false => "trained before it was resumed".to_owned(),
    }
}

/// What is told of a step beside the count and the rate: two lines for a terminal of 80 columns.
fn said_of_step(report: &StepReport, memory: &str, left: &str) -> String {
    let (loss, rate, waiting) = (report.mean_loss, report.learning_rate, 100.0 * report.data_wait_share);
    format!("loss {loss:.3}, lr {rate:.1e}, {waiting:.0} % waiting{left}\n{memory}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A meter that reads what it is told to.
    struct Fixed([u64; 2]);

    impl Meter for Fixed {
        fn current_bytes(&self) -> u64 {
            self.0[0]
        }

        fn peak_bytes(&self) -> u64 {
            self.0[1]
        }

        fn reset(&self) {}

        fn reset_without_cost(&self) {}
    }

    #[test]
    fn the_live_line_has_loss_rate_wait_and_memory_now_highest_and_predicted() {
        let meter = Box::new(Fixed([81 << 20, 98 << 20]));
        let mut memory = MemoryLine {
            meter,
            predicted_peak_bytes: 104 << 20,
            highest_bytes: 99 << 20,
            said: String::new(),
            asked: None,
        };
        let report = StepReport { mean_loss: 0.4126, learning_rate: 3e-4, data_wait_share: 0.074, ..step(2, 1) };
        let said = said_of_step(&report, memory.said(), ", 2 min 05 s to the last epoch");
        let expected = [
            "loss 0.413, lr 3.0e-4, 7 % waiting, 2 min 05 s to the last epoch",
            "memory 81.0 MiB, peak 99.0 MiB of 104.0 MiB predicted",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
        assert!(expected.iter().all(|line| line.len() < 78));
        // The highest is the highest yet, whatever the meter says of its last lap; and the device is not asked at every step.
        memory.meter = Box::new(Fixed([7, 8]));
        assert_eq!(memory.said(), "memory 81.0 MiB, peak 99.0 MiB of 104.0 MiB predicted");
    }

    fn step(epoch: u32, batches_done: usize) -> StepReport {
        StepReport {
            epoch,
            batches_done,
            batches: 4,
            samples_done: 0,
            step: 0,
            mean_loss: 0.0,
            learning_rate: 0.0,
            gradient_norm: 0.0,
            images_per_second: 0.0,
            data_wait_share: 0.0,
        }
    }

    #[test]
    fn the_time_to_the_last_epoch_is_told_once_an_epoch_is_known_whole() {
        let report = step;
        let mut pace = Pace { started: Instant::now() - Duration::from_secs(50), steps: 0 };
        assert!((1..=4).all(|done| pace.seconds_left(&report(1, done), 3).is_none()));
        // Five steps in 50 seconds; of this epoch three are left, and four of the last.
        let left = pace.seconds_left(&report(2, 1), 3).expect("an epoch is over");
        assert!((70.0..75.0).contains(&left), "{left}");
        assert_eq!(pace.seconds_left(&report(3, 1), 3), None, "the bar says it");
    }
}
