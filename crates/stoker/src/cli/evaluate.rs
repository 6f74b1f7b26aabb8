//! Holding a trained run against labels.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::PredictorArguments;

/// What `evaluate` is asked.
#[derive(Debug, Args)]
pub struct EvaluateArguments {
    /// What predicts.
    #[command(flatten)]
    pub predictor: PredictorArguments,
    /// Labelled images: a folder with one folder per class, or a CSV file with the columns `file` and `label`
    #[arg(long, value_name = "FOLDER|CSV", value_hint = ValueHint::AnyPath)]
    pub input: PathBuf,
    /// Folder to write to; made when it is missing [default: `evaluation` in the run folder]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub output: Option<PathBuf>,
}

/// What `evaluate` does.
pub const EVALUATE_ABOUT: &str = "\
Hold a trained run against labelled images.

Predicts every image, and prints without and with test-time augmentation: macro-F1, accuracy, top-k
accuracy, calibration error (ECE), negative log-likelihood (NLL) and Brier score; then precision,
recall and F1 of each class, and how many images the augmentation helped and hurt.

Written into the output folder: `scores.json`, `per_class.csv`, `confusion_matrix.svg`,
`worst_mistakes.svg` (a contact sheet), `tta_changes.csv` (images whose class the augmentation
changed) and `not_evaluated.csv` (images without label, or that could not be read).";

/// How `evaluate` is used.
pub const EVALUATE_EXAMPLES: &str = "\
Examples:
  stoker evaluate --input data/quickstart/test --tta essential
  stoker evaluate --run experiments/train/latest --checkpoint last --input labels.csv
  stoker evaluate --fold-results experiments/train/latest/fold_results.yaml --input photos --output found

Images without labels: `stoker predict`.
Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted.";
