use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};
use memory_planner::Checkpointing;

use crate::config::DeviceRequest;

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Hold predicted memory against what training steps really take.
    #[command(after_help = MEMORY_EXAMPLES)]
    Memory(BenchMemoryArguments),
    /// Time a forward pass and a training step of one model.
    #[command(after_help = STEP_EXAMPLES)]
    Step(BenchStepArguments),
}

const MEMORY_EXAMPLES: &str = "\
Examples:
  stoker bench memory
  stoker bench memory --models convnext_tiny --sizes 224 --batches 8,16 --device cuda:0

On the CPU the prediction is that of `train`, from real steps at batch sizes 1 to 8, and the real
figure is the heap's peak. On a card the predictions are those of the captured graph and of the dry
run, and the real figure is what the memory pools hold reserved.";

/// The grid of steps.
#[derive(Debug, Args)]
pub struct BenchMemoryArguments {
    /// Architectures, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = MODELS)]
    pub models: Vec<String>,
    /// Image sizes, separated by commas
    #[arg(long, value_name = "PIXELS", value_delimiter = ',', default_value = "64,96")]
    pub sizes: Vec<usize>,
    /// Batch sizes, separated by commas
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "1,2,4,8,12,16")]
    pub batches: Vec<usize>,
    /// `cpu`, `cuda:N`; `wgpu` where it is compiled
    #[arg(long, default_value = "cpu", value_parser = BenchDevice::parse)]
    pub device: BenchDevice,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const MODELS: &str = "convnext_atto,convnext_femto,convnext_pico,\
    swin_tiny_patch4_window7_224,swin_small_patch4_window7_224,swin_base_patch4_window7_224,\
    efficientnet_b0,efficientnet_b1,efficientnet_b2";

const STEP_EXAMPLES: &str = "\
Examples:
  stoker bench step --model convnext_tiny --batch 4
  stoker bench step --model swin_base --batch 2 --checkpointing none,balanced --rounds 7 --json

Each round has one forward pass (evaluation) and one optimizer step (forward, backward, clipping,
AdamW) with each way of checkpointing, in turn, so that a machine that is busy at times is so for
all of them. The first step of each is not counted. Peak memory is what one step takes in all:
weights, optimizer, gradients, activations.";

/// One model's steps.
#[derive(Debug, Args)]
pub struct BenchStepArguments {
    /// Architecture
    #[arg(long, value_name = "NAME", default_value = "convnext_tiny")]
    pub model: String,
    /// Image size [default: that of the published weights]
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<usize>,
    /// Images at once
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub batch: usize,
    /// What steps keep for their backward pass, separated by commas: `none`, `balanced`
    #[arg(long, value_name = "WAYS", value_delimiter = ',', default_value = "none")]
    pub checkpointing: Vec<Checkpointing>,
    /// Times that each is measured
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub rounds: usize,
    /// `cpu`, `cuda:N`; `wgpu` where it is compiled
    #[arg(long, default_value = "cpu", value_parser = BenchDevice::parse)]
    pub device: BenchDevice,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Where the steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchDevice {
    /// The CPU or a card.
    Of(DeviceRequest),
    /// Any device with WebGPU, software ones among them.
    #[cfg(feature = "wgpu")]
    Wgpu,
}
