#!/usr/bin/env python3
"""Write the fixtures that hold stoker against timm and PyTorch.

    pip install -r scripts/requirements.txt
    python scripts/timm_fixtures.py

One module of `scripts/fixtures/` makes each kind; its head says what stands in the files.

Every reference is computed in f64 from inputs that f32 holds exactly and rounded once, so that a file carries no
rounding error of PyTorch's own; PyTorch in f32 must agree with it, or nothing is written.
"""

import argparse
from pathlib import Path

import torch

from fixtures.checkpoint import write_checkpoint
from fixtures.convnext import CONVNEXT_MODELS, write_convnext
from fixtures.layers import write_layer_decay
from fixtures.losses import write_losses
from fixtures.optimizers import write_optimizers
from fixtures.swin import SWIN_MODELS, write_bias_tables, write_state_dicts, write_swin
from fixtures.trainer import write_trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--root", type=Path, default=root, help="write below this folder (default: the repository)")
    root = parser.parse_args().root

    torch.set_num_threads(1)  # one order of summation, so that a second run writes the same bytes
    for model in CONVNEXT_MODELS:
        write_convnext(root / "models/convnext/tests/fixtures", model)
    for model in SWIN_MODELS:
        write_swin(root / "models/swin/tests/fixtures", model)
    write_bias_tables(root / "models/swin/tests/fixtures")
    write_state_dicts(root / "models/swin/tests/fixtures")
    write_checkpoint(root / "crates/checkpoint/tests/fixtures")
    write_layer_decay(root / "crates/stoker/tests/fixtures/layer_decay.json")
    write_losses(root / "crates/trainer/tests/fixtures")
    write_optimizers(root / "crates/trainer/tests/fixtures")
    write_trainer(root / "crates/trainer/tests/fixtures")


if __name__ == "__main__":
    main()
