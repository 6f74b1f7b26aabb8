//! Predicting with a trained run.

use std::path::PathBuf;

use checkpoint::RunFolder;
use clap::{ArgAction, Args, ValueEnum, ValueHint};
use inference::{Labels, TableFormat};

use super::gpu::{TimeSpan, score};
use crate::config::{AutoCount, DeviceRequest, MergeRule, NamedView, Precision, Tta};

/// Trained runs that predict together, and how to compute with them.
#[derive(Debug, Clone, Args)]
pub struct RunsArguments {
    /// Run folder to take the weights from; several runs of the same classes are averaged
    #[arg(
        long = "run",
        value_name = "RUN",
        default_value = "experiments/train/latest",
        action = ArgAction::Append,
        value_hint = ValueHint::DirPath
    )]
    pub runs: Vec<PathBuf>,
    /// Which weights, and where to compute.
    #[command(flatten)]
    pub weights: WeightsArguments,
    /// Average the models of all folds: `fold_results.yaml`, or the folder it is in
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "runs")]
    pub fold_results: Option<PathBuf>,
    /// Weight folds and runs by their macro-F1 on validation, instead of all alike
    #[arg(long)]
    pub weight_by_score: bool,
}

/// Which weights of a run, and where to compute with them.
#[derive(Debug, Clone, Args)]
pub struct WeightsArguments {
    /// Weights of the best or of the last epoch, or the average of the best ones
    #[arg(long, default_value = "best")]
    pub checkpoint: Checkpoint,
    /// `auto`, `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "auto")]
    pub device: DeviceRequest,
    /// Images computed at once, each view counted as one: `auto` or a number [default: what the run's configuration says]
    #[arg(long, value_name = "COUNT")]
    pub batch_size: Option<AutoCount>,
    /// What the model computes in: `auto`, `fp32`, `bf16` or `fp16` [default: what the run's configuration says]
    #[arg(long, hide_possible_values = true)]
    pub precision: Option<Precision>,
    /// Threads that decode images: `auto` or a number [default: what the run's configuration says]
    #[arg(long, value_name = "COUNT")]
    pub workers: Option<AutoCount>,
}

/// How a model looks at an image.
#[derive(Debug, Clone, Args)]
pub struct ViewArguments {
    /// Test-time augmentation: merge several views of each image [default: what the run's configuration says]
    #[arg(long)]
    pub tta: Option<Tta>,
    /// Views by name in the place of a preset, such as `identity,flip_horizontal,zoom_1.1`
    #[arg(long, value_name = "VIEW,..", value_delimiter = ',', conflicts_with = "tta")]
    pub views: Vec<NamedView>,
    /// How the views' answers become one [default: what the run's configuration says]
    #[arg(long)]
    pub merge: Option<MergeRule>,
}

/// What predicts, and how.
#[derive(Debug, Args)]
pub struct PredictorArguments {
    /// The runs.
    #[command(flatten)]
    pub runs: RunsArguments,
    /// How the models look at an image.
    #[command(flatten)]
    pub views: ViewArguments,
    /// With `--tta auto`: the time that all images may take, such as `20m`, `90s` or `1h`
    #[arg(long, value_name = "TIME")]
    pub target_time: Option<TimeSpan>,
    /// With `--tta auto`: the macro-F1 that the validation images must reach
    #[arg(long, value_name = "SCORE", value_parser = score)]
    pub min_f1: Option<f64>,
    /// Apply the temperature that `stoker calibrate` found for the same runs, views, `--merge` and `--checkpoint`; where several runs are
    /// averaged, to their mean
    #[arg(long)]
    pub use_calibration: bool,
    /// The file of that temperature, where it is not `calibration.json` in the run folder
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub calibration: Option<PathBuf>,
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
    /// What is written.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// What `predict` writes.
#[derive(Debug, Args)]
pub struct OutputArguments {
    /// File to write: .csv, .jsonl or .parquet [default: `predictions.csv` in the run folder]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Format of the file, where its name does not say it
    #[arg(long)]
    pub format: Option<Format>,
    /// Columns of the file: file, class, index, label, confidence, entropy, probabilities, top3 (or another number),
    /// error [default: what the run's configuration says]
    #[arg(long, value_name = "COLUMN,..", value_delimiter = ',', conflicts_with = "template")]
    pub columns: Vec<String>,
    /// CSV file to fill in, such as `sample_submission.csv`: its columns, its ids, its order
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub template: Option<PathBuf>,
    /// How the template has labels written, where its examples do not show it
    #[arg(long, requires = "template")]
    pub labels: Option<LabelForm>,
}

/// The format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// comma-separated values
    Csv,
    /// JSON, an object a line
    Jsonl,
    /// Apache Parquet
    Parquet,
}

