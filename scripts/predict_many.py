#!/usr/bin/env python3
"""Predict many small files: does memory grow, and does a prediction that is killed over and over end with the same bytes?

    pip install -r scripts/requirements.txt
    python scripts/predict_many.py --stoker target/release/stoker --run experiments/train/latest --images 10000 100000 --kills 3

Draws 64 pictures and links to them until there are as many files as asked for, a thousand a folder; a hundred of them
are no pictures. Prints, for each number of images, the memory of the process (resident, without its files) after a
quarter, a half and three quarters of the rows and at its highest, and the seconds it took. Then kills the last
prediction at as many points as asked for, goes on each time, and compares the bytes. Exits with 1 if they differ.
Linux only: it reads `/proc`.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = 64
IN_A_FOLDER = 1000
BROKEN = 100
MEBIBYTE = 1 << 20


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        folder = Path(folder)
        pictures = draw_pictures(folder / "pictures", arguments.side)
        print(f"{'images':>9} {'1/4':>9} {'1/2':>9} {'3/4':>9} {'peak':>9}   MiB resident; seconds")
        for images in arguments.images:
            data = link_pictures(folder / f"data_{images}", pictures, images)
            output = folder / f"{images}.csv"
            command = request(arguments, data, output)
            quarters, peak, seconds = watch(command, output, images)
            cells = " ".join(f"{memory:9.1f}" for memory in [*quarters, peak])
            print(f"{images:9} {cells}   {seconds:.0f} s", flush=True)
        return kill_and_compare(command, output, arguments.kills)


def kill_and_compare(command: list[str], output: Path, kills: int) -> int:
    expected = hashlib.sha256(output.read_bytes()).hexdigest()
    output.unlink()
    part = Path(f"{output}.part")
    for number in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = size(part)
        # Each a little further than the last, whatever the machine's speed.
        while process.poll() is None and size(part) < before + (number + 1) * 20_000:
            time.sleep(0.005)
        process.kill()
        process.wait()
        print(f"killed with {size(part)} bytes kept")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = hashlib.sha256(output.read_bytes()).hexdigest()
    print(f"{'OK: the same bytes' if found == expected else 'error: other bytes'}, {found[:16]} and {expected[:16]}")
    return int(found != expected)


def watch(command: list[str], output: Path, images: int) -> tuple[list[float], float, float]:
    """Resident MiB after each quarter of the rows, the most, and the seconds."""
    part = Path(f"{output}.part")
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    samples = []
    while process.poll() is None:
        samples.append((size(part), resident(process.pid)))
        time.sleep(0.05)
    if process.returncode != 0:
        raise SystemExit(process.stderr.read().decode())
    largest = max(bytes_kept for bytes_kept, _ in samples)
    at = [next(memory for kept, memory in samples if kept >= largest * quarter / 4) for quarter in (1, 2, 3)]
    assert sum(1 for _ in output.open()) == images + 1, "a row for each image, and the header"
    return at, max(memory for _, memory in samples), time.monotonic() - start


def resident(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
    return kibibytes[0] / 1024 if kibibytes else 0.0


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def request(arguments: argparse.Namespace, data: Path, output: Path) -> list[str]:
    asked = [arguments.stoker, "predict", "--run", arguments.run, "--input", data, "--output", output]
    return [str(word) for word in [*asked, "--tta", arguments.tta, "--device", "cpu", "--batch-size", 64]]


def draw_pictures(folder: Path, side: int) -> list[Path]:
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(5)
    paths = []
    for index in range(PICTURES):
        path = folder / f"{index}.png"
        Image.fromarray(numbers.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


def link_pictures(folder: Path, pictures: list[Path], images: int) -> Path:
    for index in range(images):
        inner = folder / f"{index // IN_A_FOLDER:04}"
        if index % IN_A_FOLDER == 0:
            inner.mkdir(parents=True)
        path = inner / f"{index:06}.png"
        if index % (images // BROKEN) == 7:
            path.write_text("no picture")
        else:
            os.link(pictures[index % PICTURES], path)
    return folder


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stoker", type=Path, default=Path("target/release/stoker"))
    parser.add_argument("--run", type=Path, default=Path("experiments/train/latest"), help="run folder")
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--tta", default="none")
    parser.add_argument("--side", type=int, default=32, help="of each picture, in pixels")
    parser.add_argument("--folder", type=Path, help="where the files go for the time being")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
