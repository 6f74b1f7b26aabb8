#!/usr/bin/env python3
"""Time predictions of stoker beside PyTorch and timm: the same model, image size, views, batch and threads, in evaluation.

    pip install -r scripts/requirements.txt
    cargo build --release
    python scripts/bench_inference_against_pytorch.py --rounds 5

Both go from bytes to merged probabilities: normalise, show each view to the model in turn, softmax, mean. They run in turn,
a process each, again and again, so that a machine with other work slows both alike; a ratio is PyTorch's time over
stoker's in the same round: above 1, stoker is faster. The first run of each case in a process is not counted.

On the CPU PyTorch computes in f32, with maps in both memory formats; the faster of each round counts. On a card name the
ways, and what stoker is to do: `--device cuda:0 --ways bf16+channels_last --stoker-arguments '--precisions bf16'`.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench_against_pytorch import CPU_WAYS, MODELS, print_head, run

HEAD = (
    "| model | TTA | batch | PyTorch, median | stoker, median | stoker, images/s | stoker, peak "
    "| ratio of medians | least | ratio of minima |"
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of brightness that people see (ITU-R BT.601), as in torchvision.
LUMA = (0.299, 0.587, 0.114)

# Preset, batch: one case that is timed.
Case = tuple[str, int]


def main() -> int:
    arguments = parse_arguments()
    if arguments.time_pytorch:
        print(json.dumps(time_pytorch(arguments)))
        return 0
    try:
        rows = [row for model in arguments.models.split(",") for row in compare_model(arguments, model)]
    except subprocess.CalledProcessError as error:
        print(f"error: `{' '.join(error.cmd)}` failed\n{error.stderr}", file=sys.stderr)
        return 1
    if arguments.json:
        arguments.json.write_text(json.dumps({"command": sys.argv, "rows": rows}, indent=2) + "\n")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS, help="timm's names, separated by commas")
    parser.add_argument("--size", type=int, default=224, help="image size, pixels")
    parser.add_argument("--tta", default="none,essential", help="presets, separated by commas")
    parser.add_argument("--batch", type=int, default=8, help="images at once; 1 is timed, too")
    parser.add_argument("--threads", type=int, default=2, help="of each process, on the CPU")
    parser.add_argument("--rounds", type=int, default=5, help="times that both run")
    parser.add_argument("--steps", type=int, default=5, help="times that a process runs each case")
    parser.add_argument("--device", default="cpu", help="`cpu` or `cuda:N`")
    parser.add_argument("--ways", default=CPU_WAYS, help=f"PyTorch's ways, separated by commas (default {CPU_WAYS})")
    parser.add_argument("--stoker", default="target/release/stoker", help="the binary")
    parser.add_argument("--stoker-arguments", default="", help="more for `stoker bench infer`, separated by spaces")
    parser.add_argument("--json", type=Path, help="write all times there, too")
    parser.add_argument("--prefix", default="", help="a command that runs each process, such as `chrt -r 1`")
    parser.add_argument("--time-pytorch", metavar="WAY", help=argparse.SUPPRESS)  # what each process is started with
    return parser.parse_args()


def cases(arguments: argparse.Namespace) -> list[Case]:
    return [(tta, batch) for tta in arguments.tta.split(",") for batch in sorted({1, arguments.batch})]


def compare_model(arguments: argparse.Namespace, model: str) -> list[dict]:
    """All cases of a model, printed when their rounds are done."""
    rounds = [run_round(arguments, model) for _ in range(arguments.rounds)]
    rows = [row_of(model, case, rounds) for case in cases(arguments)]
    print_head(HEAD)
    for row in rows:
        print(in_markdown(row))
    sys.stdout.flush()
    return rows


def run_round(arguments: argparse.Namespace, model: str) -> dict[Case, dict]:
    """Every contestant once: of each case stoker's row, and the milliseconds of PyTorch's faster way."""
    stoker = run_stoker(arguments, model)
    ways = [run_pytorch(arguments, model, way) for way in arguments.ways.split(",")]
    keys = ((case, f"{case[0]} {case[1]}") for case in cases(arguments))
    return {case: {"stoker": stoker[case], "pytorch": min((way[key] for way in ways), key=median)} for case, key in keys}


def run_stoker(arguments: argparse.Namespace, model: str) -> dict[Case, dict]:
    command = [arguments.stoker, "bench", "infer", "--models", model, "--sizes", str(arguments.size)]
    command += ["--tta", arguments.tta, "--batch", str(arguments.batch), "--rounds", str(arguments.steps)]
    command += ["--device", arguments.device, "--json", *arguments.stoker_arguments.split()]
    return {(row["tta"], row["batch"]): row for row in json.loads(run(arguments, command))}


def run_pytorch(arguments: argparse.Namespace, model: str, way: str) -> dict[str, list[float]]:
    command = [sys.executable, __file__, "--time-pytorch", way, "--models", model, "--size", str(arguments.size)]
    command += ["--tta", arguments.tta, "--batch", str(arguments.batch), "--threads", str(arguments.threads)]
    return json.loads(run(arguments, [*command, "--steps", str(arguments.steps), "--device", arguments.device]))


def row_of(model: str, case: Case, rounds: list[dict[Case, dict]]) -> dict:
    """Times and ratios of all rounds."""
    stoker = [round_[case]["stoker"] for round_ in rounds]
    pytorch = [round_[case]["pytorch"] for round_ in rounds]
    medians = [row["latency_ms"]["p50"] for row in stoker]
    return {
        "model": model,
        "tta": case[0],
        "batch": case[1],
        "pytorch_ms": pytorch,
        "stoker": stoker,
        "pytorch_median_ms": median(map(median, pytorch)),
        "stoker_median_ms": median(medians),
        "peak_bytes": max(row["peak_bytes"] for row in stoker),
        "ratios_of_medians": sorted(median(theirs) / ours for theirs, ours in zip(pytorch, medians, strict=True)),
        "ratio_of_minima": min(map(min, pytorch)) / min(row["latency_ms"]["min"] for row in stoker),
    }


def in_markdown(row: dict) -> str:
    speed = 1e3 * row["batch"] / row["stoker_median_ms"]
    ratios = row["ratios_of_medians"]
    return (
        f"| {row['model']} | {row['tta']} | {row['batch']} | {row['pytorch_median_ms']:.1f} ms "
        f"| {row['stoker_median_ms']:.1f} ms | {speed:.1f} | {row['peak_bytes'] / 2**20:.0f} MiB "
        f"| {median(ratios):.2f} | {ratios[0]:.2f} | {row['ratio_of_minima']:.2f} |"
    )


def time_pytorch(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Runs in a process of its own: milliseconds of each case, all cases in turn."""
    import timm
    import torch

    parts = arguments.time_pytorch.split("+")
    device = torch.device(arguments.device)
    on_card = device.type == "cuda"
    if not on_card:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if "channels_last" in parts else torch.contiguous_format
    model = timm.create_model(arguments.models).to(device=device, memory_format=layout).eval()
    half = torch.autocast(device.type, dtype=torch.bfloat16, enabled="bf16" in parts)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))

    def predict(pixels: "torch.Tensor", tta: str) -> "torch.Tensor":
        light = pixels.to(device).permute(0, 3, 1, 2).float() / 255
        images = ((light - mean) / std).contiguous(memory_format=layout)
        shown = views(tta, mean, std)
        probabilities = (model(view(images).contiguous(memory_format=layout)).float().softmax(1) for view in shown)
        return (sum(probabilities) / len(shown)).cpu()

    # A card tunes its convolutions in the first few turns.
    warm_up = 5 if on_card else 1
    times = {case: [] for case in cases(arguments)}
    with torch.inference_mode(), half:
        for turn in range(warm_up + arguments.steps):
            for tta, batch in times:
                pixels = torch.zeros(batch, arguments.size, arguments.size, 3, dtype=torch.uint8)
                start = time.perf_counter()
                predict(pixels, tta)
                if turn >= warm_up:
                    times[tta, batch].append(1e3 * (time.perf_counter() - start))
    return {f"{tta} {batch}": milliseconds for (tta, batch), milliseconds in times.items()}


