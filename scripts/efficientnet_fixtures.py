#!/usr/bin/env python3
"""Write the fixtures that hold EfficientNet against timm.

    pip install -r scripts/requirements.txt
    python scripts/efficientnet_fixtures.py

In `models/efficientnet/tests/fixtures/`, for three test-size models (colour, grey with TensorFlow's padding, V2):

    NAME_weights.safetensors    exactly timm's `state_dict`, running statistics included, every tensor seeded random
    NAME_cases.safetensors      CASE.input                  u8  [B, C, H, W], the model sees (input - 128) / 64
                                CASE.MODE.logits            f32 [B, classes], MODE being `eval` or `train`
                                CASE.MODE.gradient.PARAM    f32, of `sum(logits[i] * cos(i))`, i the flat row-major
                                                            index into the logits, without drop-path and dropout; of the
                                                            cases that the model names, to keep the files small
                                after.STATISTIC             f32 [C], the running statistic after a training forward pass
                                                            over each case in turn, as `CASES` lists them
    NAME_steps.safetensors      STATISTIC                   f32 [C], after a step of gradient descent over each case in
                                                            turn: a training forward pass, the gradients of the sum above,
                                                            and every parameter less its gradient times `RATE`

Every reference is computed in f64 from inputs that f32 holds exactly and rounded once; PyTorch in f32 must agree with
it, or nothing is written.
"""

import argparse
import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import timm
import torch
from safetensors.torch import save_file
from timm.models import efficientnet as reference
from torch import Tensor, nn

from fixtures.common import NUM_CLASSES, Tensors, draw_pixels, relative_error, require, round_to_f32

LOGITS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
STATISTIC_TOLERANCE = 5e-6
# Gradients and what they move come on top.
STEPS_TOLERANCE = 5e-5
# Behind a training batch norm some gradients are zero by arithmetic and noise by rounding: those of a shift that the next
# norm takes away. An error is therefore also measured against the case's largest gradient, times this.
GRADIENT_FLOOR = 1e-2

STEM_GAIN = 0.05

# Of the steps: what they move shows in the statistics of the next one.
RATE = 2.0**-18

CASES = {
    "square": (3, 48, 48),
    "wide": (3, 32, 64),
    # Strides do not divide it, and TensorFlow's padding differs from layer to layer.
    "uneven": (2, 71, 58),
}


@dataclass
class TestModel:
    """A timm model scaled down to test size."""

    name: str
    seed: int
    in_chans: int
    generate: Callable[..., nn.Module]
    arguments: dict
    gradients: dict[str, str]
    """The case whose gradients are kept, by mode."""

    def create(self) -> nn.Module:
        return self.generate(self.name, in_chans=self.in_chans, num_classes=NUM_CLASSES, **self.arguments)


