#!/usr/bin/env python3
"""Measure `stoker bench data` beside torchvision's DataLoader: same images, transforms, batch size and workers.

    pip install -r scripts/requirements.txt torchvision
    cargo build --release
    python scripts/bench_data_loading.py --images data/sign_digits/train --image-size 64
    python scripts/bench_data_loading.py --draw 1600x1200 --count 120 --image-size 224

Both decode, crop at random, flip and hand out batches of bytes; torchvision does so with `ImageFolder`, Pillow and
`PILToTensor`, that is without the conversion to normalised floats that usually follows. Runs alternate, so that whatever
else the machine does hits both; the table has the medians, the range of runs and the ratio of the medians. The first
run of each, which reads files from the disk, does not count.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

# The defaults of `augment` in a configuration.
CROP = transforms.RandomResizedCrop
SCALE, RATIO = (0.7, 1.0), (0.8, 1.25)

RECIPES = {
    "crop, flip": ([], []),
    "crop, flip, colour": (
        ["augment.brightness=0.4", "augment.contrast=0.4", "augment.saturation=0.4"],
        [transforms.ColorJitter(0.4, 0.4, 0.4)],
    ),
    "crop, flip, RandAugment": (["augment.rand_augment.num_ops=2"], "rand-m9-n2-mstd0.5"),
}


def torchvision_loader(images: Path, size: int, batch_size: int, workers: int, extra) -> DataLoader:
    if isinstance(extra, str):
        from timm.data.auto_augment import rand_augment_transform

        extra = [rand_augment_transform(extra, {"img_mean": (124, 116, 104)})]
    steps = [CROP(size, scale=SCALE, ratio=RATIO, antialias=True), transforms.RandomHorizontalFlip()]
    dataset = ImageFolder(str(images), transforms.Compose([*steps, *extra, transforms.PILToTensor()]))
    return DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, persistent_workers=True)


def torchvision_speed(loader: DataLoader, epochs: int) -> float:
    """Images per second over `epochs`. Workers are there already, as they are from the second epoch on."""
    start, images = time.perf_counter(), 0
    for _ in range(epochs):
        for pixels, _ in loader:
            images += len(pixels)
    return images / (time.perf_counter() - start)


def stoker_speed(arguments: argparse.Namespace, images: Path, settings: list[str]) -> float:
    command = [str(arguments.stoker), "bench", "data", "--json", "--train", str(images)]
    command += ["--image-size", str(arguments.image_size), "--batch-size", str(arguments.batch_size)]
    command += ["--workers", str(arguments.workers), "--epochs", str(arguments.epochs)]
    for setting in [*arguments.set, *settings]:
        command += ["--set", setting]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output)["images_per_second"]


def draw_photographs(folder: Path, width: int, height: int, count: int) -> None:
    """Jpegs of quality 90 with the detail of photographs: noise of every scale, that of 1 / f."""
    generator = np.random.default_rng(0)
    for index in range(count):
        values = np.zeros((height, width, 3))
        for scale in (256, 128, 64, 32, 16, 8, 4, 2):
            noise = generator.normal(0, 4 * scale**0.5, (height // scale + 2, width // scale + 2, 3))
            planes = [Image.fromarray(noise[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
            values += np.stack([np.asarray(plane) for plane in planes], axis=-1)
        path = folder / ("even", "odd")[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(values + 128, 0, 255).astype(np.uint8)).save(path, quality=90)


def measure(arguments: argparse.Namespace, images: Path, what: str) -> None:
    for name, (settings, extra) in RECIPES.items():
        loader = torchvision_loader(images, arguments.image_size, arguments.batch_size, arguments.workers, extra)
        ours, theirs = [], []
        for _ in range(arguments.rounds + 1):
            ours.append(stoker_speed(arguments, images, settings))
            theirs.append(torchvision_speed(loader, arguments.epochs))
        print(row(what, name, arguments, ours[1:], theirs[1:]), flush=True)


def row(what: str, name: str, arguments: argparse.Namespace, ours: list[float], theirs: list[float]) -> str:
    def cell(speeds: list[float]) -> str:
        return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"

    ratio = statistics.median(ours) / statistics.median(theirs)
    size = f"{arguments.image_size} px, {arguments.workers} workers"
    return f"| {what} | {size} | {name} | {cell(ours)} | {cell(theirs)} | {ratio:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, help="a folder with a folder per class")
    source.add_argument("--draw", metavar="WIDTHxHEIGHT", help="draw jpegs of this size and use them")
    parser.add_argument("--count", type=int, default=120, help="how many to draw (default: 120)")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1, help="in each run (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="runs that count, of each (default: 5)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for stoker alone")
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--stoker", type=Path, default=root / "target/release/stoker")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    print("| images | to | transforms | stoker, images/s | torchvision, images/s | ratio |\n|---|---|---|---|---|---|")
    if arguments.images:
        return measure(arguments, arguments.images, str(arguments.images))
    with tempfile.TemporaryDirectory() as folder:
        width, height = map(int, arguments.draw.split("x"))
        draw_photographs(Path(folder), width, height, arguments.count)
        measure(arguments, Path(folder), f"drawn, {arguments.draw}")


if __name__ == "__main__":
    main()