def views(tta: str, mean, std) -> list:
    """The presets of crates/inference/src/preset.rs."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    def zoom(factor: float):
        def view(images):
            about = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]], device=images.device)
            grid = affine_grid(about.expand(len(images), 2, 3), list(images.shape), align_corners=False)
            return grid_sample(images, grid, padding_mode="border", align_corners=False)

        return view

    def relit(change):
        return lambda images: (change(images * std + mean).clamp(0, 1) - mean) / std

    def contrast(factor: float):
        def change(light):
            weights = torch.tensor(LUMA, device=light.device).view(1, 3, 1, 1)
            grey = (light.mean((2, 3), keepdim=True) * weights).sum(1, keepdim=True)
            return (light - grey) * factor + grey

        return relit(change)

    identity, quarter, three_quarters = (lambda images: images), rotated(1), rotated(3)
    flips = [lambda images: images.flip(3), lambda images: images.flip(2)]
    diagonals = [lambda images: images.transpose(2, 3), lambda images: images.transpose(2, 3).flip((2, 3))]
    lit = [relit(lambda light: light * 0.9), relit(lambda light: light * 1.1), contrast(0.9), contrast(1.1)]
    essential = [identity, *flips, quarter, three_quarters]
    return {
        "none": [identity],
        "legacy": [identity, quarter, three_quarters],
        "essential": essential,
        "comprehensive": [*essential, rotated(2), *diagonals, zoom(0.9), zoom(1.1), zoom(1 / 0.8), *lit],
    }[tta]


def rotated(quarters: int):
    return lambda images: images.rot90(quarters, (2, 3))


if __name__ == "__main__":
    sys.exit(main())
