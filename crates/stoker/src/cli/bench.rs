use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{ArgAction, Args, Subcommand, ValueHint};
use inference::{Preset, UnknownPreset};
use memory_planner::{Checkpointing, ParsePrecisionError, Precision};

use crate::config::{AutoCount, ConfigError, DeviceRequest, Override};

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Hold predicted memory against what training steps really take.
    #[command(after_help = MEMORY_EXAMPLES)]
    Memory(BenchMemoryArguments),
    /// Measure how many images a second are decoded, varied and put into batches.
    #[command(after_help = DATA_EXAMPLES)]
    Data(BenchDataArguments),
    /// Time a forward pass and a training step of one model.
    #[command(after_help = STEP_EXAMPLES)]
    Step(BenchStepArguments),
    /// Time predictions: images a second, latency and peak memory, with and without test-time augmentation.
    #[command(after_help = INFER_EXAMPLES)]
    Infer(BenchInferArguments),
    /// Time each operation of the models alone, beside what the device copies and multiplies.
    #[command(after_help = KERNELS_EXAMPLES)]
    Kernels(BenchKernelsArguments),
    /// Print what models keep of a sample between forward and backward pass.
    #[command(after_help = ACTIVATIONS_EXAMPLES)]
    Activations(BenchActivationsArguments),
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

On the CPU the prediction is that of `train`, from real steps at batch sizes 1 to 16, and the real
figure is the heap's peak. On a card the predictions are those of the captured graph and of the dry
run, and the real figure is what the memory pools hold reserved, with what the driver says that the
card filled meanwhile. A line is a model at one image size, computed in one way.";

/// The grid of steps.
#[derive(Debug, Args)]
pub struct BenchMemoryArguments {
    /// Architectures, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = MODELS)]
    pub models: Vec<String>,
    /// Image sizes, separated by commas
    #[arg(long, value_name = "PIXELS", value_delimiter = ',', default_value = "64,128")]
    pub sizes: Vec<usize>,
    /// Batch sizes, separated by commas
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "1,2,4,8,12,16")]
    pub batches: Vec<usize>,
    /// What steps keep for their backward pass, separated by commas
    #[arg(long, value_name = "WAYS", value_delimiter = ',', default_value = "none,balanced,segments")]
    pub checkpointing: Vec<Checkpointing>,
    /// `fp32`, `bf16` or `fp16`, separated by commas
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', default_value = "fp32", value_parser = parse_precision)]
    pub precisions: Vec<Precision>,
    /// `cpu`, `cuda:N`; `wgpu` where it is compiled
    #[arg(long, default_value = "cpu", value_parser = BenchDevice::parse)]
    pub device: BenchDevice,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const MODELS: &str = "convnext_atto,convnext_femto,convnext_nano,\
    swin_tiny_patch4_window7_224,swin_small_patch4_window7_224,swin_base_patch4_window7_224,\
    efficientnet_b0,efficientnet_b1,efficientnet_b2";

const DATA_EXAMPLES: &str = "\
Examples:
  stoker bench data --train data/train --image-size 224
  stoker bench data --config configs/train.yaml --workers 4 --epochs 3
  stoker bench data --train data/train --set augment.rand_augment.num_ops=2

Nothing is trained, and nothing goes to a device: this is what the loader could feed.";

/// What is loaded.
#[derive(Debug, Args)]
pub struct BenchDataArguments {
    /// Configuration file to take images and augmentation from; defaults without
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present = "train")]
    pub config: Option<PathBuf>,
    /// Training images: `data.train`
    #[arg(long, value_name = "FOLDER|CSV", value_hint = ValueHint::AnyPath)]
    pub train: Option<String>,
    /// Side of the square that images become, in pixels: `model.image_size`
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<String>,
    /// Images in a batch: `train.effective_batch_size`
    #[arg(long, value_name = "COUNT")]
    pub batch_size: Option<String>,
    /// Threads: `data.workers` [default: what the configuration says, or a thread a core]
    #[arg(long, value_name = "COUNT")]
    pub workers: Option<String>,
    /// Passes over the images
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub epochs: u64,
    /// Put a value over the configuration's, as in `augment.erase=0.5`; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub settings: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const STEP_EXAMPLES: &str = "\
Examples:
  stoker bench step --model convnext_tiny --batch 4
  stoker bench step --model swin_base --batch 2 --checkpointing none,segments --rounds 7 --json
  stoker bench step --model convnext_tiny --batch 32 --device cuda:0 --launches

Each round has one forward pass (evaluation) and one optimizer step (forward, backward, clipping,
AdamW) with each way of checkpointing, in turn, so that a machine that is busy at times is so for
all of them. The first step of each is not counted. Peak memory is what one step takes in all:
weights, optimizer, gradients, activations.

With `--launches`, kernels are counted by name in a dry run, which tunes for real; bytes are told
from the recorded graph.";

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
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    pub batch: usize,
    /// What steps keep for their backward pass, separated by commas: `none`, `balanced`,
    /// `segments`
    #[arg(long, value_name = "WAYS", value_delimiter = ',', default_value = "none")]
    pub checkpointing: Vec<Checkpointing>,
    /// `fp32`, `bf16` or `fp16`
    #[arg(long, value_name = "FORMAT", default_value = "fp32", value_parser = parse_precision)]
    pub precision: Precision,
    /// Count what a step with averaged weights launches, in a dry run on a card, instead of timing it
    #[arg(long)]
    pub launches: bool,
    /// Count what the same step launches in Burn's own operations, too
    #[arg(long, requires = "launches")]
    pub composed: bool,
    /// Times that each is measured
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    pub rounds: usize,
    /// `cpu`, `cuda:N`; `wgpu` where it is compiled
    #[arg(long, default_value = "cpu", value_parser = BenchDevice::parse)]
    pub device: BenchDevice,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const KERNELS_EXAMPLES: &str = "\
Examples:
  stoker bench kernels --batch 4,16
  stoker bench kernels depthwise --device cuda:0 --batch 64 --precision bf16
  stoker bench kernels swin_base --sizes 224,384 --json