# The generators take a variant's name only to look its default configuration up.
MODELS = {
    "rgb": TestModel(
        name="efficientnet_b0",
        seed=1,
        in_chans=3,
        generate=reference._gen_efficientnet,
        arguments={"channel_multiplier": 0.1, "depth_multiplier": 0.3},
        gradients={"train": "uneven"},
    ),
    "grey": TestModel(
        name="tf_efficientnet_b0",
        seed=2,
        in_chans=1,
        generate=reference._gen_efficientnet,
        arguments={"channel_multiplier": 0.05, "depth_multiplier": 0.3, "pad_type": "same", "bn_eps": 1e-3},
        gradients={"eval": "square", "train": "uneven"},
    ),
    "fused": TestModel(
        name="efficientnetv2_s",
        seed=3,
        in_chans=3,
        generate=reference._gen_efficientnetv2_s,
        arguments={"channel_multiplier": 0.1, "depth_multiplier": (0.5, 0.5, 0.25, 0.1, 0.1, 0.1)},
        gradients={"eval": "uneven", "train": "wide"},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(__file__).resolve().parent.parent / "models/efficientnet/tests/fixtures"
    parser.add_argument("--folder", type=Path, default=folder, help="write there (default: the model's fixtures)")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(1)  # one order of summation, so that a second run writes the same bytes
    for name, spec in MODELS.items():
        write_model(folder, name, spec)


def write_model(folder: Path, name: str, spec: TestModel) -> None:
    generator = torch.Generator().manual_seed(spec.seed)
    model = spec.create()
    randomize(model, generator)
    shapes = {case: (batch, spec.in_chans, height, width) for case, (batch, height, width) in CASES.items()}
    pixels = {case: draw_pixels(shape, generator) for case, shape in shapes.items()}

    tensors = {f"{case}.input": drawn for case, drawn in pixels.items()}
    found = compute(model, pixels, spec.gradients, torch.float64)
    check(name, compute(model, pixels, spec.gradients, torch.float32), found)
    tensors |= round_to_f32(found)
    steps = after_steps(model, pixels, torch.float64)
    check(name, after_steps(model, pixels, torch.float32), steps)
    still = {f"steps.{key.removeprefix('after.')}": tensor for key, tensor in found.items() if key.startswith("after.")}
    moved = max(relative_error(steps[key], tensor) for key, tensor in still.items())
    require(moved > 100 * STEPS_TOLERANCE, f"{name}: steps move statistics by {moved:.1e} only")

    about = {"model": spec.name, "in_chans": spec.in_chans} | spec.arguments
    write(folder / f"{name}_weights.safetensors", model.state_dict(), about)
    write(folder / f"{name}_cases.safetensors", tensors, about)
    steps = {key.removeprefix("steps."): tensor for key, tensor in round_to_f32(steps).items()}
    write(folder / f"{name}_steps.safetensors", steps, about)


@torch.no_grad()
def randomize(model: nn.Module, generator: torch.Generator) -> None:
    """Far from the initialisation, where scales, shifts and statistics are constants that hide a mistake.

    The stem's output is small, and its norm's running variance with it: there an epsilon shows.
    """
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
            if name == "bn1.running_var":
                tensor.mul_(STEM_GAIN**2)
        elif tensor.ndim == 1:
            tensor.normal_(0.0, 0.2, generator=generator)
        else:
            gain = STEM_GAIN if name.startswith("conv_stem") else 1.0  # by fan-in
            tensor.normal_(0.0, gain * tensor[0].numel() ** -0.5, generator=generator)


def compute(model: nn.Module, pixels: Tensors, gradients: dict[str, str], dtype: torch.dtype) -> Tensors:
    inputs = {case: (drawn.to(dtype) - 128) / 64 for case, drawn in pixels.items()}
    found: Tensors = {}
    for mode in ("eval", "train"):
        for case, images in inputs.items():
            # A copy: a training pass moves the running statistics.
            run = copy.deepcopy(model).to(dtype).train(mode == "train")
            results = run_case(run, images, with_gradients=gradients.get(mode) == case)
            found |= {f"{case}.{mode}.{key}": tensor for key, tensor in results.items()}

    steps = copy.deepcopy(model).to(dtype).train()
    with torch.no_grad():
        for images in inputs.values():
            steps(images)
    running = {name: tensor for name, tensor in steps.named_buffers() if not name.endswith("num_batches_tracked")}
    return found | {f"after.{name}": tensor for name, tensor in running.items()}


def after_steps(model: nn.Module, pixels: Tensors, dtype: torch.dtype) -> Tensors:
    """The running statistics after three steps of gradient descent."""
    steps = copy.deepcopy(model).to(dtype).train()
    for drawn in pixels.values():
        steps.zero_grad()
        run_case(steps, (drawn.to(dtype) - 128) / 64, with_gradients=True)
        with torch.no_grad():
            for parameter in steps.parameters():
                parameter -= RATE * parameter.grad
    running = {name: tensor for name, tensor in steps.named_buffers() if not name.endswith("num_batches_tracked")}
    return {f"steps.{name}": tensor for name, tensor in running.items()}


def run_case(model: nn.Module, images: Tensor, with_gradients: bool) -> Tensors:
    logits = model(images)
    found = {"logits": logits.detach()}
    if with_gradients:
        index = torch.arange(logits.numel(), dtype=torch.float64).view_as(logits)
        (logits * index.cos().to(logits.dtype)).sum().backward()
        found |= {f"gradient.{name}": parameter.grad for name, parameter in model.named_parameters()}
    return found


def check(name: str, in_f32: Tensors, found: Tensors) -> None:
    tolerances = {"logits": LOGITS_TOLERANCE, "gradient": GRADIENT_TOLERANCE, "after": STATISTIC_TOLERANCE}
    tolerances["steps"] = STEPS_TOLERANCE
    worst: dict[str, float] = {}
    for key, tensor in found.items():
        kind = next(kind for kind in tolerances if kind in key)
        error = relative_error(in_f32[key], tensor)
        if kind == "gradient":
            prefix = key.split(".gradient.")[0]
            largest = max(other.abs().max().item() for at, other in found.items() if at.startswith(f"{prefix}.gradient"))
            own = tensor.abs().max().item()
            error *= own / max(own, GRADIENT_FLOOR * largest)
        require(error < tolerances[kind], f"{name}: {key} in f32 is off by {error:.1e}")
        worst[kind] = max(worst.get(kind, 0.0), error)
    print(f"{name}: PyTorch in f32 is within " + ", ".join(f"{error:.0e} ({kind})" for kind, error in worst.items()))


def write(path: Path, tensors: Tensors, about: dict) -> None:
    versions = {"torch": torch.__version__.split("+")[0], "timm": timm.__version__}
    # One metadata entry: safetensors writes several in no fixed order, and a second run should change nothing.
    fixture = json.dumps({"script": "scripts/efficientnet_fixtures.py"} | versions | about)
    save_file({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, path, {"fixture": fixture})
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size / 1024:.1f} KiB")


if __name__ == "__main__":
    main()
