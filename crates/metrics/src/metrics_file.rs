//! `metrics.jsonl`: one epoch a line, written as the run goes, read back whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::append_file::AppendFile;
use crate::{EpochRecord, MetricsFileError};

/// Appends epochs to a `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    file: AppendFile,
}

impl MetricsWriter {
    /// Opens the file for appending, and makes it where it is missing. A last line that a killed run left half written
    /// is dropped.
    ///
    /// # Errors
    /// [`MetricsFileError`] when the file cannot be made, read or cut.
    pub fn open(path: &Path) -> Result<Self, MetricsFileError> {
        let mut file = AppendFile::open(path)?;
        let text = file.read_all()?;
        let whole = whole_lines(&text);
        if whole.len() < text.len() {
            file.cut(whole.len() as u64)?;
        }
        Ok(Self { file })
    }

    /// Adds one line and waits until the disk has it. On an error the file is as it was before.
    ///
    /// # Errors
    /// [`MetricsFileError::Write`], as on a full disk.
    pub fn append(&mut self, record: &EpochRecord) -> Result<(), MetricsFileError> {
        let mut line = record.to_json();
        line.push('\n');
        self.file.append_durably(line.as_bytes())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// All epochs of a `metrics.jsonl`, in order. A last line without its line feed, which a killed run left half written,
/// is left out.
///
/// # Errors
/// [`MetricsFileError::Read`], or [`MetricsFileError::Malformed`] with the line's number.
pub fn read_records(path: &Path) -> Result<Vec<EpochRecord>, MetricsFileError> {
    let text = fs::read(path).map_err(|source| MetricsFileError::read(path, source))?;
    whole_lines(&text)
        .split_inclusive(|&byte| byte == b'\n')
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_slice(line).map_err(|source| MetricsFileError::Malformed {
                path: path.to_owned(),
                line: index + 1,
                source,
            })
        })
        .collect()
}

/// Cuts a `metrics.jsonl` to its first `epochs` lines, which stay byte for byte, so that a run resumed after that epoch
/// can go on writing. The file is replaced at once: a kill leaves the old one or the new one. Do this before
/// [`MetricsWriter::open`].
///
/// # Errors
/// [`MetricsFileError::TooFewEpochs`] when there are fewer; a missing file counts as 0 epochs. Else as [`read_records`].
pub fn keep_first_epochs(path: &Path, epochs: usize) -> Result<(), MetricsFileError> {
    let text = match fs::read(path) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(|source| MetricsFileError::read(path, source))?,
    };
    let lines: Vec<&[u8]> = whole_lines(&text).split_inclusive(|&byte| byte == b'\n').collect();
    if lines.len() < epochs {
        return Err(MetricsFileError::TooFewEpochs { path: path.to_owned(), expected: epochs, found: lines.len() });
    }
    let kept = lines[..epochs].concat();
    if kept.len() == text.len() {
        return Ok(());
    }
    replace(path, &kept).map_err(|source| MetricsFileError::write(path, source))
}

/// The text up to and with its last line feed.
fn whole_lines(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |position| position + 1);
    &text[..end]
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = temporary_path(path);
    let mut file = File::create(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // the first error is the one that matters
    }
    written
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    fn written(epochs: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::open(&path).unwrap();
        (1..=epochs).for_each(|epoch| writer.append(&record(epoch)).unwrap());
        (folder, path)
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let (_folder, path) = written(3);
        assert_eq!(read_records(&path).unwrap(), [record(1), record(2), record(3)]);
    }

    #[test]
    fn a_half_written_last_line_is_dropped_by_reader_and_writer() {
        let (_folder, path) = written(2);
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"epoch\":3,\"st");
        fs::write(&path, &text).unwrap();
        assert_eq!(read_records(&path).unwrap().len(), 2);
        MetricsWriter::open(&path).unwrap().append(&record(3)).unwrap();
        assert_eq!(read_records(&path).unwrap(), [record(1), record(2), record(3)]);
    }

    #[test]
    fn kept_epochs_stay_byte_for_byte_and_the_next_run_goes_on_there() {
        let (_folder, path) = written(4);
        let uninterrupted = fs::read(&path).unwrap();
        keep_first_epochs(&path, 2).unwrap();
        let mut writer = MetricsWriter::open(&path).unwrap();
        writer.append(&record(3)).unwrap();
        writer.append(&record(4)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), uninterrupted);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn keeping_more_epochs_than_there_are_is_an_error_and_changes_nothing() {
        let (_folder, path) = written(2);
        let before = fs::read(&path).unwrap();
        let error = keep_first_epochs(&path, 3).unwrap_err();
        assert!(error.to_string().ends_with("holds 2 epochs, but 3 are needed"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_missing_file_holds_no_epochs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        keep_first_epochs(&path, 0).unwrap();
        assert!(matches!(keep_first_epochs(&path, 1), Err(MetricsFileError::TooFewEpochs { found: 0, .. })));
        assert!(matches!(read_records(&path), Err(MetricsFileError::Read { .. })));
    }

    #[test]
    fn a_malformed_line_is_named_by_its_number() {
        let (_folder, path) = written(1);
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"not json\n");
        fs::write(&path, &text).unwrap();
        let error = read_records(&path).unwrap_err();
        assert!(error.to_string().ends_with("line 2 is not an epoch record"), "{error}");
        assert!(error.hint().unwrap().contains("sed -n 2p"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let error = MetricsWriter::open(&folder.path().join("none/metrics.jsonl")).unwrap_err();
        assert!(error.hint().unwrap().starts_with("is there such a folder?"));
    }
}