impl From<Format> for TableFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Jsonl => Self::JsonLines,
            Format::Parquet => Self::Parquet,
        }
    }
}

/// How a label is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LabelForm {
    /// the class's name
    Names,
    /// its place among the classes, from 0
    Indices,
    /// of two classes, the probability of the second, or of the one that the column is called like
    Probability,
}

impl From<LabelForm> for Labels {
    fn from(form: LabelForm) -> Self {
        match form {
            LabelForm::Names => Self::Names,
            LabelForm::Indices => Self::Indices,
            LabelForm::Probability => Self::Probability,
        }
    }
}

/// What `calibrate` is asked.
#[derive(Debug, Args)]
pub struct CalibrateArguments {
    /// The runs.
    #[command(flatten)]
    pub runs: RunsArguments,
    /// How the models look at an image, as predictions will be made.
    #[command(flatten)]
    pub views: ViewArguments,
    /// File to write the temperature to; the picture goes beside it, as `.svg` [default: `calibration.json` and `reliability.svg` in the
    /// folder of the run, or of the folds]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

/// What `calibrate` does.
pub const CALIBRATE_ABOUT: &str = "\
Make probabilities as high as they are right.

Scores the run's validation images, with test-time augmentation if that is how predictions will be
made, and fits a temperature: the one number that the logits are divided by. The class that is most
probable stays so. Prints the expected calibration error (ECE), the negative log-likelihood (NLL)
and the Brier score before and after; writes `calibration.json` and the picture `reliability.svg`
into the run folder.

An ensemble has one temperature, for the mean of its models. Folds are scored out of fold, each image
by the model that was not trained on it. Several `--run` are scored by the images that all of them
validate on; `--output FILE` says where the temperature goes, and the picture goes beside it under the
same name with the ending `.svg`. An earlier calibration is replaced, and no other file is.

With `--merge weighted` it first learns a weight for each view of a run, those under which the true
classes are most likely, and keeps them in `view_weights.json`. They are judged on images that they
were not fitted to, a fifth at a time: where they do no better there than the plain mean, all weights
are alike. The models of an ensemble have theirs from before: `stoker calibrate --run RUN --merge weighted`.";

/// How `calibrate` is used.
pub const CALIBRATE_EXAMPLES: &str = "\
Examples:
  stoker calibrate
  stoker calibrate --run experiments/train/latest --tta essential
  stoker calibrate --tta comprehensive --merge weighted
  stoker calibrate --fold-results experiments/train/latest/fold_results.yaml --tta essential
  stoker calibrate --run runs/convnext --run runs/swin --output both.json

Next: `stoker predict --input FOLDER --tta essential --use-calibration`.
Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted.";

/// What `predict` does.
pub const PREDICT_ABOUT: &str = "\
Classify images with a trained run, and write a table: CSV, JSON lines or Parquet.

The table has a row for each image: file, class, the probability of each class, and why there is none
where an image cannot be read; `--columns` chooses others, `--template` follows a file. What is done
is kept beside the output as `FILE.part`: a stopped run goes on with the same command. Where labels
are known, because the images lie in one folder per class or the input CSV has them, macro-F1 is
printed, without and with test-time augmentation.

Several `--run` make an ensemble: each model sees the images as it was trained to, in its own size and
views, and their probabilities are averaged. Models that see the same pixels share each decoded image
where memory holds them all at once; others take turns. A folder of folds counts as one run.";

/// How `predict` is used.
pub const PREDICT_EXAMPLES: &str = "\
Examples:
  stoker predict --input data/quickstart/test
  stoker predict --input photos --tta essential --output photos.csv
  stoker predict --input photos --output photos.parquet --columns file,top3,entropy
  stoker predict --input test --template sample_submission.csv --output submission.csv
  stoker predict --run experiments/train/latest --checkpoint last --input labels.csv
  stoker predict --fold-results experiments/train/latest/fold_results.yaml --input photos
  stoker predict --run runs/convnext --run runs/swin --input photos --output both.csv
  stoker predict --run runs/convnext --run runs/swin --input photos --output both.csv --calibration both.json
  stoker predict --input photos --tta auto --target-time 20m

Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted.";

/// Which weights of a run are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checkpoint {
    /// the epoch with the best validation score
    Best,
    /// the last epoch
    Last,
    /// the mean of the best epochs' weights (`train.average_best`)
    Averaged,
}

impl Checkpoint {
    /// Its file in a run folder.
    pub(crate) fn of_run(self, folder: &RunFolder) -> PathBuf {
        match self {
            Self::Best => folder.best(),
            Self::Last => folder.last(),
            Self::Averaged => folder.averaged(),
        }
    }

    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Last => "last",
            Self::Averaged => "averaged",
        }
    }
}
