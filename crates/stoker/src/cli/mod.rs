//! What can be asked for: commands, flags, and their help.

mod bench;
mod evaluate;
mod export;
mod forward;
mod gpu;
mod gpus;
mod plan;
mod predict;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

pub use bench::{
    BenchActivationsArguments, BenchCommand, BenchDataArguments, BenchDevice, BenchInferArguments,
    BenchKernelsArguments, BenchMemoryArguments, BenchPlansArguments, BenchStepArguments,
};
pub use evaluate::{EVALUATE_ABOUT, EVALUATE_EXAMPLES, EvaluateArguments};
pub use export::{EXPORT_ABOUT, EXPORT_EXAMPLES, ExportArguments, ExportFormat};
pub use forward::{FORWARD_ABOUT, FORWARD_EXAMPLES, ForwardArguments};
pub use gpu::{GPU_ABOUT, GPU_EXAMPLES, GpuArguments, TimeSpan};
pub use gpus::{ExchangeRequest, Gpus};
pub use plan::{
    AbsentCard, Destination, InferenceRequest, LearningRateScaling, PLAN_ABOUT, PLAN_EXAMPLES, PlanArguments,
    PlanArgumentsError, PlanSource, PlanTask, Target,
};
pub use predict::{
    CALIBRATE_ABOUT, CALIBRATE_EXAMPLES, CalibrateArguments, Checkpoint, Format, LabelForm, OutputArguments,
    PREDICT_ABOUT, PREDICT_EXAMPLES, PredictArguments, PredictorArguments, RunsArguments, ViewArguments,
    WeightsArguments,
};

use crate::config::{ConfigError, DeviceRequest, Mode, Override};

/// Trains image classifiers at the batch size that the device can take, and predicts with them.
#[derive(Debug, Parser)]
#[command(name = "stoker", version, max_term_width = 100, after_help = FIRST_STEPS)]
pub struct Arguments {
    /// What to do; nothing shows the help.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const FIRST_STEPS: &str = "\
First steps:
  stoker train --config configs/quickstart.yaml    draw sample pages and train on them
  stoker predict --input data/quickstart/test      classify images with the newest run
  stoker config-reference                          every setting, with default and range

`stoker COMMAND --help` has examples of each command.";

/// One thing that stoker does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find the batch size that fits, on this machine or on any card.
    #[command(long_about = PLAN_ABOUT, after_help = PLAN_EXAMPLES)]
    Plan(Box<PlanArguments>),
    /// Train a classifier, as a configuration file says.
    #[command(long_about = TRAIN_ABOUT, after_help = TRAIN_EXAMPLES)]
    Train(TrainArguments),
    /// Classify images with a trained run, and write a CSV file.
    #[command(long_about = PREDICT_ABOUT, after_help = PREDICT_EXAMPLES)]
    Predict(PredictArguments),
    /// Hold a trained run against labelled images: scores, pictures, tables.
    #[command(long_about = EVALUATE_ABOUT, after_help = EVALUATE_EXAMPLES)]
    Evaluate(EvaluateArguments),
    /// Make a run's probabilities as high as they are right.
    #[command(long_about = CALIBRATE_ABOUT, after_help = CALIBRATE_EXAMPLES)]
    Calibrate(CalibrateArguments),
    /// List the devices at hand, or find the test-time augmentation that fits a time and a score.
    #[command(long_about = GPU_ABOUT, after_help = GPU_EXAMPLES)]
    Gpu(GpuArguments),
    /// Write a trained model for other programs.
    #[command(long_about = EXPORT_ABOUT, after_help = EXPORT_EXAMPLES)]
    Export(ExportArguments),
    /// Run one batch of numbers through a model, to compare with PyTorch.
    #[command(long_about = FORWARD_ABOUT, after_help = FORWARD_EXAMPLES)]
    Forward(ForwardArguments),
    /// List the architectures that `model.name` takes.
    #[command(after_help = MODELS_EXAMPLES)]
    Models(ModelsArguments),
    /// Measure stoker itself.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Check a configuration, and print it with every default filled in.
    #[command(after_help = CONFIG_CHECK_EXAMPLES)]
    ConfigCheck(ConfigArguments),
    /// Print the parameter groups of a configuration's model: what trains, how fast, what is frozen.
    #[command(after_help = CONFIG_GROUPS_EXAMPLES)]
    ConfigGroups(ConfigArguments),
    /// Print every configuration key: type, default, meaning (Markdown).
    #[command(after_help = REFERENCE_EXAMPLES)]
    ConfigReference,
    /// Run the step of the job on the standard input dry, and print its footprint: what a plan has done by a process of its own.
    #[command(hide = true)]
    DryRun,
    /// Time the operations of the job on the standard input both ways that there are, and print which are faster: what a plan has done by a process of its own.
    #[command(hide = true)]
    MeasureKernels,
}

impl Arguments {
    /// Whether the command makes CubeCL's settings by itself, which takes them once: launches are counted in a log of their own.
    pub fn has_own_settings_for_cards(&self) -> bool {
        matches!(&self.command, Some(Command::Bench(BenchCommand::Step(BenchStepArguments { launches: true, .. }))))
    }
}

/// A configuration and what is put over it.
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// Put a value over the file's, as in `train.epochs=3`; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub settings: Vec<String>,
}

