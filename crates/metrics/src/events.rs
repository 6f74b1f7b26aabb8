//! TensorBoard event files: `tensorboard --logdir RUN` draws them.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::append_file::AppendFile;
use crate::protobuf::{Event, event_record};
use crate::{EpochRecord, MetricsFileError};

/// Writes scalars to one TensorBoard event file. What a call wrote outlives a kill once it has returned.
#[derive(Debug)]
pub struct EventWriter {
    file: AppendFile,
}

impl EventWriter {
    /// Starts a new event file in `folder`, which must be there.
    ///
    /// # Errors
    /// [`MetricsFileError::Write`].
    pub fn create(folder: &Path) -> Result<Self, MetricsFileError> {
        let mut writer = Self { file: new_event_file(folder, unix_seconds() as u64)? };
        writer.write(0, &Event::FileVersion)?;
        Ok(writer)
    }

    /// Starts a new event file in `folder` for a run that goes on after `last_step`: TensorBoard drops what earlier
    /// files say of later steps, which this run does again.
    ///
    /// # Errors
    /// [`MetricsFileError::Write`].
    pub fn resume(folder: &Path, last_step: u64) -> Result<Self, MetricsFileError> {
        let mut writer = Self::create(folder)?;
        writer.write(last_step + 1, &Event::Start)?;
        Ok(writer)
    }

    /// Adds named numbers at an optimizer step. Names group by what stands before a `/`. TensorBoard keeps them as f32.
    ///
    /// # Errors
    /// [`MetricsFileError::Write`], as on a full disk; nothing of this call is in the file then.
    pub fn add_scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<(), MetricsFileError> {
        self.write(step, &Event::Scalars(scalars))
    }

    /// Adds everything that an epoch's record says, at its step.
    ///
    /// # Errors
    /// As [`add_scalars`](Self::add_scalars).
    pub fn add_epoch(&mut self, record: &EpochRecord) -> Result<(), MetricsFileError> {
        let top_k_tag = record.validation.as_ref().map(|scores| format!("top_{}_accuracy/validation", scores.top_k.k));
        let mut scalars = vec![
            ("epoch", f64::from(record.epoch)),
            ("learning_rate", record.learning_rate),
            ("loss/train", record.train.loss),
            ("accuracy/train", record.train.accuracy),
            ("run/data_wait_share", record.run.data_wait_share),
        ];
        // An epoch of which only validation was left has no rate.
        let rate = Some(record.run.images_per_second).filter(|rate| rate.is_finite());
        scalars.extend(rate.map(|rate| ("run/images_per_second", rate)));
        scalars.extend(record.train.gradient_norm.map(|norm| ("gradient_norm/train", norm)));
        let left_out = Some(record.train.nonfinite_steps).filter(|&steps| steps > 0);
        scalars.extend(left_out.map(|steps| ("nonfinite_steps/train", steps as f64)));
        let peaks = [
            ("run/peak_memory_gib", record.run.peak_memory_bytes),
            ("peak_memory_gib/train", record.run.train_peak_memory_bytes),
            (
                "peak_memory_gib/validation",
                record.run.validation_peak_memory_bytes.filter(|_| record.validation.is_some()),
            ),
        ];
        for (tag, bytes) in peaks {
            scalars.extend(bytes.map(|bytes| (tag, bytes as f64 / f64::from(1 << 30))));
        }
        if let (Some(scores), Some(top_k_tag)) = (&record.validation, &top_k_tag) {
            scalars.push(("loss/validation", scores.loss));
            scalars.push(("accuracy/validation", scores.accuracy));
            scalars.push(("macro_f1/validation", scores.macro_f1));
            scalars.push((top_k_tag, scores.top_k.accuracy));
        }
        self.add_scalars(record.step, &scalars)
    }

    /// The event file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    fn write(&mut self, step: u64, event: &Event<'_>) -> Result<(), MetricsFileError> {
        self.file.append(&event_record(unix_seconds(), step, event))
    }
}

/// TensorBoard reads files whose name holds `tfevents`, in the order of their names: two that start in one second need
/// a number too.
fn new_event_file(folder: &Path, seconds: u64) -> Result<AppendFile, MetricsFileError> {
    let mut number = 0;
    loop {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.stoker.{number}"));
        match AppendFile::create_new(&path) {
            Err(MetricsFileError::Write { source, .. }) if source.kind() == ErrorKind::AlreadyExists => number += 1,
            other => return other,
        }
    }
}

fn unix_seconds() -> f64 {
    // A clock set before 1970 only spoils TensorBoard's time axis.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn files_of_one_second_get_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let first = new_event_file(folder.path(), 1_700_000_000).unwrap();
        let second = new_event_file(folder.path(), 1_700_000_000).unwrap();
        assert!(first.path() < second.path());
        assert!(second.path().ends_with("events.out.tfevents.1700000000.stoker.1"));
    }

    /// Whether a tag stands in an event file.
    fn has(path: &Path, tag: &[u8]) -> bool {
        std::fs::read(path).unwrap().windows(tag.len()).any(|part| part == tag)
    }

    #[test]
    fn an_epoch_without_validation_writes_no_validation_tags() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path()).unwrap();
        writer.add_epoch(&EpochRecord { validation: None, ..record(1) }).unwrap();
        assert!(has(writer.path(), b"loss/train") && !has(writer.path(), b"/validation"));
        writer.add_epoch(&record(2)).unwrap();
        assert!(has(writer.path(), b"top_3_accuracy/validation"));
    }

    #[test]
    fn steps_that_were_left_out_have_a_tag_where_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path()).unwrap();
        writer.add_epoch(&record(1)).unwrap();
        assert!(!has(writer.path(), b"nonfinite_steps/train"));
        let mut left_out = record(2);
        left_out.train.nonfinite_steps = 3;
        writer.add_epoch(&left_out).unwrap();
        assert!(has(writer.path(), b"nonfinite_steps/train"));
    }

    #[test]
    fn the_gradient_norm_has_a_tag_where_it_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path()).unwrap();
        writer.add_epoch(&record(1)).unwrap();
        assert!(!has(writer.path(), b"gradient_norm/train"));
        let mut known = record(2);
        known.train.gradient_norm = Some(0.25);
        writer.add_epoch(&known).unwrap();
        assert!(has(writer.path(), b"gradient_norm/train"));
    }

    #[test]
    fn an_epoch_without_a_rate_writes_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path()).unwrap();
        let mut validated_only = record(1);
        validated_only.run.images_per_second = f64::NAN;
        writer.add_epoch(&validated_only).unwrap();
        let written = std::fs::read(writer.path()).unwrap();
        let tag = b"run/images_per_second";
        assert!(!written.windows(tag.len()).any(|part| part == tag));
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(EventWriter::create(&folder.path().join("none")), Err(MetricsFileError::Write { .. })));
    }
}
