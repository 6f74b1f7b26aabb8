use std::path::PathBuf;

use vision_nn::AssignError;

/// Why a checkpoint or run folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file or folder is not there.
    #[error("`{}` does not exist", path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// The system refused to read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system refused to write; what stood there before is untouched.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is cut short or is not safetensors.
    #[error("`{}` is not a complete safetensors file", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds tensors but no card of ours.
    #[error("`{}` has weights but no description of the run that made them", path.display())]
    NoCard {
        /// The file.
        path: PathBuf,
    },
    /// The card was written by a newer version.
    #[error("`{}` is in format {found}, but this program reads format {supported}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: u64,
        /// The newest that is understood.
        supported: u32,
    },
    /// A tensor in a number type that weights do not come in.
    #[error("tensor `{name}` in `{}` is stored as {dtype}, expected F32, F16 or BF16", path.display())]
    NumberType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type, in safetensors' words.
        dtype: String,
    },
    /// Weights of another model.
    #[error("the weights in `{}` do not fit `{model}`", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The model that was to take them.
        model: String,
        /// What does not fit.
        source: Box<AssignError>,
    },
    /// A run would overwrite another.
    #[error("run folder `{}` exists and is not empty", path.display())]
    RunExists {
        /// The folder.
        path: PathBuf,
    },
    /// A folder without the files of a run.
    #[error("`{}` is not a run folder: it has no `{missing}`", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// The file that it would have.
        missing: &'static str,
    },
}

impl CheckpointError {
    /// A way out that can be typed, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { path } if path.extension().is_none() => {
                Some("train first, or name a run folder: `ls experiments/train`".to_owned())
            }
            Self::Missing { .. } => {
                Some("an unfinished run may have no `best` yet: try `--checkpoint last`".to_owned())
            }
            Self::Write { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Some(
                "free some space, then go on with `stoker train --resume RUN`; the last good checkpoint is still there"
                    .to_owned(),
            ),
            Self::Write { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("choose a folder that you may write to, for example `--set output=/tmp/stoker`".to_owned())
            }
            Self::Malformed { .. } => {
                Some("the other checkpoint may be whole: `--checkpoint last` or `--checkpoint best`".to_owned())
            }
            Self::NoCard { .. } => Some("load it as starting weights: `--set model.weights=FILE`".to_owned()),
            Self::Version { .. } => Some("update stoker".to_owned()),
            Self::OtherModel { .. } => {
                Some("set `model.name` to the architecture that the file was made with".to_owned())
            }
            Self::RunExists { path } => Some(format!(
                "go on with it: `--resume {0}`, replace it: `--overwrite`, or keep both: `--set name=OTHER`",
                path.display()
            )),
            Self::NotARun { .. } => {
                Some("name the folder that `stoker train` printed, for example `experiments/train/latest`".to_owned())
            }
            Self::Read { .. } | Self::Write { .. } | Self::NumberType { .. } => None,
        }
    }
}