/// What `models` is asked.
#[derive(Debug, Args)]
pub struct ModelsArguments {
    /// Part of a name or of a family's name; all are listed without
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const MODELS_EXAMPLES: &str = "\
Examples:
  stoker models
  stoker models swin
  stoker models 384 --json

MACs are the multiply-accumulates of convolutions, linear layers and matrix products in a forward
pass over one image of the default size; norms, activations and pooling are not counted.

Next: `stoker train --config FILE --set model.name=NAME`.";

const REFERENCE_EXAMPLES: &str = "\
Examples:
  stoker config-reference | less
  stoker config-reference | grep learning_rate

Next: `stoker config-check --config FILE`.";

const CONFIG_GROUPS_EXAMPLES: &str = "\
Examples:
  stoker config-groups --config configs/quickstart.yaml --set train.layer_decay=0.75
  stoker config-groups --config configs/quickstart.yaml --set 'model.freeze=[stem, stages.0]'

Next: `stoker train --config FILE`.";

const CONFIG_CHECK_EXAMPLES: &str = "\
Examples:
  stoker config-check --config configs/quickstart.yaml
  stoker config-check --config configs/quickstart.yaml --set train.epochs=3 > mine.yaml

Next: `stoker train --config FILE`.";

/// What `train` is asked.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// Configuration file (YAML); `stoker config-reference` explains its keys
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        required_unless_present = "resume",
        conflicts_with = "resume"
    )]
    pub config: Option<PathBuf>,
    /// Put a value over the file's, as in `train.epochs=3`; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub settings: Vec<String>,
    /// Go on with a run that was stopped, with its own configuration; `--set train.epochs=N` makes it longer
    #[arg(long, value_name = "RUN", value_hint = ValueHint::DirPath)]
    pub resume: Option<PathBuf>,
    /// `auto`, `cpu`, `cuda` or `cuda:N` [default: what the configuration says]
    #[arg(long)]
    pub device: Option<DeviceRequest>,
    /// Share each effective batch among CUDA cards, `0,1` or `all`; the first keeps weights and optimizer
    #[arg(long, value_name = "N,..|all", conflicts_with = "device")]
    pub gpus: Option<Gpus>,
    /// How those cards exchange weights and gradients [default: nccl where `libnccl.so` is found, or else host]
    #[arg(long, value_name = "WAY", requires = "gpus")]
    pub exchange: Option<ExchangeRequest>,
    /// Fill what the configuration leaves open with a recipe; what that sets is printed
    #[arg(long, conflicts_with = "resume")]
    pub mode: Option<Mode>,
    /// Of cross-validation (`data.folds`), train this fold alone, from 0
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub fold: Option<usize>,
    /// Replace the run folder when it exists, with `--fold` the run of that fold, instead of refusing
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
}

const TRAIN_ABOUT: &str = "\
Train a classifier, as a configuration file says.

Measures the memory of some training steps, plans the micro-batch and the gradient accumulation so
that the effective batch size is kept exactly, and trains. Everything goes into a run folder below
`output`: the configuration, the plan, metrics, curves, and the weights of the last and the best
epoch. `latest` there points to the newest run.

With `data.folds: K` it trains K models, each on all images but those of its own fold, one after the
other, and keeps what they say of those in `out_of_fold.csv` and `fold_results.yaml`.

With `--gpus` several cards share each effective batch, which stays what it is: micro-batches are
dealt round, gradients are added up by all cards together, and when memory runs out on one, all do
the batch again in smaller parts. Tested on CPU devices and on CUDA's runtime over stand-ins for its
driver and NCCL; not on real cards.

Ctrl-C saves and says how to resume.";

const TRAIN_EXAMPLES: &str = "\
Examples:
  stoker train --config configs/quickstart.yaml
  stoker train --config configs/quickstart.yaml --set train.epochs=3 --set name=short
  stoker train --config mine.yaml --set data.train=photos --set memory.limit=2GiB
  stoker train --config mine.yaml --mode highperf
  stoker train --config mine.yaml --set data.folds=5
  stoker train --config mine.yaml --set data.folds=5 --fold 2
  stoker train --config mine.yaml --gpus 0,1
  stoker train --resume experiments/train/latest
  stoker train --resume experiments/train/latest --set train.epochs=40

Next: `stoker predict --input FOLDER` uses the newest run.
Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted.";

/// A value of a flag, as it is typed.
pub(crate) fn typed(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl TrainArguments {
    /// The settings from flags, in the order in which they win.
    ///
    /// # Errors
    /// When a `--set` is not of the form `KEY=VALUE`.
    pub fn overrides(&self) -> Result<Vec<Override>, ConfigError> {
        let mut overrides = parse_settings(&self.settings)?;
        if let Some(device) = &self.device {
            let (value, written) = (device.to_string(), format!("--device {device}"));
            overrides.push(Override::from_flag("device", &value, written));
        }
        if let Some(gpus) = &self.gpus {
            overrides.push(Override::from_flag("device", &format!("cuda:{}", gpus.first()), format!("--gpus {gpus}")));
        }
        if let Some(fold) = self.fold {
            overrides.push(Override::from_flag("data.fold", &fold.to_string(), format!("--fold {fold}")));
        }
        Ok(overrides)
    }
}

impl ConfigArguments {
    /// The settings from flags.
    ///
    /// # Errors
    /// When a `--set` is not of the form `KEY=VALUE`.
    pub fn overrides(&self) -> Result<Vec<Override>, ConfigError> {
        parse_settings(&self.settings)
    }
}

fn parse_settings(settings: &[String]) -> Result<Vec<Override>, ConfigError> {
    settings.iter().map(|text| Override::parse(text)).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
