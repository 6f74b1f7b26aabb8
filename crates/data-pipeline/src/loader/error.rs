//! Why a loader ends early.

use std::path::PathBuf;

use thiserror::Error;

use crate::DecodeError;

/// Why there are no more batches.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// An image cannot be read, and [`crate::OnCorrupt::Fail`] was asked for.
    #[error(transparent)]
    Image(#[from] DecodeError),
    /// The transform panicked: a mistake in this program.
    #[error("loading `{}` panicked: {message}", path.display())]
    WorkerPanicked {
        /// The image in hand.
        path: PathBuf,
        /// What the panic said.
        message: String,
    },
    /// A batch asks for a sample that is not there.
    #[error("sample {sample} is not among the {samples} of the data set")]
    NoSuchSample {
        /// The index asked for.
        sample: usize,
        /// How many there are.
        samples: usize,
    },
    /// The operating system gave no thread.
    #[error("cannot start a loader thread: {reason}")]
    NoWorkers {
        /// The system's reason.
        reason: String,
    },
    /// The caller's flag was raised.
    #[error("loading was interrupted")]
    Interrupted,
}

impl LoadError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Image(error) => error.hint(),
            Self::WorkerPanicked { path, .. } => {
                Some(format!("this is a mistake in the program; please report it with `{}`", path.display()))
            }
            Self::NoWorkers { .. } => Some("set `data.workers=1`, or raise the limit: `ulimit -u`".into()),
            Self::NoSuchSample { .. } | Self::Interrupted => None,
        }
    }
}
