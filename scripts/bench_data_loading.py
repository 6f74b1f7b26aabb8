#!/usr/bin/env python3
"""Measure `stoker bench data` beside torchvision's DataLoader: same images, transforms, batch size and workers.

    pip install -r scripts/requirements.txt torchvision
    cargo build --release
    python scripts/bench_data_loading.py --images data/sign_digits/train --image-size 64
    python scripts/bench_data_loading.py --draw 1600x1200 --count 120 --image-size 224

Both decode, crop at random, flip and hand out batches of bytes; torchvision does so with `ImageFolder`, Pillow and
`PILToTensor`, that is without the conversion to normalised floats that usually follows. Runs alternate, so that whatever
else the machine does hits both; the table has the medians, the range of runs and the ratio of the medians. The first
run of each, which reads files from the disk, does not count. CPU time is that of all threads and processes, the start of
stoker included and that of Python not; it depends less than images a second on what else runs.
"""

import argparse
import json
import os
import resource
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


Speed = tuple[float, float]  # images per second, milliseconds of CPU time an image


def torchvision_speed(loader: DataLoader, epochs: int) -> Speed:
    """Workers are there already, as they are from the second epoch on."""
    start, busy, images = time.perf_counter(), cpu_seconds(loader), 0
    for _ in range(epochs):
        for pixels, _ in loader:
            images += len(pixels)
    return images / (time.perf_counter() - start), 1e3 * (cpu_seconds(loader) - busy) / images


def cpu_seconds(loader: DataLoader) -> float:
    """Of this process and the loader's workers so far."""
    seconds = time.process_time()
    for worker in getattr(loader._iterator, "_workers", []):
        user, system = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        seconds += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return seconds


def children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def stoker_speed(arguments: argparse.Namespace, images: Path, settings: list[str]) -> Speed:
    command = [str(arguments.stoker), "bench", "data", "--json", "--train", str(images)]
    command += ["--image-size", str(arguments.image_size), "--batch-size", str(arguments.batch_size)]
    command += ["--workers", str(arguments.workers), "--epochs", str(arguments.epochs)]
    for setting in [*arguments.set, *settings]:
        command += ["--set", setting]
    busy = children_seconds()
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result["images_per_second"], 1e3 * (children_seconds() - busy) / result["images"]


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


def row(what: str, name: str, arguments: argparse.Namespace, ours: list[Speed], theirs: list[Speed]) -> str:
    (our_speeds, our_times), (their_speeds, their_times) = zip(*ours), zip(*theirs)

    def cell(speeds: tuple[float, ...]) -> str:
        return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"

    def of_medians(upper: tuple[float, ...], lower: tuple[float, ...]) -> str:
        return f"{statistics.median(upper) / statistics.median(lower):.1f}"

    times = f"{statistics.median(our_times):.2f} | {statistics.median(their_times):.2f}"
    cells = [what, f"{arguments.image_size} px", name, cell(our_speeds), cell(their_speeds)]
    cells += [of_medians(our_speeds, their_speeds), times, of_medians(their_times, our_times)]
    return f"| {' | '.join(cells)} |"


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
    heads = ["images", "to", "transforms"]
    heads += [f"{who}, {what}" for what in ("images/s", "CPU ms an image") for who in ("stoker", "torchvision")]
    heads.insert(5, "ratio")
    print(f"| {' | '.join([*heads, 'ratio'])} |\n|{'---|' * (len(heads) + 1)}")
    if arguments.images:
        return measure(arguments, arguments.images, str(arguments.images))
    with tempfile.TemporaryDirectory() as folder:
        width, height = map(int, arguments.draw.split("x"))
        draw_photographs(Path(folder), width, height, arguments.count)
        measure(arguments, Path(folder), f"drawn, {arguments.draw}")


if __name__ == "__main__":
    main()
