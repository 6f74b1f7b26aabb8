//! Predicting with a trained run.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::config::{AutoCount, DeviceRequest, Tta};

/// A trained run and where to compute with it.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// Run folder to take the weights from
    #[arg(
        long,
        value_name = "RUN",
        default_value = "experiments/train/latest",
        value_hint = ValueHint::DirPath
    )]
    pub run: PathBuf,
    /// Weights of the best or of the last epoch
    #[arg(long, default_value = "best")]
    pub checkpoint: Checkpoint,
    /// `auto`, `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "auto")]
    pub device: DeviceRequest,
    /// Images computed at once: `auto` or a number [default: what the run's configuration says]
    #[arg(long, value_name = "COUNT")]
    pub batch_size: Option<AutoCount>,
}

/// What predicts, and how.
#[derive(Debug, Args)]
pub struct PredictorArguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
    /// Average the models of all folds: `fold_results.yaml`, or the folder it is in
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "run")]
    pub fold_results: Option<PathBuf>,
    /// Weight the folds by their macro-F1, instead of all alike
    #[arg(long, requires = "fold_results")]
    pub weight_by_score: bool,
    /// Test-time augmentation: average the probabilities of several views of each image [default:
    /// what the run's configuration says]
    #[arg(long)]
    pub tta: Option<Tta>,
    /// Apply the temperature that `stoker calibrate` found for this run, with the same `--tta` and `--checkpoint`
    #[arg(long, conflicts_with = "fold_results")]
    pub use_calibration: bool,
}

/// What `predict` is asked.
#[derive(Debug, Args)]
pub struct PredictArguments {
    /// What predicts.
    #[command(flatten)]
    pub predictor: PredictorArguments,
    /// Images: a folder, or a CSV file with the column `file` and, when known, `label`
    #[arg(long, value_name = "FOLDER|CSV", value_hint = ValueHint::AnyPath)]
    pub input: PathBuf,
    /// CSV file to write [default: `predictions.csv` in the run folder]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

/// What `calibrate` is asked.
#[derive(Debug, Args)]
pub struct CalibrateArguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
    /// Test-time augmentation, as predictions will be made with [default: what the run's configuration says]
    #[arg(long)]
    pub tta: Option<Tta>,
}

/// What `calibrate` does.
pub const CALIBRATE_ABOUT: &str = "\
Make a run's probabilities as high as they are right.

Scores the run's validation images, with test-time augmentation if that is how predictions will be
made, and fits a temperature: the one number that the logits are divided by. The class that is most
probable stays so. Prints the expected calibration error (ECE), the negative log-likelihood (NLL)
and the Brier score before and after; writes `calibration.json` and the picture `reliability.svg`
into the run folder.";

/// How `calibrate` is used.
pub const CALIBRATE_EXAMPLES: &str = "\
Examples:
  stoker calibrate
  stoker calibrate --run experiments/train/latest --tta essential

Next: `stoker predict --input FOLDER --tta essential --use-calibration`.";

/// What `predict` does.
pub const PREDICT_ABOUT: &str = "\
Classify images with a trained run, and write a CSV file.

The CSV file has a line for each image: file, class, and the probability of each class. Where labels
are known, because the images lie in one folder per class or the input CSV has them, macro-F1 is
printed, without and with test-time augmentation.";

/// How `predict` is used.
pub const PREDICT_EXAMPLES: &str = "\
Examples:
  stoker predict --input data/quickstart/test
  stoker predict --input photos --tta essential --output photos.csv
  stoker predict --run experiments/train/latest --checkpoint last --input labels.csv
  stoker predict --fold-results experiments/train/latest/fold_results.yaml --input photos

Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted.";

/// Which weights of a run are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checkpoint {
    /// the epoch with the best validation score
    Best,
    /// the last epoch
    Last,
}

impl Checkpoint {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Last => "last",
        }
    }
}
