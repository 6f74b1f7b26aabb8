//! A large file that appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::CheckpointError;
use crate::temporary::begin;
use crate::tensor_file::sync_folder;

/// A file that is written bit by bit beside the place it is for, and takes that place at [`AtomicFile::commit`]. Dropped before, it leaves
/// nothing, and what stood at its place is untouched.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    /// None once it is committed.
    writer: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Begins a file that is to stand at `path`.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn create(path: &Path) -> Result<Self, CheckpointError> {
        let temporary = begin(path);
        let file =
            File::create(&temporary).map_err(|source| CheckpointError::Write { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), temporary, writer: Some(BufWriter::new(file)) })
    }

    /// Waits until the disk has the file, and puts it in its place.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; what stood there before is untouched.
    pub fn commit(mut self) -> Result<(), CheckpointError> {
        self.finish().map_err(|source| CheckpointError::Write { path: self.path.clone(), source })
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(mut writer) = self.writer.take() {
            let renamed = writer
                .flush()
                .and_then(|()| writer.get_ref().sync_all())
                .and_then(|()| fs::rename(&self.temporary, &self.path));
            renamed.inspect_err(|_| self.remove())?;
            sync_folder(&self.path)?;
        }
        Ok(())
    }

    /// A leftover would cost the very space that may have been missing; why it is one is the error worth telling.
    fn remove(&self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.as_mut().map_or(Ok(0), |writer| writer.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // What is in the buffer is not wanted any more.
            let _ = writer.into_parts();
            self.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.collect()
    }

    #[test]
    fn a_file_takes_its_place_when_it_is_committed_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        fs::write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), names(folder.path()).len()), (&b"new"[..], 1));
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(names(folder.path()), [] as [String; 0]);
        let error = AtomicFile::create(&folder.path().join("no/rows.csv")).unwrap_err();
        assert!(matches!(error, CheckpointError::Write { .. }));
    }
}
