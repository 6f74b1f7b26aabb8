#!/usr/bin/env python3
"""Hold the peak that `stoker predict` plans against the one that it measures: few images and many, small ones and photographs, one huge among small.

    pip install -r scripts/requirements.txt
    cargo build --release
    python scripts/check_prediction_memory.py
    python scripts/check_prediction_memory.py --models convnext_tiny:224 --tta none

Draws the sets of images, trains each model for one epoch on sixteen of them, and predicts each set without and with views. Prints a table of what
`predict` says of its peak at the end: "at most" is a bound, for an image that is much larger than the rest may come at a better moment. Exits with 1
where a peak is more than 8 % off its prediction, or above its bound.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

LIMIT = 0.08
# Images of each set, and of which sizes in turn.
SETS = {
    "3 small": (3, [(640, 480)]),
    "10 small": (10, [(640, 480)]),
    "300 small": (300, [(640, 480)]),
    "three sizes": (120, [(640, 480), (1600, 1200), (3000, 2000)]),
    "photographs": (40, [(4000, 3000)]),
    "one huge": (151, [(640, 480)] * 150 + [(9000, 6000)]),
}
PEAK = re.compile(r"peak memory: predicted (at most )?([\d.]+) (\w+), measured ([\d.]+) (\w+)")
UNITS = {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}


def main():
    arguments = parse_arguments()
    print("| model | image | TTA | set | predicted | measured | error |")
    print("|---|---|---|---|---|---|---|")
    is_within = True
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        draw(folder / "train", 16, [(96, 96)], "ab")
        for name, (count, sizes) in SETS.items():
            draw(folder / name, count, sizes)
        for model in arguments.models.split(","):
            run = train(arguments.stoker, folder, *model.split(":"))
            for tta in arguments.tta.split(","):
                for name in SETS:
                    is_within &= check(arguments.stoker, folder, run, model, tta, name)
    sys.exit(0 if is_within else 1)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stoker", default="target/release/stoker")
    parser.add_argument("--models", default="convnext_atto:64,convnext_tiny:224,swin_tiny:224,efficientnet_b0:224")
    parser.add_argument("--tta", default="none,essential")
    return parser.parse_args()


def draw(folder, count, sizes, classes=("",)):
    """Smooth noise: a photograph's pixels, at a moderate size of file."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    for index in range(count):
        place = folder / classes[index % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.roll(small, index, axis=1)).resize(sizes[index % len(sizes)], Image.BICUBIC)
        image.save(place / f"{index:04}.jpg", quality=92)


def train(stoker, folder, model, size):
    config = folder / f"{model}.yaml"
    config.write_text(
        f"output: {folder}/runs\ndata: {{train: {folder}/train}}\nmodel: {{name: {model}, image_size: {size}}}\n"
        "train: {epochs: 1, warmup_epochs: 0, effective_batch_size: 4}\n"
    )
    subprocess.run([stoker, "train", "--config", config], check=True, capture_output=True)
    return next((folder / "runs").glob(f"*/{model}"))


def check(stoker, folder, run, model, tta, name):
    output = folder / "predictions.csv"
    command = [stoker, "predict", "--run", run, "--input", folder / name, "--tta", tta, "--output", output]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    output.unlink()
    at_most, predicted, unit, measured, measured_unit = PEAK.search(told).groups()
    predicted, measured = float(predicted) * UNITS[unit], float(measured) * UNITS[measured_unit]
    error = predicted / measured - 1
    bound = "at most " if at_most else ""
    row = (*model.split(":"), tta, name, f"{bound}{predicted:.1f} MiB", f"{measured:.1f} MiB", f"{error:+.1%}")
    print(f"| {' | '.join(row)} |", flush=True)
    return error >= 0 if at_most else abs(error) <= LIMIT


if __name__ == "__main__":
    main()
