#!/usr/bin/env python3
"""Load a stoker checkpoint into timm, strictly: no tensor may be missing, left over or of another shape.

As for `load_state_dict(strict=True)`, a batch norm's `num_batches_tracked` may be missing: files from before PyTorch
0.4.1 have none, and neither have stoker's checkpoints.

    pip install -r scripts/requirements.txt
    python scripts/check_timm_load.py experiments/train/latest/checkpoints/best.safetensors \\
        --model convnext_atto --num-classes 8

Prints one line that starts with `OK` and exits with 0, or names every tensor that does not fit and exits with 1.
What else the file's header holds is ignored, as timm ignores it. A model that timm does not know by name is given by
the arguments that make it: `--model-kwargs "depths=(1,1,2,1)" "dims=(8,16,24,32)"`.
"""

import argparse
import sys
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.utils import ParseKwargs
from torch import Tensor, nn


def main() -> int:
    arguments = parse_arguments()
    try:
        model = timm.create_model(
            arguments.model,
            num_classes=arguments.num_classes,
            in_chans=arguments.in_chans,
            **arguments.model_kwargs,
        )
        tensors = load_file(arguments.checkpoint)
    except (OSError, RuntimeError, TypeError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    problems = list_mismatches(model, tensors) or list_changes(model, tensors)
    if problems:
        print(f"error: `{arguments.checkpoint}` does not fit timm's `{arguments.model}`", file=sys.stderr)
        print("\n".join(f"  {problem}" for problem in problems), file=sys.stderr)
        return 1
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"OK: timm {timm.__version__} loads `{arguments.model}`, {len(tensors)} tensors, {parameters:,} parameters")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a .safetensors file that stoker wrote")
    parser.add_argument("--model", required=True, help="timm's name, such as convnext_atto")
    parser.add_argument("--num-classes", type=int, required=True)
    parser.add_argument("--in-chans", type=int, default=3)
    parser.add_argument("--model-kwargs", nargs="*", action=ParseKwargs, default={}, metavar="KEY=VALUE")
    return parser.parse_args()


def list_mismatches(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Every name or shape that differs, all of them at once and one a line."""
    expected = model.state_dict()
    missing = {name for name in expected.keys() - tensors.keys() if not name.endswith("num_batches_tracked")}
    problems = [f"missing `{name}` {list(expected[name].shape)}" for name in missing]
    problems += [f"unknown `{name}` {list(tensors[name].shape)}" for name in tensors.keys() - expected.keys()]
    for name in expected.keys() & tensors.keys():
        found, wanted = list(tensors[name].shape), list(expected[name].shape)
        if found != wanted:
            problems.append(f"`{name}` has the shape {found}, timm's is {wanted}")
    return sorted(problems)


def list_changes(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Load, then compare: what timm holds must be what the file says, and finite."""
    model.load_state_dict(tensors, strict=True)
    loaded = model.state_dict()
    problems = []
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            problems.append(f"`{name}` holds values that are not finite")
        elif not torch.equal(loaded[name], tensor.to(loaded[name].dtype)):
            problems.append(f"`{name}` changed while loading")
    return problems


if __name__ == "__main__":
    sys.exit(main())
