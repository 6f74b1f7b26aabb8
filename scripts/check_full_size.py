#!/usr/bin/env python3
"""Hold every full-size model against timm: logits and the gradient of every parameter, in eval and in train mode.

    pip install -r scripts/requirements.txt
    cargo build --release
    python scripts/check_full_size.py --filter convnext_tiny,swin_base_384,efficientnet_b0

For each registered name that has one of the filters in it (all without a filter), timm makes the model with seeded
random weights and saves them; `stoker forward` runs the same batch through them, at the default size and at another
that is not square (for Swin also with windows that the weights were not made for, as `img_size=(H, W)` lays them out).
It prints a table of errors, and exits with 1 if one is above its limit, or if weights that went through stoker are not
timm's to the bit.

Errors are the largest difference over the largest value of the reference, in f32 on both sides. The denominator of a
gradient is at least `GRADIENT_FLOOR` of the largest gradient of the model: some are zero by arithmetic and noise by
rounding, such as that of a shift in front of a batch norm, which takes it away again. Where a difference is above its
limit all the same, timm in f64 is asked whose rounding it is: that row says `f64`, and stoker must be within the same
limits of it. `--double` takes timm in f64 for every row's reference, and prints how far timm in f32 is from it, beside
stoker.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.swin_transformer import checkpoint_filter_fn as filter_swin
from torch import Tensor, nn

LOGITS_LIMIT = 1e-4
GRADIENT_LIMIT = 1e-3
# A bias that stands on the other side of a norm is off by what rounding leaves of sums as large as its neighbours'.
GRADIENT_FLOOR = 1e-3
MODES = ("eval", "train")
HEADER = ["model", "size", "mode", "logits", "worst gradient", "of"]
DOUBLE_HEADER = [*HEADER, "timm's own logits", "worst gradient", "of"]

Tensors = dict[str, Tensor]


@dataclass
class Case:
    """One model at one size in one mode."""

    name: str
    size: tuple[int, int]
    mode: str


def main() -> int:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    models = select_models(list_models(arguments.stoker), arguments.filter)
    if not models:
        print(f"error: no model's name has `{arguments.filter}` in it", file=sys.stderr)
        return 2
    print(f"timm {timm.__version__}, torch {torch.__version__.split('+')[0]}, batch {arguments.batch}, f32, CPU")
    header = DOUBLE_HEADER if arguments.double else HEADER
    print_row(header)
    print_row(["---"] * len(header))
    wrong = [model["name"] for model in models if not check_model(model, arguments)]
    return 1 if wrong else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--filter", help="parts of names or aliases, separated by commas (default: every model)")
    parser.add_argument("--stoker", type=Path, default=root / "target/release/stoker", help="the binary")
    parser.add_argument("--device", default="cpu", help="where stoker computes; timm stays on the CPU")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--mode", choices=MODES, help="one mode (default: both)")
    parser.add_argument("--double", action="store_true", help="timm in f64 is the reference")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    return parser.parse_args()


def list_models(stoker: Path) -> list[dict]:
    printed = subprocess.run([stoker, "models", "--json"], check=True, capture_output=True, text=True).stdout
    return json.loads(printed)


def select_models(models: list[dict], filters: str | None) -> list[dict]:
    """Those with a filter in their name or an alias; a filter that is a whole name or alias means that one alone."""
    if filters is None:
        return models
    names = {model["name"]: [model["name"], *model["aliases"]] for model in models}
    wanted: set[str] = set()
    for part in filters.split(","):
        whole = {name for name, own in names.items() if part in own}
        wanted |= whole or {name for name, own in names.items() if any(part in other for other in own)}
    return [model for model in models if model["name"] in wanted]


# --- One model --------------------------------------------------------------------------------------------------------


def check_model(entry: dict, arguments: argparse.Namespace) -> bool:
    """Whether all is within its limit; what is not is told at once, for the next size may take minutes."""
    name, side = entry["name"], entry["image_size"]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        state_dict = draw_weights(create_model(name), seed=len(name))
        save_file(state_dict, weights)
        all_right = True
        for size in [(side, side), other_size(name, side)]:
            for mode in [arguments.mode] if arguments.mode else MODES:
                failures = check_case(Case(name, size, mode), state_dict, weights, arguments)
                for failure in failures:
                    print(f"error: {failure}", file=sys.stderr)
                all_right &= not failures
    return all_right


def create_model(name: str, **arguments: object) -> nn.Module:
    """Without chance: some models come with stochastic depth."""
    return timm.create_model(name, drop_rate=0.0, drop_path_rate=0.0, **arguments)


def other_size(name: str, side: int) -> tuple[int, int]:
    """Neither square nor the default; for Swin whole patches, and windows of its own in the last stage."""
    if name.startswith("swin"):
        return (side - 64, side + 32)
    return (side - 45, side + 14)


@torch.no_grad()
def draw_weights(model: nn.Module, seed: int) -> Tensors:
    """Away from the initialisation, where layer scales, biases and statistics hide mistakes.

    Whatever scales a residual branch is drawn open, yet small: in evaluation no statistics hold the sums of a deep
    model's blocks, and where they grow from block to block, so do roundings, until f32 tells nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    branch_scales = list_branch_scales(model)
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(3)
        elif name.endswith("gamma") or name in branch_scales:
            tensor.uniform_(0.1, 0.3, generator=generator)
        elif name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("relative_position_bias_table"):
            tensor.normal_(0.0, 1.0, generator=generator)
        elif tensor.ndim == 1:
            tensor.normal_(0.0, 0.1, generator=generator)
        else:
            tensor.normal_(0.0, tensor[0].numel() ** -0.5, generator=generator)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def list_branch_scales(model: nn.Module) -> set[str]:
    """The weight of the last norm of each of EfficientNet's blocks that are added to their input."""
    scales = set()
    for path, block in model.named_modules():
        if getattr(block, "has_skip", False):
            norms = [name for name, child in block.named_children() if isinstance(child, nn.BatchNorm2d)]
            scales.add(f"{path}.{norms[-1]}.weight")
    return scales


