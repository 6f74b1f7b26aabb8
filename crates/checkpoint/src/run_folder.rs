use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::run_lock::LOCK;
use crate::temporary::{is_half_of, remove_halves};
use crate::{CheckpointError, RunLock};

pub(crate) const RESOLVED_CONFIG: &str = "config.resolved.yaml";

/// What the names of kept epochs' weights begin with.
pub(crate) const KEPT_PREFIX: &str = "best_epoch_";

/// Where the files of one training run are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// [`CheckpointError::RunExists`] when it holds anything and `overwrite` is off; [`CheckpointError::Busy`] when another process trains in what would be
    /// replaced; [`CheckpointError::Write`] when it cannot be made.
    pub fn create(root: &Path, overwrite: bool) -> Result<Self, CheckpointError> {
        let folder = Self::create_group(root, overwrite)?;
        for inner in [folder.checkpoints(), folder.events()] {
            fs::create_dir_all(&inner).map_err(|source| CheckpointError::Write { path: inner, source })?;
        }
        Ok(folder)
    }

    /// Makes a folder for the runs of several folds, which has a configuration of its own but no checkpoints.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_group(root: &Path, overwrite: bool) -> Result<Self, CheckpointError> {
        let write_error = |source| CheckpointError::Write { path: root.to_owned(), source };
        let occupied = Self::is_occupied(root);
        if occupied && !overwrite {
            return Err(CheckpointError::RunExists { path: root.to_owned() });
        }
        if occupied {
            Self::open(root)?; // only a run may be replaced, never a folder of something else
            let _held = RunLock::take_all(root)?;
            fs::remove_dir_all(root).map_err(write_error)?;
        }
        fs::create_dir_all(root).map_err(write_error)?;
        Ok(Self { root: root.to_owned() })
    }

    /// The folder of a run that is still to be made: looks at nothing and makes nothing.
    pub fn to_be_made(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Keeps other processes from training here for as long as the lock lives, and removes what processes before this one have left half written.
    ///
    /// A file system without locks gives one that keeps nobody out, which [`RunLock::refusal`] tells.
    ///
    /// # Errors
    /// [`CheckpointError::Busy`] when another process holds it; [`CheckpointError::Write`].
    pub fn hold(&self) -> Result<RunLock, CheckpointError> {
        let lock = RunLock::take(&self.root)?;
        if lock.refusal().is_none() {
            remove_halves(&self.checkpoints(), |_| true);
            let written = self.written_here();
            remove_halves(&self.root, |half| written.iter().any(|path| is_half_of(half, path)));
        }
        Ok(lock)
    }

    /// Waits until no other process holds this folder, and keeps it for a moment: for what the runs in a folder of folds share.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn hold_shared(&self) -> Result<RunLock, CheckpointError> {
        RunLock::wait(&self.root)
    }

    /// The files beside the checkpoints that training writes. Others write here too: predictions and calibrations, whenever their user likes.
    fn written_here(&self) -> [PathBuf; 9] {
        let step = self.nonfinite_step();
        [
            self.resolved_config(),
            self.plan(),
            self.images(),
            self.curves(),
            self.confusion_matrix(),
            self.report_page(),
            self.corrupt_images(),
            step.with_extension("json"),
            step,
        ]
    }

    /// The run of one fold, in the folder of all.
    pub fn of_fold(&self, fold: usize) -> PathBuf {
        self.root.join(format!("fold_{fold}"))
    }

    /// What each fold has come to.
    pub fn fold_results(&self) -> PathBuf {
        self.root.join("fold_results.yaml")
    }

    /// Predictions of images by models that were not trained on them.
    pub fn out_of_fold(&self) -> PathBuf {
        self.root.join("out_of_fold.csv")
    }

    /// Whether a new run would find the place taken. A run that was stopped while it made its folder left nothing to lose.
    pub fn is_occupied(root: &Path) -> bool {
        fs::read_dir(root).is_ok_and(|entries| entries.flatten().any(|entry| !is_unfinished_folder(&entry.path())))
    }

    /// Opens the folder of an earlier run, following links such as `latest`.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`], or [`CheckpointError::NotARun`] when it has no resolved config.
    pub fn open(root: &Path) -> Result<Self, CheckpointError> {
        let root = fs::canonicalize(root).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CheckpointError::Missing { path: root.to_owned() },
            _ => CheckpointError::Read { path: root.to_owned(), source },
        })?;
        // A short path reads better in messages and commands.
        let root = match std::env::current_dir().ok().and_then(|here| root.strip_prefix(here).ok().map(Path::to_owned))
        {
            Some(relative) if !relative.as_os_str().is_empty() => relative,
            _ => root,
        };
        let folder = Self { root };
        if !folder.resolved_config().is_file() {
            return Err(CheckpointError::NotARun { path: folder.root, missing: RESOLVED_CONFIG });
        }
        Ok(folder)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What ran, as a configuration.
    pub fn resolved_config(&self) -> PathBuf {
        self.root.join(RESOLVED_CONFIG)
    }

    /// The memory plan.
    pub fn plan(&self) -> PathBuf {
        self.root.join("plan.json")
    }

    /// The images that it trains and validates on, a line each.
    pub fn images(&self) -> PathBuf {
        self.root.join("images.jsonl")
    }

    /// One line an epoch.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// TensorBoard's event files.
    pub fn events(&self) -> PathBuf {
        self.root.join("events")
    }

    /// Learning curves.
    pub fn curves(&self) -> PathBuf {
        self.root.join("curves.svg")
    }

    /// Confusion matrix of the best epoch on the validation set.
    pub fn confusion_matrix(&self) -> PathBuf {
        self.root.join("confusion_matrix.svg")
    }

    /// The temperature that makes probabilities as high as they are right.
    pub fn calibration(&self) -> PathBuf {
        self.root.join("calibration.json")
    }

    /// The weights of views under which the true classes are most likely.
    pub fn view_weights(&self) -> PathBuf {
        self.root.join("view_weights.json")
    }

    /// Confidence against accuracy, before and after calibration.
    pub fn reliability(&self) -> PathBuf {
        self.root.join("reliability.svg")
    }

    /// What the run has come to, on one page.
    pub fn report_page(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// Images that could not be read, and why.
    pub fn corrupt_images(&self) -> PathBuf {
        self.root.join("corrupt_images.txt")
    }

    /// The folder of all checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// State before the step at which a run ended because its numbers were not finite; a `.json` beside it says what the step was.
    pub fn nonfinite_step(&self) -> PathBuf {
        self.root.join("nonfinite_step.safetensors")
    }

    /// State to go on from: weights, averaged weights, optimizer, position.
    pub fn last(&self) -> PathBuf {
        self.checkpoints().join("last.safetensors")
    }

    /// Weights of the epoch with the best validation score, ready for prediction.
    pub fn best(&self) -> PathBuf {
        self.checkpoints().join("best.safetensors")
    }

    /// Weights of one of the best epochs (from 1), where more than `best` are kept.
    pub fn kept(&self, epoch: u32) -> PathBuf {
        self.checkpoints().join(format!("{KEPT_PREFIX}{epoch}.safetensors"))
    }

    /// The mean of the best epochs' weights, ready for prediction.
    pub fn averaged(&self) -> PathBuf {
        self.checkpoints().join("averaged.safetensors")
    }

    /// Removes the weights of kept epochs other than these, whole or half written. What cannot be removed costs space and nothing else, and
    /// is tried again with the next.
    pub fn remove_kept_but(&self, epochs: &[u32]) {
        let wanted: Vec<PathBuf> = epochs.iter().map(|epoch| self.kept(*epoch)).collect();
        for entry in fs::read_dir(self.checkpoints()).into_iter().flatten().flatten() {
            let is_kept = entry.file_name().to_string_lossy().starts_with(KEPT_PREFIX);
            if is_kept && !wanted.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Makes `latest`, beside this folder's parent, point here. Where links cannot be made, `latest` is left as it is.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn mark_latest(&self, link: &Path) -> Result<(), CheckpointError> {
        let write_error = |source| CheckpointError::Write { path: link.to_owned(), source };
        let target = fs::canonicalize(&self.root).map_err(write_error)?;
        let base = link.parent().and_then(|parent| fs::canonicalize(parent).ok());
        // Relative, so that the whole tree can be moved.
        let target = base.and_then(|base| target.strip_prefix(base).ok().map(Path::to_owned)).unwrap_or(target);
        replace_link(&target, link).map_err(write_error)
    }
}

/// Whether `entry` is what there is before there is a configuration: an empty folder, the lock, or the configuration half written.
fn is_unfinished_folder(entry: &Path) -> bool {
    let is_empty_folder = fs::read_dir(entry).is_ok_and(|mut entries| entries.next().is_none());
    let is_lock = entry.file_name().is_some_and(|name| name == LOCK);
    is_empty_folder || is_lock || is_half_of(entry, &entry.with_file_name(RESOLVED_CONFIG))
}

#[cfg(unix)]
fn replace_link(target: &Path, link: &Path) -> io::Result<()> {
    let temporary = link.with_extension("linking");
    let _ = fs::remove_file(&temporary);
    std::os::unix::fs::symlink(target, &temporary)?;
    fs::rename(&temporary, link)
}

#[cfg(not(unix))]
fn replace_link(_target: &Path, _link: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporary::temporary_path;

    #[test]
    fn a_new_run_never_takes_an_occupied_folder() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("run");
        let folder = RunFolder::create(&root, false).unwrap();
        // Without a resolved config it is nobody's run, so that even `overwrite` leaves it alone.
        fs::write(folder.metrics(), "").unwrap();
        assert!(matches!(RunFolder::create(&root, false), Err(CheckpointError::RunExists { .. })));
        assert!(matches!(RunFolder::create(&root, true), Err(CheckpointError::NotARun { .. })));
        fs::write(folder.resolved_config(), "").unwrap();
        RunFolder::create(&root, true).unwrap();
        assert!(!folder.resolved_config().exists());
    }

    #[test]
    fn a_run_stopped_while_its_folder_was_made_does_not_block_the_next() {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(parent.path(), false).unwrap();
        fs::write(temporary_path(&folder.resolved_config()), "half").unwrap();
        drop(folder.hold().unwrap());
        assert!(!RunFolder::is_occupied(parent.path()));
        RunFolder::create(parent.path(), false).unwrap();
    }

    #[test]
    fn a_run_that_is_trained_is_not_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("run");
        let folder = RunFolder::create(&root, false).unwrap();
        fs::write(folder.resolved_config(), "").unwrap();
        let held = folder.hold().unwrap();
        assert!(matches!(RunFolder::create(&root, true), Err(CheckpointError::Busy { .. })));
        assert!(folder.resolved_config().exists());
        drop(held);
        RunFolder::create(&root, true).unwrap();
        assert!(!folder.resolved_config().exists());
    }

    #[test]
    fn who_holds_a_run_finds_no_halves_of_its_files_and_those_of_others_untouched() {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(parent.path(), false).unwrap();
        let half = |path: &Path| PathBuf::from(format!("{}.1.writing", path.display()));
        let gone = [half(&folder.last()), folder.best().with_extension("safetensors.writing"), half(&folder.curves())];
        let stay = [folder.last(), half(&folder.calibration()), temporary_path(&folder.last())];
        gone.iter().chain(&stay).for_each(|path| fs::write(path, "half").unwrap());
        let _held = folder.hold().unwrap();
        assert!(gone.iter().all(|path| !path.exists()) && stay.iter().all(|path| path.exists()));
    }

    #[test]
    fn kept_epochs_that_are_not_wanted_go_and_nothing_else_does() {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(parent.path(), false).unwrap();
        let half_written = temporary_path(&folder.kept(4));
        for path in [folder.kept(1), folder.kept(12), folder.kept(2), half_written, folder.best(), folder.last()] {
            fs::write(path, "weights").unwrap();
        }
        folder.remove_kept_but(&[2, 7]);
        let left = fs::read_dir(folder.checkpoints()).unwrap().map(|entry| entry.unwrap().path());
        let mut left: Vec<PathBuf> = left.collect();
        left.sort();
        assert_eq!(left, [folder.best(), folder.kept(2), folder.last()]);
    }

    #[cfg(unix)]
    #[test]
    fn latest_follows_the_newest_run() {
        let parent = tempfile::tempdir().unwrap();
        let link = parent.path().join("latest");
        for name in ["2026-01-01/a", "2026-01-02/b"] {
            let folder = RunFolder::create(&parent.path().join(name), false).unwrap();
            fs::write(folder.resolved_config(), name).unwrap();
            folder.mark_latest(&link).unwrap();
            assert_eq!(fs::read_to_string(RunFolder::open(&link).unwrap().resolved_config()).unwrap(), name);
        }
    }
}
