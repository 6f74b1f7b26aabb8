use std::path::PathBuf;

use checkpoint::CheckpointError;
use data_pipeline::LoadError;
use trainer::{ComputeError, OutOfMemory};

use crate::View;

/// Why there are no predictions. An image that cannot be read is none of the reasons: it is a prediction of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// A batch could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The CSV could not be written; what stood there before is untouched.
    #[error(transparent)]
    Write(#[from] CheckpointError),
    /// There is nothing to average.
    #[error("the list of views is empty")]
    NoViews,
    /// The weights are not one a view, or no weights.
    #[error("the weights of the views are not {views} numbers of 0 or more, one of them above 0")]
    Weights {
        /// How many views there are.
        views: usize,
    },
    /// A view that turns an image cannot be shown to a model of another height than width.
    #[error("view `{view}` swaps height and width, but images are {height} x {width}")]
    NotSquare {
        /// The first such view.
        view: View,
        /// H of the images.
        height: usize,
        /// W of the images.
        width: usize,
    },
    /// The images have another number of channels than the normalisation.
    #[error("images have {found} channels, but they are to be normalised with {expected}")]
    Channels {
        /// Of the normalisation.
        expected: usize,
        /// Of the images.
        found: usize,
    },
    /// The data set was opened with other classes than the model was trained on, so that its labels mean something else.
    #[error("the data set is labelled with {} classes, which are not the {} of the model", found.len(), expected.len())]
    OtherClasses {
        /// The model's.
        expected: Vec<String>,
        /// The data set's.
        found: Vec<String>,
    },
    /// The model gives another number of scores than there are classes.
    #[error("the model gives {found} scores an image, but there are {expected} classes")]
    ModelWidth {
        /// Number of classes.
        expected: usize,
        /// Scores an image.
        found: usize,
    },
    /// The loader ended without some of the samples.
    #[error("{missing} of {samples} images were never loaded, `{}` is the first", first.display())]
    NotLoaded {
        /// How many are missing.
        missing: usize,
        /// How many the data set has.
        samples: usize,
        /// The first of them.
        first: PathBuf,
    },
    /// The device failed; what it computed is not to be trusted.
    #[error("the device failed while it scored images: {reason}")]
    Device {
        /// The device's words.
        reason: String,
    },
    /// Memory does not suffice for one image at a time.
    #[error("a single image does not fit in memory in prediction")]
    OutOfMemory {
        /// What was asked for and what there is, as far as it is known.
        #[source]
        reason: OutOfMemory,
    },
    /// A table of predictions that cannot be joined with others.
    #[error("cannot take up the predictions in `{}`: {reason}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Predictions that are not those of this data set, one a sample in its order, with a score for each class.
    #[error("prediction {index} does not belong to the data set of {samples} images and {classes} classes")]
    OtherPredictions {
        /// The first that does not fit, from 0.
        index: usize,
        /// How many samples the data set has.
        samples: usize,
        /// Number of classes.
        classes: usize,
    },
}

impl PredictError {
    /// A way out that can be typed, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Load(error) => error.hint(),
            Self::Write(error) => error.hint(),
            Self::NoViews => Some("predict without augmentation: `--tta none`".to_owned()),
            Self::NotSquare { .. } => Some("choose views that keep the axes, for instance `--tta none`".to_owned()),
            Self::OutOfMemory { reason } => Some(reason.hint()),
            Self::Device { .. }
            | Self::Channels { .. }
            | Self::Weights { .. }
            | Self::OtherClasses { .. }
            | Self::ModelWidth { .. }
            | Self::NotLoaded { .. }
            | Self::Table { .. }
            | Self::OtherPredictions { .. } => None,
        }
    }
}

/// Of scored batches: out-of-memory means that a single image did not fit.
impl From<ComputeError> for PredictError {
    fn from(error: ComputeError) -> Self {
        match error {
            ComputeError::OutOfMemory(reason) => Self::OutOfMemory { reason },
            ComputeError::Device { reason } => Self::Device { reason },
        }
    }
}
