//! What can go wrong, with the values that did.

use std::io;
use std::path::{Path, PathBuf};

/// A prediction that cannot be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// A label or a prediction that is not a class index.
    #[error("{role} {index} is not a class: there are {num_classes} classes, 0 to {}", num_classes.saturating_sub(1))]
    UnknownClass {
        /// `label` or `prediction`.
        role: &'static str,
        /// The index that was given.
        index: usize,
        /// How many classes the matrix has.
        num_classes: usize,
    },
    /// Two matrices over different classes.
    #[error("a matrix over {found} classes cannot be added to one over {expected} with other names")]
    OtherClasses {
        /// Classes of the matrix that was to be added to.
        expected: usize,
        /// Classes of the other one.
        found: usize,
    },
    /// Samples with different numbers of classes.
    #[error("a sample has {found} probabilities, the others have {expected}")]
    OtherWidth {
        /// Of the first sample.
        expected: usize,
        /// Of this one.
        found: usize,
    },
    /// A probability that is none.
    #[error("a sample of class {label} has a probability that is not a finite number")]
    NotANumber {
        /// Its label.
        label: usize,
    },
}

impl ScoreError {
    /// A way out that can be pasted or followed.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownClass { .. } => {
                Some("the model's outputs and the class list differ: predict with the class list of the run".into())
            }
            Self::OtherClasses { .. } | Self::OtherWidth { .. } | Self::NotANumber { .. } => None,
        }
    }
}

/// A metrics or event file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsFileError {
    /// The file cannot be opened or read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be created, written or replaced.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line that is no epoch record.
    #[error("`{}` line {line} is not an epoch record", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Fewer epochs on disk than were to be kept.
    #[error("`{}` holds {found} epochs, but {expected} are needed", path.display())]
    TooFewEpochs {
        /// The file.
        path: PathBuf,
        /// Epochs that were to be kept.
        expected: usize,
        /// Epochs that are there.
        found: usize,
    },
}

impl MetricsFileError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    /// A way out that can be pasted or followed.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, source } | Self::Write { path, source } => hint_for(path, source),
            Self::Malformed { path, line, .. } => {
                Some(format!("look at it: `sed -n {line}p '{}'`; delete or mend that line", path.display()))
            }
            Self::TooFewEpochs { path, .. } => Some(format!(
                "`{}` was cut or replaced after the checkpoint was saved: put it back, or start a new run",
                path.display()
            )),
        }
    }
}

fn hint_for(path: &Path, source: &io::Error) -> Option<String> {
    let folder = path.parent().unwrap_or(path).display();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some(format!("the disk is full: free space there (`df -h '{folder}'`), then go on"))
        }
        io::ErrorKind::FileTooLarge => {
            Some("lift the limit on the size of a file (`ulimit -f unlimited`), then go on".to_owned())
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some(format!("choose a folder you may write to; this one is `{folder}` (`ls -ld '{folder}'`)"))
        }
        io::ErrorKind::NotFound => Some(format!("is there such a folder? `ls -ld '{folder}'`")),
        _ => None,
    }
}
