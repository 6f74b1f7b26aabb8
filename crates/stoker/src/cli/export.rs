use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::cli::Checkpoint;

/// What `export` is asked.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Run folder to take the weights from
    #[arg(
        long,
        value_name = "RUN",
        default_value = "experiments/train/latest",
        value_hint = ValueHint::DirPath,
        conflicts_with = "weights"
    )]
    pub run: PathBuf,
    /// Weights of the best or of the last epoch
    #[arg(long, default_value = "best", conflicts_with = "weights")]
    pub checkpoint: Checkpoint,
    /// Weights of another program: a `.safetensors` file, or a state dict of PyTorch (`.pth`)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub weights: Option<PathBuf>,
    /// Architecture of those weights, by its timm name; `stoker models` lists them
    #[arg(long, value_name = "NAME", requires = "weights")]
    pub model: Option<String>,
    /// Side of the images, which the ONNX graph is made for [default: what the run was trained at; of
    /// other weights, what the architecture was published for]
    #[arg(
        long = "img-size",
        visible_alias = "image-size",
        value_name = "PIXELS",
        value_parser = clap::value_parser!(u32).range(1..=4096)
    )]
    pub image_size: Option<u32>,
    /// What to write
    #[arg(long)]
    pub format: ExportFormat,
    /// File to write
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// Replace the output when it exists, instead of refusing
    #[arg(long)]
    pub overwrite: bool,
}

/// What a model is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// weights alone, under timm's names
    Safetensors,
    /// the whole model as a graph, for onnxruntime, TensorRT and the like
    Onnx,
}

/// What `export` does, for its help.
pub const EXPORT_ABOUT: &str = "\
Write a trained model for other programs.

As ONNX it is one file: the graph of the forward pass in f32, for any number of images at once, with
the weights under timm's names. Its input `image` is [batch, C, H, W], normalised; its output
`logits` is [batch, classes], without softmax. How images are brought to that, and what the classes
are called, is in the file's metadata: model, image_size, channels, color, resize, interpolation,
value_range, mean, std, classes; for letterbox the bars' letterbox_color in bytes, for center_crop the
crop_share of the shorter side; and the temperature that `stoker calibrate` fitted to these weights
without augmentation, which divides the logits before softmax. Of weights of another program, only
what they say is there.

As safetensors it is what timm's `load_state_dict` takes, averaged weights where the run has them.";

/// Commands to paste.
pub const EXPORT_EXAMPLES: &str = "\
Examples:
  stoker export --format onnx --output model.onnx
  stoker export --run experiments/train/latest --checkpoint last --format safetensors --output w.safetensors
  stoker export --model convnext_tiny --weights timm.safetensors --format onnx --output convnext.onnx

In Python: `onnxruntime.InferenceSession(\"model.onnx\").run([\"logits\"], {\"image\": x})`, and
`session.get_modelmeta().custom_metadata_map[\"classes\"]`.

Exit codes: 0 done, 1 the work failed, 2 the request was wrong.";