def check_case(case: Case, state_dict: Tensors, weights: Path, arguments: argparse.Namespace) -> list[str]:
    generator = torch.Generator().manual_seed(sum(case.size))
    images = draw_images((arguments.batch, 3, *case.size), generator)
    started = time.monotonic()
    found = run_stoker(case, images, weights, arguments)
    in_stoker = time.monotonic() - started
    started = time.monotonic()
    in_f32 = run_timm(case, images, state_dict, torch.float32)
    in_timm = time.monotonic() - started
    label = f"{case.name} {case.size[0]}x{case.size[1]} {case.mode}"
    print(f"{label}: stoker {in_stoker:.1f} s, timm {in_timm:.1f} s, start-up included", file=sys.stderr)

    reference = run_timm(case, images, state_dict, torch.float64) if arguments.double else in_f32
    logits_error, worst, gradient_error = compare(found, reference)
    mode = case.mode
    if not arguments.double and not (logits_error <= LOGITS_LIMIT and gradient_error <= GRADIENT_LIMIT):
        print(f"{label}: logits {logits_error:.1e}, gradient of {worst} {gradient_error:.1e} off f32", file=sys.stderr)
        logits_error, worst, gradient_error = compare(found, run_timm(case, images, state_dict, torch.float64))
        mode += ", f64"
    row = [case.name, f"{case.size[0]}x{case.size[1]}", mode]
    row += [f"{logits_error:.1e}", f"{gradient_error:.1e}", f"`{worst}`"]
    if arguments.double:
        own_logits, own_worst, own_gradient = compare(in_f32, reference)
        row += [f"{own_logits:.1e}", f"{own_gradient:.1e}", f"`{own_worst}`"]
    print_row(row)

    failures = []
    if not logits_error <= LOGITS_LIMIT:
        failures.append(f"logits are off by {logits_error:.1e}, allowed {LOGITS_LIMIT:.0e}")
    if not gradient_error <= GRADIENT_LIMIT:
        failures.append(f"the gradient of `{worst}` is off by {gradient_error:.1e}, allowed {GRADIENT_LIMIT:.0e}")
    failures += list_changes(found["saved"], in_f32["saved"], case.mode)
    return [f"{label}: {failure}" for failure in failures]


