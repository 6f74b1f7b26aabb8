//! What `plan` is asked: its flags and their help. What they amount to, and which of them contradict each other, is in `task`.

mod error;
mod exclusions;
mod numbers;
mod task;

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use clap::{ArgAction, Args, ValueEnum, ValueHint};

pub use error::PlanArgumentsError;
pub use task::{AbsentCard, Destination, InferenceRequest, PlanTask, Target};

use crate::config::{DeviceRequest, Precision, Rounding, Tta};

/// What `plan` is asked, as it was written; [`PlanArguments::check`] makes a [`PlanTask`] of it.
#[derive(Debug, Clone, Default, Args)]
pub struct PlanArguments {
    /// Configuration file to plan for, and to write the plan into unless a flag below says otherwise
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present = "model")]
    pub config: Option<PathBuf>,
    /// Architecture instead of the configuration's; without `--config`, plan for it with every other setting at its default, and
    /// without `--effective-batch-size` for steps of the batch that is recommended
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Side of the images in pixels, instead of the configuration's
    #[arg(long, visible_alias = "image-size", value_name = "PIXELS", allow_negative_numbers = true)]
    pub img_size: Option<String>,
    /// What the step computes in, instead of the configuration's
    #[arg(long, value_name = "FORMAT")]
    pub precision: Option<Precision>,
    /// Put a value over the file's, as in `train.ema_decay=0.999`; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub settings: Vec<String>,

    /// Plan for a card that is not here, such as `rtx3060`
    #[arg(long, value_name = "CARD", help_heading = CARD)]
    pub gpu: Option<String>,
    /// Plan for a card of this size, such as `6GiB`; with `--gpu`, for that card with less memory than it is sold with
    #[arg(long, value_name = "SIZE", help_heading = CARD, allow_hyphen_values = true)]
    pub gpu_memory: Option<String>,
    /// Plan for these cards of this machine, such as `0,1`: each of them, and one plan that fits the smallest
    #[arg(long, value_name = "LIST", help_heading = CARD, allow_negative_numbers = true)]
    pub gpu_ids: Option<String>,
    /// Plan for every card of the catalogue, and print a table
    #[arg(long, help_heading = CARD)]
    pub all_gpus: bool,
    /// `auto`, `cpu`, `cuda` or `cuda:N` [default: what the configuration says]
    #[arg(long, help_heading = CARD)]
    pub device: Option<DeviceRequest>,
    /// Where the memory of a step is learnt from [default: auto]
    #[arg(long, value_name = "SOURCE", help_heading = CARD)]
    pub source: Option<PlanSource>,

    /// Share of the free memory that is left unused, such as 0.15 [default: by the card's tier]
    #[arg(long, value_name = "SHARE", help_heading = BUDGET, allow_negative_numbers = true)]
    pub safety_margin: Option<String>,
    /// Share of the device's memory that the run may take at most, such as 0.9 [default: 0.9 of a card, 1 on the CPU]
    #[arg(long, value_name = "SHARE", help_heading = BUDGET, allow_negative_numbers = true)]
    pub memory_fraction: Option<String>,

    /// Fewest images computed at once; when they do not fit, the plan fails and says what would help
    #[arg(long, value_name = "COUNT", help_heading = BATCH, allow_negative_numbers = true)]
    pub min_batch_size: Option<String>,
    /// Most images computed at once
    #[arg(long, value_name = "COUNT", help_heading = BATCH, allow_negative_numbers = true)]
    pub max_batch_size: Option<String>,
    /// Images per optimizer step, instead of the configuration's; the plan keeps it exactly
    #[arg(long, value_name = "COUNT", help_heading = BATCH, allow_negative_numbers = true)]
    pub effective_batch_size: Option<String>,
    /// How the learning rate follows when the effective batch changes; with `--gpu-ids`, what it is for all cards is told [default: none]
    #[arg(long, value_name = "RULE", help_heading = BATCH)]
    pub learning_rate_scaling: Option<LearningRateScaling>,
    /// How the batch that fits is rounded down [default: what the configuration says]
    #[arg(long, value_name = "RULE", help_heading = BATCH, value_parser = rounding())]
    pub rounding: Option<Rounding>,
    /// Plan prediction instead of training: images computed at once, without gradients
    #[arg(long, help_heading = BATCH)]
    pub inference: bool,
    /// With `--inference`: the views of each image [default: what the configuration says]
    #[arg(long, value_name = "VIEWS", help_heading = BATCH)]
    pub tta: Option<Tta>,

    /// Leave the configuration as it is, and print the plan only
    #[arg(long, help_heading = OUTPUT)]
    pub test_only: bool,
    /// Write the plan into a copy of the configuration, and leave the original as it is
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = OUTPUT)]
    pub save_config: Option<PathBuf>,
    /// With `--all-gpus`: save the table, from which `train` takes the line of the card it runs on: by `memory.team_settings`, or else
    /// `team_settings.yaml` beside the configuration, or else `configs/team_settings.yaml`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = OUTPUT)]
    pub write_team_settings: Option<PathBuf>,
    /// Write the footprint and its timeline as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = OUTPUT)]
    pub save_profile: Option<PathBuf>,
    /// Draw the memory over the step by role, as SVG
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = OUTPUT)]
    pub save_picture: Option<PathBuf>,
    /// Print the whole memory analysis: card, model, batch, levels, precision
    #[arg(long, help_heading = OUTPUT)]
    pub report: bool,
    /// Print JSON instead of text
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

