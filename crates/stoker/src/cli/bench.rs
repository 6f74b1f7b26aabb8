use clap::{Args, Subcommand};
use memory_planner::{ParsePrecisionError, Precision};

use crate::config::DeviceRequest;

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Hold predicted memory against what training steps really take.
    #[command(after_help = MEMORY_EXAMPLES)]
    Memory(BenchMemoryArguments),
    /// Print what models keep of a sample between forward and backward pass.
    #[command(after_help = ACTIVATIONS_EXAMPLES)]
    Activations(BenchActivationsArguments),
}

const ACTIVATIONS_EXAMPLES: &str = "\
Examples:
  stoker bench activations convnext
  stoker bench activations swin_tiny --img-size 128 --parts

Told from the recorded graph of a training step in f32, laid out as on a card: no device is asked
and nothing is computed. `scripts/activations_against_pytorch.py` puts PyTorch's figure beside it.";

/// Which models.
#[derive(Debug, Args)]
pub struct BenchActivationsArguments {
    /// Part of a name or of a family's name; all are recorded without
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
    /// Side of the images, instead of each model's own
    #[arg(long, value_name = "PIXELS")]
    pub img_size: Option<usize>,
    /// Tell the layers too, the largest first
    #[arg(long)]
    pub parts: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const MEMORY_EXAMPLES: &str = "\
Examples:
  stoker bench memory
  stoker bench memory --models convnext_tiny --sizes 224 --batches 8,16 --device cuda:0
  stoker bench memory --models convnext_atto --precisions fp32,bf16

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
    /// `fp32`, `bf16` or `fp16`, separated by commas
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', default_value = "fp32", value_parser = parse_precision)]
    pub precisions: Vec<Precision>,
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

fn parse_precision(text: &str) -> Result<Precision, String> {
    text.parse().map_err(|error: ParsePrecisionError| error.to_string())
}

/// Where the steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryBenchDevice {
    /// The CPU or a card.
    Of(DeviceRequest),
    /// Any device with WebGPU, software ones among them.
    #[cfg(feature = "wgpu")]
    Wgpu,
}