def draw_images(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Coarse blocks under fine noise: pooling would wash out noise alone and leave every sample the same."""
    batch, channels, height, width = shape
    blocks = torch.randn((batch, channels, 5, 5), generator=generator)
    blocks = blocks[:, :, torch.arange(height) * 5 // height][:, :, :, torch.arange(width) * 5 // width]
    return blocks + 0.3 * torch.randn(shape, generator=generator)


# --- Both sides -------------------------------------------------------------------------------------------------------


def run_stoker(case: Case, images: Tensor, weights: Path, arguments: argparse.Namespace) -> dict:
    folder = weights.parent
    paths = {key: folder / f"{key}.safetensors" for key in ("gradients", "saved")}
    np.save(folder / "x.npy", images.numpy())
    command = [arguments.stoker, "forward", "--model", case.name, "--weights", weights, "--device", arguments.device]
    command += ["--input", folder / "x.npy", "--output", folder / "y.npy"]
    command += ["--gradients", paths["gradients"], "--save-weights", paths["saved"]]
    command += ["--train"] if case.mode == "train" else []
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(ended.stderr)
    return {"logits": torch.from_numpy(np.load(folder / "y.npy"))} | {key: load_file(at) for key, at in paths.items()}


def run_timm(case: Case, images: Tensor, state_dict: Tensors, dtype: torch.dtype) -> dict:
    is_swin = case.name.startswith("swin")
    model = create_model(case.name, **({"img_size": case.size} if is_swin else {}))
    model.load_state_dict(filter_swin(state_dict, model) if is_swin else state_dict)
    model.to(dtype).train(case.mode == "train")
    logits = model(images.to(dtype))
    index = torch.arange(logits.numel(), dtype=torch.float64).view_as(logits)
    (logits * index.cos().float().to(dtype)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"logits": logits.detach(), "gradients": gradients, "saved": model.state_dict()}


# --- Comparing --------------------------------------------------------------------------------------------------------


def relative_error(found: Tensor, reference: Tensor, floor: float = 0.0) -> float:
    """Not a number where a value of `found` is none, and so above every limit."""
    difference = (found.double() - reference.double()).abs().max().item()
    return difference / max(reference.abs().max().item(), floor)


def compare(found: dict, reference: dict) -> tuple[float, str, float]:
    """The error of the logits, the name of the parameter whose gradient is furthest off, and by how much."""
    worst, gradient_error = worst_gradient(found["gradients"], reference["gradients"])
    return relative_error(found["logits"], reference["logits"]), worst, gradient_error


def worst_gradient(found: Tensors, reference: Tensors) -> tuple[str, float]:
    if found.keys() != reference.keys():
        raise SystemExit(f"error: parameters differ: {sorted(found.keys() ^ reference.keys())}")
    floor = GRADIENT_FLOOR * max(gradient.abs().max().item() for gradient in reference.values())
    errors = {name: relative_error(found[name], gradient, floor) for name, gradient in reference.items()}
    worst = max(errors, key=lambda name: float("inf") if errors[name] != errors[name] else errors[name])
    return worst, errors[worst]


def list_changes(saved: Tensors, expected: Tensors, mode: str) -> list[str]:
    """Weights that went through stoker: the same to the bit, but for statistics that a training pass has moved."""
    if saved.keys() != expected.keys():
        return [f"tensors were lost or added: {sorted(saved.keys() ^ expected.keys())}"]
    problems = []
    for name, tensor in expected.items():
        moved = mode == "train" and name.endswith(("running_mean", "running_var"))
        # Swin's tables for other windows are interpolated, and not copied.
        resized = name.endswith("relative_position_bias_table") and not torch.equal(saved[name], tensor)
        if saved[name].shape != tensor.shape:
            problems.append(f"`{name}` came back with the shape {list(saved[name].shape)}, not {list(tensor.shape)}")
        elif moved or resized:
            error = relative_error(saved[name], tensor)
            if not error <= LOGITS_LIMIT:
                problems.append(f"`{name}` is off by {error:.1e} after the pass")
        elif not torch.equal(saved[name], tensor):
            problems.append(f"`{name}` came back changed")
    return problems


def print_row(cells: list[str]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
