//! What is written of an epoch: one line of `metrics.jsonl`.

use serde::{Deserialize, Deserializer, Serialize};

/// One epoch, one line of `metrics.jsonl`.
///
/// All fields but [`run`](Self::run) depend on the config, the data and the seed alone: two runs on one machine differ in
/// `run` only. A number that is not finite is written as `null` and read back as NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: u32,
    /// Optimizer steps since the start of the run.
    pub step: u64,
    /// Of the epoch's last step.
    #[serde(deserialize_with = "nan_from_null")]
    pub learning_rate: f64,
    /// Over the epoch's training samples, as augmented, while the weights moved.
    pub train: TrainScores,
    /// After the epoch; none when this epoch was not validated.
    pub validation: Option<ValidationScores>,
    /// What depends on the clock and the machine.
    pub run: RunCosts,
}

/// Training scores of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainScores {
    /// Mean loss a sample: cross-entropy, nats.
    #[serde(deserialize_with = "nan_from_null")]
    pub loss: f64,
    /// Share predicted right, 0 to 1.
    #[serde(deserialize_with = "nan_from_null")]
    pub accuracy: f64,
    /// Samples trained on.
    pub samples: u64,
    /// Corrupt samples left out.
    pub skipped: u64,
    /// Steps left out because their loss or gradients were not finite; the line has no such field where there were none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nonfinite_steps: u64,
    /// Global gradient norm before clipping, mean over the steps that moved the weights; none where no step did, and in lines of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
}

/// Validation scores after one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationScores {
    /// Mean loss a sample: cross-entropy, nats.
    #[serde(deserialize_with = "nan_from_null")]
    pub loss: f64,
    /// Share predicted right, 0 to 1.
    #[serde(deserialize_with = "nan_from_null")]
    pub accuracy: f64,
    /// [`ConfusionMatrix::macro_f1`](crate::ConfusionMatrix::macro_f1), 0 to 1.
    #[serde(deserialize_with = "nan_from_null")]
    pub macro_f1: f64,
    /// Share with the label among the k highest scores.
    pub top_k: TopKAccuracy,
    /// Samples scored.
    pub samples: u64,
    /// Corrupt samples left out.
    pub skipped: u64,
    /// Whether the averaged (EMA) weights were scored.
    pub ema: bool,
}

/// Share of samples whose label is among the `k` highest scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TopKAccuracy {
    /// How many of the highest scores count.
    pub k: u32,
    /// 0 to 1.
    #[serde(deserialize_with = "nan_from_null")]
    pub accuracy: f64,
}

/// What an epoch cost; differs from run to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunCosts {
    /// Wall time of the epoch, validation included, as far as the process that ended it did it.
    #[serde(deserialize_with = "nan_from_null")]
    pub seconds: f64,
    /// Training throughput of that process; not a number where it had only validation left to do.
    #[serde(deserialize_with = "nan_from_null")]
    pub images_per_second: f64,
    /// Share of the training time spent waiting for data, 0 to 1.
    #[serde(deserialize_with = "nan_from_null")]
    pub data_wait_share: f64,
    /// Highest memory use so far, by the process that ended the epoch; none where it is not measured.
    pub peak_memory_bytes: Option<u64>,
    /// Highest memory use in the epoch's training, as far as that process did it, and in the saving before it; none where it is not measured, and in
    /// lines of older versions.
    #[serde(default)]
    pub train_peak_memory_bytes: Option<u64>,
    /// Highest memory use in the epoch's validation; none as in training.
    #[serde(default)]
    pub validation_peak_memory_bytes: Option<u64>,
    /// Whether a process before did part of the epoch: its seconds are not in here, for checkpoints hold nothing of the clock. The line has no such field
    /// where none did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken_up: bool,
}

