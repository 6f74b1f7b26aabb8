use std::path::PathBuf;

use checkpoint::CheckpointError;
use data_pipeline::LoadError;
use metrics::MetricsFileError;
use vision_nn::AssignError;

/// Why training stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A batch could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Metrics or pictures could not be written.
    #[error(transparent)]
    Metrics(#[from] MetricsFileError),
    /// The loss or a gradient left the finite numbers; the weights were not touched by it.
    #[error("the {what} became {value} at step {step} (epoch {epoch})")]
    NotFinite {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Optimizer step, from 0.
        step: u64,
        /// Epoch, from 1.
        epoch: u32,
    },
    /// No sample of a whole epoch could be read.
    #[error("none of the {samples} images could be read")]
    NothingReadable {
        /// How many were tried.
        samples: u64,
    },
    /// A label that the class list does not have.
    #[error("`{}` has no label among the {classes} classes", path.display())]
    NoLabel {
        /// The image.
        path: PathBuf,
        /// Number of classes.
        classes: usize,
    },
    /// Saved averaged weights that are not those of this model.
    #[error("the averaged weights do not fit the model")]
    Ema(#[from] Box<AssignError>),
}

impl TrainError {
    /// A way out that can be typed, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Load(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::Metrics(error) => error.hint(),
            Self::NotFinite { .. } => Some(
                "lower the learning rate (`--set train.learning_rate=..`), warm up longer or clip (`--set train.clip_norm=1`)"
                    .to_owned(),
            ),
            Self::NothingReadable { .. } => Some("see `corrupt_images.txt` in the run folder".to_owned()),
            Self::NoLabel { .. } | Self::Ema(_) => None,
        }
    }
}
