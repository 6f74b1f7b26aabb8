//! What can go wrong while a sample set is written.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::sample_set::SampleSet;

/// Why a sample set was not written. Nothing that was in the folder before is lost in any of these cases.
#[derive(Debug, Error)]
pub enum SampleError {
    /// A folder or file could not be written or read.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb: `write`, `create`, `move`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The folder holds something that is not part of a sample set, so it is not replaced.
    #[error("`{}` holds no complete sample set, but holds `{found}`, which is not part of one", path.display())]
    ForeignFiles {
        /// The folder that was to hold the set.
        path: PathBuf,
        /// The first entry that does not belong there, relative to it.
        found: String,
    },
    /// The folder holds a complete sample set of other sizes or another seed.
    #[error("`{}` holds another sample set: expected {expected}, found {found}", path.display())]
    OtherSet {
        /// The folder of the set.
        path: PathBuf,
        /// What was asked for.
        expected: SampleSet,
        /// What its `complete.json` says.
        found: SampleSet,
    },
    /// `complete.json` is there but cannot be understood.
    #[error("`{}` does not describe a sample set: {reason}", path.display())]
    MalformedMarker {
        /// The marker file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A set with a part that has fewer pages than there are classes.
    #[error(
        "a sample set needs at least one page a class in each part: {part} has {found} pages for {classes} classes"
    )]
    TooFewPages {
        /// `train`, `validation` or `test`.
        part: &'static str,
        /// Pages asked for.
        found: usize,
        /// How many classes there are.
        classes: usize,
    },
}

impl SampleError {
    /// A way out that can be pasted or done at once.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { path, source, .. } => Some(io_hint(path, source.kind())),
            Self::ForeignFiles { path, .. } | Self::OtherSet { path, .. } => {
                Some(format!("move or remove `{}`, or choose another folder for the sample data", path.display()))
            }
            Self::MalformedMarker { path, .. } => {
                Some(format!("remove `{}`, and the set is drawn anew", path.display()))
            }
            Self::TooFewPages { part, classes, .. } => Some(format!("ask for at least {classes} pages in {part}")),
        }
    }
}

fn io_hint(path: &Path, kind: io::ErrorKind) -> String {
    let folder = path.parent().unwrap_or(path).display();
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("free 30 MB on the disk of `{folder}`, or choose a folder on another disk")
        }
        io::ErrorKind::FileTooLarge => "lift the limit on the size of a file (`ulimit -f unlimited`)".to_owned(),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            format!(
                "a file stands where a folder is needed: move it away from `{}`, or choose another folder for the sample data",
                path.display()
            )
        }
        _ => format!("make `{folder}` writable, or choose another folder for the sample data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_hint_that_names_the_way_out() {
        let path = PathBuf::from("data/quickstart");
        let full =
            SampleError::Io { action: "write", path: path.join("train"), source: io::ErrorKind::StorageFull.into() };
        let hint = full.hint().expect("a hint");
        assert!(hint.contains("free 30 MB on the disk of `data/quickstart`"), "{hint}");
        let other = SampleError::OtherSet {
            path,
            expected: SampleSet::default(),
            found: SampleSet { seed: 7, ..SampleSet::default() },
        };
        let text = other.to_string();
        assert!(text.contains("expected 800 + 200 + 200 pages of seed 42"), "{text}");
        assert!(text.contains("found 800 + 200 + 200 pages of seed 7"), "{text}");
        assert!(other.hint().is_some_and(|hint| hint.contains("data/quickstart")));
    }
}
