use clap::{Args, Subcommand};

use crate::config::DeviceRequest;

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Hold predicted memory against what training steps really take.
    #[command(after_help = MEMORY_EXAMPLES)]
    Memory(BenchMemoryArguments),
    /// Time the plan of every architecture for a card that is not here.
    #[command(after_help = PLANS_EXAMPLES)]
    Plans(BenchPlansArguments),
}

const PLANS_EXAMPLES: &str = "\
Examples:
  stoker bench plans
  stoker bench plans swin --gpu rtx3060";

/// Which plans are timed.
#[derive(Debug, Args)]
pub struct BenchPlansArguments {
    /// Part of a name or of a family's name; all are planned without
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
    /// Card of the catalogue
    #[arg(long, value_name = "NAME", default_value = "h200")]
    pub gpu: String,
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
    #[arg(long, default_value = "cpu", value_parser = MemoryBenchDevice::parse)]
    pub device: MemoryBenchDevice,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const MODELS: &str = "convnext_atto,convnext_femto,convnext_pico,\
    swin_tiny_patch4_window7_224,swin_small_patch4_window7_224,swin_base_patch4_window7_224,\
    efficientnet_b0,efficientnet_b1,efficientnet_b2";

/// Where the steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryBenchDevice {
    /// The CPU or a card.
    Of(DeviceRequest),
    /// Any device with WebGPU, software ones among them.
    #[cfg(feature = "wgpu")]
    Wgpu,
}
