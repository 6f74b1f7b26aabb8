#!/usr/bin/env python3
"""Put what PyTorch keeps of a sample for the backward pass beside what stoker keeps.

    pip install -r scripts/requirements.txt
    stoker bench activations --json > ours.json
    python scripts/activations_against_pytorch.py ours.json

PyTorch's side is timm's model in train mode, eager and in f32, seen through `torch.autograd.graph.saved_tensors_hooks`:
the distinct storages that autograd saves, parameters and buffers left out. Bytes of a sample are the difference of a
batch of three and one of two.

Autograd saves the same tensors on every device. `--device meta`, the default, computes nothing, so that the largest
model takes a second; `--device cpu` really runs, and `--check NAME` compares the two.
"""

import argparse
import json
from pathlib import Path

import timm
import torch

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path, help="what `stoker bench activations --json` printed")
    parser.add_argument("--device", choices=["meta", "cpu"], default="meta", help="where PyTorch's model runs")
    parser.add_argument("--check", action="append", default=[], metavar="NAME", help="run on the CPU too, and compare")
    arguments = parser.parse_args()

    rows = []
    for row in json.loads(arguments.ours.read_text()):
        name, side = row["model"], row["image_size"]
        theirs = bytes_per_sample(name, side, arguments.device)
        if name in arguments.check and (on_cpu := bytes_per_sample(name, side, "cpu")) != theirs:
            raise SystemExit(f"error: {name} saves {on_cpu} bytes a sample on the CPU, {theirs} on {arguments.device}")
        rows.append((name, side, row["bytes_per_sample"], theirs))
    print_table(rows)


def print_table(rows: list[tuple[str, int, int, int]]) -> None:
    print("| model | image | stoker, MiB a sample | PyTorch, MiB a sample | ratio |")
    print("|---|---|---|---|---|")
    for name, side, ours, theirs in rows:
        print(f"| {name} | {side} | {ours / MIB:.1f} | {theirs / MIB:.1f} | {ours / theirs:.3f} |")
    above = [name for name, _, ours, theirs in rows if ours > theirs]
    print(f"\n{len(rows)} models, {len(above)} above PyTorch" + (f": {', '.join(above)}" if above else ""))


def bytes_per_sample(name: str, side: int, device: str) -> int:
    with torch.device(device):
        model = timm.create_model(name, **at_image_size(name, side)).train()
    return saved_bytes(model, side, 3, device) - saved_bytes(model, side, 2, device)


def at_image_size(name: str, side: int) -> dict[str, int]:
    """Swin is laid out for one size; the other families take any."""
    return {"img_size": side} if name.startswith("swin") else {}


def saved_bytes(model: torch.nn.Module, side: int, batch: int, device: str) -> int:
    """Bytes of the distinct storages that a forward pass over a batch leaves for the backward pass."""
    lasting = {storage_of(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if storage_of(tensor) not in lasting:
            saved[storage_of(tensor)] = tensor.untyped_storage()  # held, so that no other comes to lie there
        return tensor

    images = torch.empty(batch, 3, side, side, device=device).fill_(0.5)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = model(images)
    assert logits.shape == (batch, 1000)
    return sum(storage.nbytes() for storage in saved.values())


def storage_of(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata  # the storage's own address: on the meta device there is no data to point to


if __name__ == "__main__":
    main()
