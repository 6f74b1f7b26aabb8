#!/usr/bin/env python3
"""Hold exported models against `stoker forward` and timm: ONNX files in onnxruntime, weights bit by bit.

    pip install -r scripts/requirements.txt
    cargo build --release
    python scripts/check_onnx.py
    python scripts/check_onnx.py --filter swin_tiny --img-size 160
    python scripts/check_onnx.py --run experiments/train/latest

For each registered name that has one of the filters in it, timm makes the model with seeded random weights and saves
them; `stoker export` writes them as ONNX and as safetensors. `onnx.checker` must accept the graph with its shapes
inferred, onnxruntime must give the logits of `stoker forward` and of timm for each size of a batch, and the weights
must be timm's to the bit. With `--run`, a trained run is exported instead, and its metadata are printed.

Errors are the largest difference, of logits whose largest value is printed. Exits with 1 if one is above its limit.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import timm
import torch
from safetensors.torch import load_file, save_file

from check_full_size import Case, create_model, draw_images, draw_weights, list_models, print_row, run_timm
from check_full_size import select_models

LIMIT = 1e-4
BATCHES = (1, 2, 5)
# One of each family, and of those that differ: both generations, TensorFlow's padding, fused blocks.
DEFAULT = "convnext_atto,convnextv2_atto,swin_tiny,efficientnet_b0,tf_efficientnet_b0,efficientnetv2_rw_t"
HEADER = ["model", "size", "nodes", "file", "largest logit", "to stoker, batch 1", "batch 2", "batch 5", "to timm"]


def main() -> int:
    arguments = parse_arguments()
    torch.set_num_threads(2)
    versions = f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, timm {timm.__version__}"
    print(f"{versions}, f32, CPU\n")
    print_row(HEADER)
    print_row(["---"] * len(HEADER))
    if arguments.run:
        return 0 if check_run(arguments) else 1
    models = select_models(list_models(arguments.stoker), arguments.filter)
    if not models:
        print(f"error: no model's name has `{arguments.filter}` in it", file=sys.stderr)
        return 2
    wrong = [model["name"] for model in models if not check_model(model, arguments)]
    return 1 if wrong else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--filter", default=DEFAULT, help=f"parts of names or aliases (default: {DEFAULT})")
    parser.add_argument("--img-size", type=int, help="side of the images (default: the published one)")
    parser.add_argument("--run", type=Path, help="a trained run instead")
    parser.add_argument("--stoker", type=Path, default=root / "target/release/stoker", help="the binary")
    return parser.parse_args()


# --- One model --------------------------------------------------------------------------------------------------------


def check_model(entry: dict, arguments: argparse.Namespace) -> bool:
    """Whether all is within its limit."""
    name, side = entry["name"], arguments.img_size or entry["image_size"]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        state_dict = draw_weights(create_model(name), seed=len(name))
        save_file(state_dict, weights)
        source = ["--weights", weights, "--model", name]
        failures = check_graph(name, side, source, source, Path(folder), arguments.stoker, state_dict)
        failures += check_weights(source, side, state_dict, Path(folder), arguments.stoker)
    return tell(failures)


def check_run(arguments: argparse.Namespace) -> bool:
    source, of_forward = ["--run", arguments.run], ["--weights", arguments.run]
    with tempfile.TemporaryDirectory() as folder:
        first = export(source, "onnx", Path(folder) / "first.onnx", arguments.stoker)
        side, _ = json.loads(properties_of(first)["image_size"])
        failures = check_graph(arguments.run.name, side, source, of_forward, Path(folder), arguments.stoker, None)
        for key, value in properties_of(first).items():
            print(f"{key}: {value}")
    return tell(failures)


def tell(failures: list[str]) -> bool:
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return not failures


def check_graph(
    name: str,
    side: int,
    source: list,
    of_forward: list,
    folder: Path,
    stoker: Path,
    state_dict: dict[str, torch.Tensor] | None,
) -> list[str]:
    """What is wrong with the ONNX file; prints its row."""
    path = export([*source, "--img-size", str(side)], "onnx", folder / "model.onnx", stoker)
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    channels = session.get_inputs()[0].shape[1]
    errors, largest, to_timm = [], 0.0, None
    for batch in BATCHES:
        images = draw_images((batch, channels, side, side), torch.Generator().manual_seed(batch))
        (found,) = session.run(["logits"], {"image": images.numpy()})
        expected = forward(of_forward, images.numpy(), folder, stoker)
        errors.append(difference(found, expected))
        largest = max(largest, float(np.abs(expected).max()))
        if state_dict is not None and batch == 2:
            logits = run_timm(Case(name, (side, side), "eval"), images, state_dict, torch.float32)["logits"]
            to_timm = difference(found, logits.numpy())
    size = f"{path.stat().st_size / 2**20:.1f} MiB"
    row = [name, f"{side}x{side}", str(len(graph.graph.node)), size, f"{largest:.2f}"]
    print_row(row + [f"{error:.1e}" for error in errors] + ["" if to_timm is None else f"{to_timm:.1e}"])
    checked = [*zip((f"batch {batch}" for batch in BATCHES), errors), ("timm", to_timm or 0.0)]
    return [f"{name}, {what}: logits are off by {error:.1e}" for what, error in checked if not error <= LIMIT]


def check_weights(
    source: list, side: int, state_dict: dict[str, torch.Tensor], folder: Path, stoker: Path
) -> list[str]:
    """What is wrong with the safetensors file. At another size Swin's tables are resized, and not compared."""
    saved = load_file(export([*source, "--img-size", str(side)], "safetensors", folder / "again.safetensors", stoker))
    if saved.keys() != state_dict.keys():
        return [f"tensors were lost or added: {sorted(saved.keys() ^ state_dict.keys())}"]
    same_shape = {key for key in saved if saved[key].shape == state_dict[key].shape}
    lost = [key for key in saved.keys() - same_shape if not key.endswith("relative_position_bias_table")]
    changed = [key for key in same_shape if not torch.equal(saved[key], state_dict[key])]
    return [f"`{key}` came back changed" for key in sorted(lost + changed)]


# --- Programs ---------------------------------------------------------------------------------------------------------


def export(source: list, form: str, output: Path, stoker: Path) -> Path:
    run([stoker, "export", *source, "--format", form, "--output", output, "--overwrite"])
    return output


def forward(source: list, images: np.ndarray, folder: Path, stoker: Path) -> np.ndarray:
    np.save(folder / "x.npy", images)
    run([stoker, "forward", *source, "--device", "cpu", "--input", folder / "x.npy", "--output", folder / "y.npy"])
    return np.load(folder / "y.npy")


def run(command: list) -> None:
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(ended.stderr)


def properties_of(path: Path) -> dict[str, str]:
    return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Infinite where shapes differ."""
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")


if __name__ == "__main__":
    sys.exit(main())
