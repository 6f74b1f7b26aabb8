//! Scores from predictions, and the files that show them: a confusion matrix with scikit-learn's scores, top-k hits,
//! one line of `metrics.jsonl` an epoch, calibration, TensorBoard event files, SVG figures, and a run on one HTML page.
//!
//! It never sees a tensor, a model or a device, never prints, and never decides where a file belongs: it takes plain
//! slices and numbers, and paths that its caller chose.

#![warn(missing_docs)]

mod calibration;
mod class_table;
mod confusion;
mod contact_sheet;
mod curves;
mod error;
mod events;
mod matrix_figure;
mod memory_figure;
mod metrics_file;
mod ranking;
mod record;
mod reliability_figure;
mod report_page;

mod append_file;
mod axis;
mod panel;
mod protobuf;
mod svg;

pub use calibration::{
    CALIBRATION_BINS, Calibration, CalibrationScores, LabelledProbabilities, ReliabilityBin, temper,
};
pub use class_table::class_table_csv;
pub use confusion::{AverageScores, ClassScores, Confusion, ConfusionMatrix};
pub use contact_sheet::contact_sheet_svg;
pub use curves::curves_svg;
pub use error::{MetricsFileError, ScoreError};
pub use events::EventWriter;
pub use matrix_figure::confusion_matrix_svg;
pub use memory_figure::{PlannedMemory, memory_svg};
pub use metrics_file::{MetricsWriter, keep_first_epochs, read_records};
pub use ranking::{TopKCounter, argmax, softmax, top_k_hits};
pub use record::{EpochRecord, RunCosts, TopKAccuracy, TrainScores, ValidationScores};
pub use reliability_figure::{is_reliability_svg, reliability_svg};
pub use report_page::{Mistake, RunReport, report_html};
