//! Predictions for a data set: each image decoded once, seen by one model or several in one or several views, the views' probabilities
//! merged (test-time augmentation), calibrated where that is wanted, and the result as a table with a row for each input file: CSV, JSON lines or
//! Parquet, in columns of one's own or those of a template. What is predicted so far is kept in a file that a later process goes on with. Held against
//! labels where there are any.
//!
//! It never trains, loads a checkpoint, chooses a batch size or prints, and it never leaves an image out: what cannot be read or scored
//! comes back with the reason.

#![warn(missing_docs)]

mod calibration;
mod ensemble;
mod ensemble_calibration;
mod evaluation;
mod merge;
mod part_file;
mod passes;
mod predict;
mod predictions_csv;
mod rehearsal;
mod score;
mod table;
mod table_head;
mod template;

mod preset;
mod symmetry;
mod view;
mod view_name;
mod view_weights;
mod zoom;

mod error;
mod fingerprint;

pub use calibration::{CalibrationError, FittedCalibration, FittedTo, labelled, temper_merged};
pub use ensemble::{Averaging, average};
pub use ensemble_calibration::{EnsembleCalibration, FittedMember};
pub use error::PredictError;
pub use evaluation::{Change, Effect, Evaluation, Judged, LeftOut, Seen, evaluate};
pub use fingerprint::{listing_fingerprint, weights_fingerprint};
pub use merge::Merge;
pub use part_file::{PartError, PartFile, PartHeader};
pub use predict::{Outcome, PredictOptions, Prediction, Predictor, predict, predict_batches, predict_together};
pub use predictions_csv::{join_csv, write_csv};
pub use preset::{Preset, UnknownPreset};
pub use rehearsal::{rehearse, rehearse_pass};
pub use score::{Scores, score};
pub use symmetry::Symmetry;
pub use table::{Column, ColumnError, PredictionTable, TableFormat, TableLayout};
pub use table_head::is_table_of;
pub use template::{Labels, Template, TemplateError};
pub use view::{Variation, View};
pub use view_name::UnknownView;
pub use view_weights::{ViewLikelihoods, ViewWeights, WEIGHT_FOLDS, view_likelihoods};
