use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};

use crate::config::DeviceRequest;

/// What `forward` is asked.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("start").args(["weights", "random_seed"]).required(true)))]
pub struct ForwardArguments {
    /// Architecture, by its timm name; `stoker models` lists them [default: what the weights say, if
    /// a run saved them]
    #[arg(long, value_name = "NAME", required_unless_present = "weights")]
    pub model: Option<String>,
    /// Weights: a `.safetensors` file, a state dict of PyTorch (`.pth`), or a run folder
    #[arg(long, value_name = "FILE|RUN", value_hint = ValueHint::AnyPath)]
    pub weights: Option<PathBuf>,
    /// Draw fresh weights from this seed, as a new run does
    #[arg(long, value_name = "SEED")]
    pub random_seed: Option<u64>,
    /// Images as the model sees them, normalised: a `.npy` file, [B, C, H, W], floats
    #[arg(long, value_name = "X.NPY", value_hint = ValueHint::FilePath)]
    pub input: PathBuf,
    /// File for the logits: `.npy`, [B, classes], f32
    #[arg(long, value_name = "Y.NPY", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// File for the gradients of `sum(logits[i] * cos(i))`: safetensors, f32, timm's names and shapes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub gradients: Option<PathBuf>,
    /// File for the weights after the pass: safetensors, f32, timm's names and shapes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub save_weights: Option<PathBuf>,
    /// Training mode: batch norms use the batch's statistics and move the running ones; nothing is
    /// dropped at random
    #[arg(long)]
    pub train: bool,
    /// Number of classes: of fresh weights [default: 1000]; of a file's it must be the same
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub num_classes: Option<u32>,
    /// `auto`, `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "auto")]
    pub device: DeviceRequest,
}

/// What `forward` does, for its help.
pub const FORWARD_ABOUT: &str = "\
Run one batch of numbers through a model, to compare with PyTorch.

Reads a batch and weights, and writes the logits, and with --gradients the gradient of every
parameter of the scalar `sum(logits[i] * cos(i))`, where i counts the logits row by row from 0. The
number of channels and of classes are those of the weights. Images may have any height and width
that the architecture takes; Swin is laid out for them as by timm's `create_model(name,
img_size=(H, W))`, and its bias tables are resized where that takes other windows.

With --train the pass is a training step's: batch norms normalise by the batch. Stochastic depth and
dropout are off (probability 0), so that the result does not depend on chance.";

/// Commands to paste.
pub const FORWARD_EXAMPLES: &str = "\
Examples:
  stoker forward --model convnext_tiny --weights w.safetensors --input x.npy --output y.npy
  stoker forward --model efficientnet_b0 --weights w.pth --input x.npy --output y.npy --train \\
      --gradients g.safetensors
  stoker forward --weights experiments/train/latest --input x.npy --output y.npy

In Python: `numpy.save(\"x.npy\", x.numpy())`, and
`loss = (y * torch.arange(y.numel()).view_as(y).double().cos().float()).sum()`.";