impl EpochRecord {
    /// The line for `metrics.jsonl`, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("string keys and plain numbers always serialise")
    }

    /// The line without `run`: equal, byte for byte, for two runs of one config and seed on one machine.
    #[must_use]
    pub fn to_deterministic_json(&self) -> String {
        let mut json = self.to_json();
        let start = json.rfind(",\"run\":").expect("`run` is the last field");
        json.truncate(start);
        json.push('}');
        json
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// JSON has no NaN: serde_json writes `null` for it.
fn nan_from_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(epoch: u32) -> EpochRecord {
        EpochRecord {
            epoch,
            step: u64::from(epoch) * 25,
            learning_rate: 1e-3 / f64::from(epoch),
            train: TrainScores {
                loss: 2.0 / f64::from(epoch),
                accuracy: 0.1 + 0.2,
                samples: 800,
                skipped: 0,
                nonfinite_steps: 0,
                gradient_norm: None,
            },
            validation: Some(ValidationScores {
                loss: 1.5,
                accuracy: 0.5,
                macro_f1: 0.48,
                top_k: TopKAccuracy { k: 3, accuracy: 0.9 },
                samples: 200,
                skipped: 1,
                ema: false,
            }),
            run: RunCosts {
                seconds: 2.5,
                images_per_second: 320.0,
                data_wait_share: 0.02,
                peak_memory_bytes: Some(512 << 20),
                train_peak_memory_bytes: Some(500 << 20),
                validation_peak_memory_bytes: Some(300 << 20),
                taken_up: false,
            },
        }
    }

    #[test]
    fn a_record_reads_back_bit_for_bit() {
        let written = record(3);
        assert_eq!(serde_json::from_str::<EpochRecord>(&written.to_json()).unwrap(), written);
    }

    #[test]
    fn steps_that_were_skipped_are_in_the_line() {
        let mut written = record(1);
        written.train.nonfinite_steps = 2;
        assert!(written.to_deterministic_json().contains("\"skipped\":0,\"nonfinite_steps\":2}"));
        assert_eq!(serde_json::from_str::<EpochRecord>(&written.to_json()).unwrap(), written);
    }

    #[test]
    fn a_gradient_norm_is_in_the_line_before_what_differs_from_run_to_run() {
        let mut written = record(1);
        written.train.gradient_norm = Some(0.25);
        assert!(written.to_deterministic_json().contains("\"skipped\":0,\"gradient_norm\":0.25}"));
        assert_eq!(serde_json::from_str::<EpochRecord>(&written.to_json()).unwrap(), written);
    }

    #[test]
    fn numbers_that_are_not_finite_survive_as_nan() {
        let mut written = record(1);
        written.train.loss = f64::INFINITY;
        let read: EpochRecord = serde_json::from_str(&written.to_json()).unwrap();
        assert!(read.train.loss.is_nan());
    }

    #[test]
    fn the_clock_and_the_machine_appear_in_run_alone_and_run_is_last() {
        let mut slower = record(1);
        slower.run = RunCosts {
            seconds: 9.0,
            images_per_second: 1.0,
            data_wait_share: 0.9,
            peak_memory_bytes: None,
            train_peak_memory_bytes: None,
            validation_peak_memory_bytes: None,
            taken_up: true,
        };
        assert_ne!(slower.to_json(), record(1).to_json());
        assert_eq!(slower.to_deterministic_json(), record(1).to_deterministic_json());
        serde_json::from_str::<serde_json::Value>(&slower.to_deterministic_json()).unwrap();
    }

    #[test]
    fn a_line_of_an_older_version_is_read_without_the_peaks_of_stretches() {
        let written = record(1);
        let stretches = ",\"train_peak_memory_bytes\":524288000,\"validation_peak_memory_bytes\":314572800";
        let older = written.to_json().replace(stretches, "");
        assert!(!older.contains("train_peak"), "{older}");
        let run = RunCosts { train_peak_memory_bytes: None, validation_peak_memory_bytes: None, ..written.run.clone() };
        assert_eq!(serde_json::from_str::<EpochRecord>(&older).unwrap(), EpochRecord { run, ..written });
    }

    #[test]
    fn an_epoch_that_was_taken_up_says_so_and_may_have_no_rate() {
        let mut written = record(1);
        (written.run.taken_up, written.run.images_per_second) = (true, f64::NAN);
        let json = written.to_json();
        assert!(json.contains("\"images_per_second\":null") && json.ends_with(",\"taken_up\":true}}"), "{json}");
        let read: EpochRecord = serde_json::from_str(&json).unwrap();
        assert!(read.run.taken_up && read.run.images_per_second.is_nan());
    }

    #[test]
    fn fields_come_in_a_fixed_order() {
        assert_eq!(
            record(1).to_json(),
            "{\"epoch\":1,\"step\":25,\"learning_rate\":0.001,\
             \"train\":{\"loss\":2.0,\"accuracy\":0.30000000000000004,\"samples\":800,\"skipped\":0},\
             \"validation\":{\"loss\":1.5,\"accuracy\":0.5,\"macro_f1\":0.48,\"top_k\":{\"k\":3,\"accuracy\":0.9},\
             \"samples\":200,\"skipped\":1,\"ema\":false},\
             \"run\":{\"seconds\":2.5,\"images_per_second\":320.0,\"data_wait_share\":0.02,\
             \"peak_memory_bytes\":536870912,\"train_peak_memory_bytes\":524288000,\
             \"validation_peak_memory_bytes\":314572800}}"
        );
    }
}
