use std::path::PathBuf;

use checkpoint::CheckpointError;
use data_pipeline::LoadError;
use metrics::MetricsFileError;
use vision_nn::AssignError;

use crate::{ComputeError, OutOfMemory, Phase};

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
    /// The loss or a gradient left the finite numbers too often; the weights were not touched by it.
    #[error("the {what} became {value} at step {step} (epoch {epoch}){}", in_a_row_words(*in_a_row))]
    NotFinite {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Optimizer step, from 0.
        step: u64,
        /// Epoch, from 1.
        epoch: u32,
        /// Such steps in a row, this one included.
        in_a_row: u64,
        /// The state before that step; a `.json` beside it lists its samples.
        snapshot: PathBuf,
    },
    /// Memory does not suffice for one image at a time. The weights were not touched by the step that was tried.
    #[error("a single image does not fit in memory in {phase}{}", step.map_or(String::new(), |step| format!(", at step {step}")))]
    OutOfMemoryAtBatchOne {
        /// What was being done.
        phase: Phase,
        /// Optimizer step, from 0, in training and in its validation.
        step: Option<u64>,
        /// What was asked for and what there is, as far as it is known.
        #[source]
        reason: OutOfMemory,
    },
    /// The device failed while it moved the weights: they are neither the old nor the new ones, and only a checkpoint helps.
    #[error("the device failed while it updated the weights, after step {step}")]
    UpdateFailed {
        /// Optimizer step, from 0.
        step: u64,
        /// What the device said.
        #[source]
        reason: ComputeError,
    },
    /// The device failed, and not for lack of memory.
    #[error("the device failed: {reason}")]
    Device {
        /// Its words.
        reason: String,
    },
    /// No sample of a whole epoch could be read.
    #[error("none of the {samples} images could be read")]
    NothingReadable {
        /// How many were tried.
        samples: u64,
    },
    /// No image of a class could be read in a whole epoch: the model would never predict it, and no score would count it.
    #[error("none of the {images} images of class `{class}` could be read, among them `{}`", path.display())]
    ClassUnreadable {
        /// The class.
        class: String,
        /// How many images it has.
        images: usize,
        /// The first of them.
        path: PathBuf,
    },
    /// A label that the class list does not have.
    #[error("`{}` has no label among the {classes} classes", path.display())]
    NoLabel {
        /// The image.
        path: PathBuf,
        /// Number of classes.
        classes: usize,
    },
    /// A checkpoint that another run has written: its weights may fit, and mean something else.
    #[error("`{}` is of another run: {what} `{saved}` there, and `{here}` here", path.display())]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What is different, with its verb: `the model is`.
        what: &'static str,
        /// As the checkpoint has it.
        saved: String,
        /// As the run has it.
        here: String,
    },
    /// A checkpoint without what the optimizer has gathered over its steps, or with that of another one: it would start from nothing, unseen.
    #[error(
        "`{}` lacks {} that the optimizer keeps, the first of them `optimizer/{}`",
        path.display(),
        tensors_in_words(missing.len()),
        missing.first().map_or("", String::as_str)
    )]
    NoOptimizerState {
        /// The checkpoint.
        path: PathBuf,
        /// By role and parameter: `moment_1/head.fc.weight`.
        missing: Vec<String>,
    },
    /// A run that has come beyond its first checkpoint, without it: to start over would replace its epochs and their weights.
    #[error(
        "`{}` is missing, and the run has {epochs} epochs to lose{}",
        path.display(),
        best.map_or(String::new(), |epoch| format!("; `best`, of epoch {epoch}, is whole"))
    )]
    NoLast {
        /// The checkpoint.
        path: PathBuf,
        /// Epochs that are recorded.
        epochs: usize,
        /// The epoch of `best`, from 1, where that is whole.
        best: Option<u32>,
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
            Self::NotFinite { snapshot, .. } => Some(format!(
                "lower the learning rate (`--set train.learning_rate=..`), warm up longer or clip (`--set train.clip_norm=1`); weights and \
                 samples of that step are in `{}` and `{}`",
                snapshot.display(),
                snapshot.with_extension("json").display()
            )),
            Self::NothingReadable { .. } | Self::ClassUnreadable { .. } => {
                Some("see `corrupt_images.txt` in the run folder".to_owned())
            }
            Self::OutOfMemoryAtBatchOne { reason, .. } => Some(reason.hint()),
            Self::UpdateFailed { .. }
            | Self::Device { .. }
            | Self::NoLabel { .. }
            | Self::OtherRun { .. }
            | Self::NoOptimizerState { .. }
            | Self::NoLast { .. }
            | Self::Ema(_) => None,
        }
    }

    /// Work on scored batches that came to nothing; out-of-memory means that a single image did not fit.
    pub(crate) fn of_evaluation(error: ComputeError) -> Self {
        match error {
            ComputeError::OutOfMemory(reason) => {
                Self::OutOfMemoryAtBatchOne { phase: Phase::Evaluation, step: None, reason }
            }
            ComputeError::Device { reason } => Self::Device { reason },
        }
    }
}

fn in_a_row_words(steps: u64) -> String {
    match steps {
        0 | 1 => String::new(),
        steps => format!(", the last of {steps} such steps in a row"),
    }
}

fn tensors_in_words(count: usize) -> String {
    match count {
        1 => "a tensor".to_owned(),
        count => format!("{count} tensors"),
    }
}