const CARD: &str = "Card";
const BUDGET: &str = "Budget";
const BATCH: &str = "Batch";
const OUTPUT: &str = "Output";

/// The long description of `plan`.
pub const PLAN_ABOUT: &str = "\
Find the largest batch that fits, and write it into the configuration.

Learns how much memory one training step takes, on the card that is here or worked out for one that
is not, and plans the micro-batch and the gradient accumulation so that the effective batch size is
kept exactly. Every choice is printed with its reason.

The configuration is updated in place: comments and order stay, and the original is kept beside it
as `FILE.bak`. `--save-config` writes a copy instead, and `--test-only` changes no configuration;
files that `--save-profile` and `--save-picture` name are written all the same. What `--model`,
`--img-size` and `--set` change is written along with the plan, which would not hold without it.";

/// The examples of `plan`, and its exit codes.
pub const PLAN_EXAMPLES: &str = "\
Examples:
  stoker plan --config mine.yaml --test-only            what would fit on the device that is here
  stoker plan --config mine.yaml                        write it into `mine.yaml`
  stoker plan --config mine.yaml --gpu rtx3060 --save-config mine_3060.yaml
  stoker plan --config mine.yaml --gpu-memory 6GiB --safety-margin 0.1 --test-only --report
  stoker plan --model convnext_tiny --img-size 384 --gpu t4
  stoker plan --config mine.yaml --all-gpus --write-team-settings configs/team_settings.yaml
  stoker plan --config mine.yaml --inference --tta essential --test-only

Next: `stoker train --config FILE`.
Exit codes: 0 done, 1 the plan failed, 2 the request was wrong, 130 interrupted.";

/// Where the memory of a step is learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PlanSource {
    /// the best that there is: a dry run on a card that is here, measured on the CPU, else captured
    #[default]
    Auto,
    /// the operations of the step, recorded without computing; needs no card
    Captured,
    /// the step on the card, with its allocator and without its launches
    DryRun,
    /// some real steps on the device
    Measured,
}

/// How the learning rate follows the effective batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LearningRateScaling {
    /// it stays as it is
    #[default]
    None,
    /// by the square root of the change, as is usual for Adam
    Sqrt,
    /// by the change itself, as is usual for SGD
    Linear,
}

/// The names that configurations have for it, and what they mean.
fn rounding() -> impl clap::builder::TypedValueParser<Value = Rounding> {
    PossibleValuesParser::new([
        PossibleValue::new("multiple_of_4").alias("multiple-of-4").help("to a multiple of 4"),
        PossibleValue::new("power_of_two").alias("power-of-two").help("to a power of two"),
    ])
    .map(|name| match name.replace('-', "_").as_str() {
        "power_of_two" => Rounding::PowerOfTwo,
        _ => Rounding::MultipleOf4,
    })
}

#[cfg(test)]
mod tests;