Depthwise convolutions, norms, GELU, products, window attention, squeeze-excite, residual sums, the loss,
pixels made numbers and AdamW, at the shapes of convnext_base, swin_base and efficientnet_b4; each backward
pass has all gradients of the operation in it. Windows are of 7 cells a side where that tiles the map, else
of the most up to 12. Bytes count every tensor once, read or written, weights and their gradients among
them: of a kernel that reads one twice, the share of the copy rate is lower by as much. Both rates are
measured first, on the device.

There is a table for each image size and batch; JSON is one list of them.
`scripts/bench_kernels_against_pytorch.py` puts PyTorch's times beside them.";

/// Which operations are timed.
#[derive(Debug, Args)]
pub struct BenchKernelsArguments {
    /// Part of `OPERATION of MODEL`; all are timed without
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
    /// Image sizes that the maps are of, separated by commas
    #[arg(long, value_name = "PIXELS", value_delimiter = ',', default_value = "224", value_parser = RangedU64ValueParser::<usize>::new().range(32..=4096))]
    pub sizes: Vec<usize>,
    /// Images at once, separated by commas
    #[arg(long = "batch", value_name = "COUNTS", value_delimiter = ',', default_value = "8", value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    pub batches: Vec<usize>,
    /// What maps are stored in: `fp32`, `bf16` or `fp16`
    #[arg(long, value_name = "FORMAT", default_value = "fp32", value_parser = parse_precision)]
    pub precision: Precision,
    /// Times that each is measured
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    pub rounds: usize,
    /// `cpu`, `cuda:N`; `wgpu` where it is compiled
    #[arg(long, default_value = "cpu", value_parser = BenchDevice::parse)]
    pub device: BenchDevice,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const INFER_EXAMPLES: &str = "\
Examples:
  stoker bench infer
  stoker bench infer --models convnext_tiny --sizes 224,288 --tta none,essential --batch 8
  stoker bench infer --models swin_tiny --precisions fp32,bf16 --device cuda:0 --json

Each image goes the way that `predict` takes, from bytes to merged probabilities; reading files is not
in it. Every case is run once a round, all cases in turn, so that a machine that is busy at times is so
for all of them; the first run of each is not counted. Latency is that of a whole batch with all its
views: the time within which half, 90 % and 99 % of the rounds were done. Batch 1 is always among the
cases; the other is what `predict` would plan, unless it is given.

`scripts/bench_inference_against_pytorch.py` puts PyTorch beside it.";

/// Which predictions are timed.
#[derive(Debug, Args)]
pub struct BenchInferArguments {
    /// Architectures, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = INFER_MODELS)]
    pub models: Vec<String>,
    /// Image sizes, separated by commas
    #[arg(long, value_name = "PIXELS", value_delimiter = ',', default_value = "224")]
    pub sizes: Vec<usize>,
    /// `none`, `legacy`, `essential` or `comprehensive`, separated by commas
    #[arg(long, value_name = "PRESETS", value_delimiter = ',', default_value = "none,essential", value_parser = parse_preset)]
    pub tta: Vec<Preset>,
    /// `fp32`, `bf16` or `fp16`, separated by commas
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', default_value = "fp32", value_parser = parse_precision)]
    pub precisions: Vec<Precision>,
    /// Images at once beside one: `auto` is what `predict` plans
    #[arg(long, value_name = "COUNT", default_value = "auto")]
    pub batch: AutoCount,
    /// Times that each is measured
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    pub rounds: usize,
    /// `auto`, `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "cpu")]
    pub device: DeviceRequest,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const INFER_MODELS: &str = "convnext_tiny,swin_tiny_patch4_window7_224,efficientnet_b0";

impl BenchDataArguments {
    /// The settings from flags.
    ///
    /// # Errors
    /// When a `--set` is not of the form `KEY=VALUE`.
    pub fn overrides(&self) -> Result<Vec<Override>, ConfigError> {
        let settings = self.settings.iter().map(|text| Override::parse(text));
        let flags = [
            ("data.train", "--train", &self.train),
            ("model.image_size", "--image-size", &self.image_size),
            ("train.effective_batch_size", "--batch-size", &self.batch_size),
            ("data.workers", "--workers", &self.workers),
        ];
        let of_flag = |(key, flag, value): (&str, &str, &Option<String>)| {
            value.as_ref().map(|value| Ok(Override::from_flag(key, value, format!("{flag} {value}"))))
        };
        settings.chain(flags.into_iter().filter_map(of_flag)).collect()
    }
}

fn parse_preset(text: &str) -> Result<Preset, String> {
    text.parse().map_err(|error: UnknownPreset| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

fn parse_precision(text: &str) -> Result<Precision, String> {
    text.parse().map_err(|error: ParsePrecisionError| error.to_string())
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
