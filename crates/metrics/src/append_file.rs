//! A file that grows by whole pieces: each is there in full, or not at all.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::MetricsFileError;

#[derive(Debug)]
pub(crate) struct AppendFile {
    path: PathBuf,
    file: File,
    /// Bytes known to be whole.
    length: u64,
}

impl AppendFile {
    /// Opens `path` for appending, and makes it where it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, MetricsFileError> {
        Self::open_with(path, OpenOptions::new().create(true).truncate(false))
    }

    /// Makes `path`; an error of kind `AlreadyExists` where it is there.
    pub(crate) fn create_new(path: &Path) -> Result<Self, MetricsFileError> {
        Self::open_with(path, OpenOptions::new().create_new(true))
    }

    fn open_with(path: &Path, options: &mut OpenOptions) -> Result<Self, MetricsFileError> {
        let mut open = || {
            let file = options.read(true).write(true).open(path)?;
            let length = file.metadata()?.len();
            Ok(Self { path: path.to_owned(), file, length })
        };
        open().map_err(|source| MetricsFileError::write(path, source))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read_all(&mut self) -> Result<Vec<u8>, MetricsFileError> {
        let mut bytes = Vec::new();
        let read = |file: &mut File, length: u64, bytes: &mut Vec<u8>| {
            file.seek(SeekFrom::Start(0))?;
            file.take(length).read_to_end(bytes)
        };
        match read(&mut self.file, self.length, &mut bytes) {
            Ok(_) => Ok(bytes),
            Err(source) => Err(MetricsFileError::read(&self.path, source)),
        }
    }

    /// Adds `bytes`, which outlive a kill from then on. When that fails, as on a full disk, a part that was written is
    /// taken back.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), MetricsFileError> {
        self.append_then(bytes, |_| Ok(()))
    }

    /// As [`append`](Self::append), and waits until the disk has them (milliseconds): they outlive a power cut too.
    pub(crate) fn append_durably(&mut self, bytes: &[u8]) -> Result<(), MetricsFileError> {
        self.append_then(bytes, File::sync_data)
    }

    fn append_then(
        &mut self,
        bytes: &[u8],
        finish: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> Result<(), MetricsFileError> {
        match self.try_append(bytes).and_then(|()| finish(&self.file)) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(source) => {
                // The first error is the one that matters: a torn tail that stays is dropped by the readers.
                let _ = self.file.set_len(self.length);
                Err(MetricsFileError::write(&self.path, source))
            }
        }
    }

    /// Drops everything after the first `length` bytes.
    pub(crate) fn cut(&mut self, length: u64) -> Result<(), MetricsFileError> {
        self.file.set_len(length).map_err(|source| MetricsFileError::write(&self.path, source))?;
        self.length = length;
        Ok(())
    }

    fn try_append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one\n").unwrap();
        let mut file = AppendFile::open(&path).unwrap();
        file.append(b"two\n").unwrap();
        file.append(b"three\n").unwrap();
        assert_eq!(file.read_all().unwrap(), b"one\ntwo\nthree\n");
        file.cut(4).unwrap();
        file.append(b"2\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n2\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_with_a_hint() {
        let error = AppendFile::open(Path::new("/dev/full")).unwrap().append(b"x").unwrap_err();
        assert_eq!(error.to_string(), "cannot write `/dev/full`");
        assert!(error.hint().unwrap().starts_with("the disk is full"));
    }
}
