//! One process at a time in a run folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::iter;
use std::path::Path;

use crate::CheckpointError;

/// The file that is locked. It stays when the lock goes: were it removed, one process could hold it and another a new one of the same name.
pub(crate) const LOCK: &str = ".lock";

/// The right to write into a run folder, which the system takes back when it is dropped, and when its process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    /// What is locked, for as long as it is open.
    _file: File,
    reason: Option<io::Error>,
}

impl RunLock {
    /// Locks a folder, or says at once that another process has it.
    pub(crate) fn take(folder: &Path) -> Result<Self, CheckpointError> {
        let file = open(folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file, reason: None }),
            Err(TryLockError::WouldBlock) => Err(CheckpointError::Busy { path: folder.to_owned() }),
            Err(TryLockError::Error(reason)) => Ok(Self { _file: file, reason: Some(reason) }),
        }
    }

    /// Locks a folder as soon as no other process has it.
    pub(crate) fn wait(folder: &Path) -> Result<Self, CheckpointError> {
        let file = open(folder)?;
        let reason = file.lock().err();
        Ok(Self { _file: file, reason })
    }

    /// Locks a folder and those of runs in it.
    pub(crate) fn take_all(folder: &Path) -> Result<Vec<Self>, CheckpointError> {
        let inner = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let inner = inner.filter(|path| path.join(LOCK).is_file());
        iter::once(folder.to_owned()).chain(inner).map(|folder| Self::take(&folder)).collect()
    }

    /// Why the file system gave no lock, so that nothing keeps other processes out; none where it gave one.
    pub fn refusal(&self) -> Option<&io::Error> {
        self.reason.as_ref()
    }
}

/// For writing, without which some network file systems give no lock.
fn open(folder: &Path) -> Result<File, CheckpointError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    file.map_err(|source| CheckpointError::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_once_and_free_again_when_the_lock_goes() {
        let folder = tempfile::tempdir().unwrap();
        let held = RunLock::take(folder.path()).unwrap();
        assert!(held.refusal().is_none(), "the system's temporary folder has locks");
        let error = RunLock::take(folder.path()).unwrap_err();
        assert!(matches!(&error, CheckpointError::Busy { path } if path == folder.path()), "{error}");
        drop(held);
        RunLock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_of_folds_is_not_free_while_one_of_them_is_trained() {
        let group = tempfile::tempdir().unwrap();
        let folds = ["fold_0", "fold_1"].map(|name| group.path().join(name));
        folds.iter().for_each(|fold| fs::create_dir(fold).unwrap());
        let _first = RunLock::take(&folds[0]).unwrap();
        assert!(matches!(RunLock::take_all(group.path()), Err(CheckpointError::Busy { path }) if path == folds[0]));
        // The others are nobody's, and so is what all share.
        RunLock::take(&folds[1]).unwrap();
        RunLock::wait(group.path()).unwrap();
    }
}
