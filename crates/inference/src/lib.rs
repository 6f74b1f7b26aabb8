//! Predictions for a data set: each image decoded once, seen by the model in one or several views, the views' probabilities
//! averaged (test-time augmentation), calibrated where that is wanted, and the result as a CSV with a row for each input file; held against labels where
//! there are any.
//!
//! It never trains, loads a checkpoint, chooses a batch size or prints, and it never leaves an image out: what cannot be read or scored
//! comes back with the reason.

#![warn(missing_docs)]

mod calibration;
mod ensemble;
mod evaluation;
mod predict;
mod predictions_csv;
mod rehearsal;
mod score;

mod preset;
mod symmetry;
mod view;
mod zoom;

mod error;

pub use calibration::{CalibrationError, FittedCalibration, labelled};
pub use ensemble::average;
pub use error::PredictError;
pub use evaluation::{Change, Effect, Evaluation, Judged, LeftOut, Seen, evaluate};
pub use predict::{Outcome, PredictOptions, Prediction, predict};
pub use predictions_csv::{join_csv, write_csv};
pub use preset::{Preset, UnknownPreset};
pub use rehearsal::rehearse;
pub use score::{Scores, score};
pub use symmetry::Symmetry;
pub use view::View;
