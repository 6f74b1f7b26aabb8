#!/usr/bin/env python3
"""Time predictions of stoker beside PyTorch and timm: the same model, image size, views, batch and threads, in evaluation.

    pip install -r scripts/requirements.txt
    cargo build --release
    python scripts/bench_inference_against_pytorch.py --rounds 5

Both go from bytes to merged probabilities: normalise, show each view to the model in turn, softmax, mean. They run in turn,
a process each, again and again, so that a machine with other work slows both alike; a ratio is PyTorch's time over
stoker's in the same round: above 1, stoker is faster. The first run of each case in a process is not counted.

On the CPU PyTorch computes in f32, with maps in both memory formats, and with the views one after the other or `joined`
into one pass; the fastest of each round counts. On a card name the ways, and what stoker is to do:
`--device cuda:0 --ways bf16+channels_last,bf16+channels_last+joined --stoker-arguments '--precisions bf16'`.

A cell of the table that fails, for lack of memory say, is told and left out; the others go on, and the exit code is 1. With
`--json` the file is written anew after each round, with all that is known by then.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench_against_pytorch import MODELS, print_head

CPU_WAYS = "fp32,fp32+channels_last,fp32+joined"

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
    rows: list[dict] = []
    for model in arguments.models.split(","):
        rows += compare_model(arguments, model, rows)
    return 1 if any(row["failures"] for row in rows) else 0


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
    parser.add_argument("--json", type=Path, help="write all times there, too, after each round")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds after which a process has failed")
    parser.add_argument("--prefix", default="", help="a command that runs each process, such as `chrt -r 1`")
    # What each process of PyTorch is started with.
    parser.add_argument("--time-pytorch", metavar="WAY", help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=cases_of, default=[], help=argparse.SUPPRESS)
    return parser.parse_args()


def cases_of(text: str) -> list[Case]:
    """The cases in `none:1,none:8`."""
    return [(tta, int(batch)) for tta, batch in (case.split(":") for case in text.split(","))]


def cases(arguments: argparse.Namespace) -> list[Case]:
    return [(tta, batch) for tta in arguments.tta.split(",") for batch in sorted({1, arguments.batch})]


def compare_model(arguments: argparse.Namespace, model: str, earlier: list[dict]) -> list[dict]:
    """All cases of a model, printed when their rounds are done; `earlier` are the rows of the models before it."""
    rounds: list[dict[Case, dict]] = []
    failures: dict[Case, list[str]] = {case: [] for case in cases(arguments)}
    rows: list[dict] = []
    for _ in range(arguments.rounds):
        rounds.append(run_round(arguments, model, failures))
        rows = [row_of(model, case, rounds, failures[case]) for case in cases(arguments)]
        write_json(arguments, earlier + rows)
    print_head(HEAD)
    for row in rows:
        print(in_markdown(row))
    sys.stdout.flush()
    return rows


def write_json(arguments: argparse.Namespace, rows: list[dict]) -> None:
    """Replaces the file whole: whoever reads it meanwhile, or stops this, has the last round that was done."""
    if arguments.json:
        unfinished = arguments.json.with_name(arguments.json.name + ".writing")
        unfinished.write_text(json.dumps({"command": sys.argv, "rows": rows}, indent=2) + "\n")
        unfinished.replace(arguments.json)


def run_round(arguments: argparse.Namespace, model: str, failures: dict[Case, list[str]]) -> dict[Case, dict]:
    """Every contestant once: of each case stoker's row, and the milliseconds of PyTorch's fastest way. What fails is noted in `failures`, and not
    tried again; a case that one way of PyTorch's is left for is timed in that."""
    contestants = {"stoker": run_stoker} | {way: run_pytorch for way in arguments.ways.split(",")}
    found: dict[str, dict[Case, object]] = {}
    for name, contestant in contestants.items():
        left = [case for case in cases(arguments) if not any(line.startswith(f"{name}: ") for line in failures[case])]
        times, failed = each(contestant, arguments, model, name, left)
        for case, reason in failed.items():
            failures[case].append(f"{name}: {reason}")
            print(f"{model}, {case[0]}, batch {case[1]}, {name}: {reason}", file=sys.stderr)
        found[name] = times
    stoker = found.pop("stoker")

    def of_case(case: Case) -> dict:
        ways = [way[case] for way in found.values() if case in way]
        return {"stoker": stoker.get(case), "pytorch": min(ways, key=median, default=None)}

    return {case: of_case(case) for case in cases(arguments)}


def each(contestant, arguments, model: str, name: str, left: list[Case]) -> tuple[dict[Case, object], dict[Case, str]]:
    """What a contestant gives for the cases, and why it gives nothing for some: when they fail together, each is tried alone."""
    if not left:
        return {}, {}
    try:
        return contestant(arguments, model, name, left), {}
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        if len(left) == 1:
            return {}, {left[0]: reason_of(error)}
    times: dict[Case, object] = {}
    failed: dict[Case, str] = {}
    for case in left:
        more_times, more_failed = each(contestant, arguments, model, name, [case])
        times |= more_times
        failed |= more_failed
    return times, failed


def reason_of(error: Exception) -> str:
    """The last line that the process said, or what kept it from saying any."""
    said = (getattr(error, "stderr", None) or "").strip().splitlines()
    told = [line for line in said if line.startswith("error: ")]
    return (told or said or [str(error) or type(error).__name__])[-1]


def run(arguments: argparse.Namespace, command: list[str]) -> str:
    threads = str(arguments.threads)
    limits = {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads} if arguments.device == "cpu" else {}
    done = subprocess.run(
        arguments.prefix.split() + command,
        env=os.environ | limits,
        capture_output=True,
        text=True,
        check=True,
        timeout=arguments.timeout,
    )
    return done.stdout


def run_stoker(arguments: argparse.Namespace, model: str, _name: str, left: list[Case]) -> dict[Case, dict]:
    """Stoker times a batch of one image beside the batch that is asked for; of what is left none is thrown away but that."""
    presets = list(dict.fromkeys(tta for tta, _ in left))
    command = [arguments.stoker, "bench", "infer", "--models", model, "--sizes", str(arguments.size)]
    command += ["--tta", ",".join(presets), "--batch", str(max(batch for _, batch in left))]
    command += ["--rounds", str(arguments.steps), "--device", arguments.device, "--json"]
    rows = json.loads(run(arguments, command + arguments.stoker_arguments.split()))
    by_case = {(row["tta"], row["batch"]): row for row in rows}
    if len(by_case) < len(rows):
        raise ValueError("several rows for one case: name one precision in --stoker-arguments")
    return {case: by_case[case] for case in left}


def run_pytorch(arguments: argparse.Namespace, model: str, way: str, left: list[Case]) -> dict[Case, list[float]]:
    command = [sys.executable, __file__, "--time-pytorch", way, "--models", model, "--size", str(arguments.size)]
    command += ["--cases", ",".join(f"{tta}:{batch}" for tta, batch in left), "--threads", str(arguments.threads)]
    times = json.loads(run(arguments, [*command, "--steps", str(arguments.steps), "--device", arguments.device]))
    return {case: times[f"{case[0]} {case[1]}"] for case in left}


def row_of(model: str, case: Case, rounds: list[dict[Case, dict]], failures: list[str]) -> dict:
    """Times and ratios of all rounds; none of what failed."""
    stoker = [round_[case]["stoker"] for round_ in rounds if round_[case]["stoker"]]
    pytorch = [round_[case]["pytorch"] for round_ in rounds if round_[case]["pytorch"]]
    both = [round_[case] for round_ in rounds if round_[case]["stoker"] and round_[case]["pytorch"]]
    ratios = [median(round_["pytorch"]) / round_["stoker"]["latency_ms"]["p50"] for round_ in both]
    least = (min(map(min, pytorch), default=None), min((row["latency_ms"]["min"] for row in stoker), default=None))
    return {
        "model": model,
        "tta": case[0],
        "batch": case[1],
        "pytorch_ms": pytorch,
        "stoker": stoker,
        "pytorch_median_ms": median(map(median, pytorch)) if pytorch else None,
        "stoker_median_ms": median(row["latency_ms"]["p50"] for row in stoker) if stoker else None,
        "peak_bytes": max((row["peak_bytes"] for row in stoker), default=None),
        "ratios_of_medians": sorted(ratios),
        "ratio_of_minima": least[0] / least[1] if all(least) else None,
        "failures": failures,
    }


def in_markdown(row: dict) -> str:
    def cell(value: float | None, form: str) -> str:
        return "failed" if value is None else form.format(value)

    ratios, ours = row["ratios_of_medians"], row["stoker_median_ms"]
    peak = row["peak_bytes"]
    cells = [
        row["model"],
        row["tta"],
        str(row["batch"]),
        cell(row["pytorch_median_ms"], "{:.1f} ms"),
        cell(ours, "{:.1f} ms"),
        cell(ours and 1e3 * row["batch"] / ours, "{:.1f}"),
        cell(peak and peak / 2**20, "{:.0f} MiB"),
        cell(median(ratios) if ratios else None, "{:.2f}"),
        cell(ratios[0] if ratios else None, "{:.2f}"),
        cell(row["ratio_of_minima"], "{:.2f}"),
    ]
    return "| " + " | ".join(cells) + " |"


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
    dtype = torch.float16 if "fp16" in parts else torch.bfloat16
    half = torch.autocast(device.type, dtype=dtype, enabled="bf16" in parts or "fp16" in parts)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))

    def predict(pixels: "torch.Tensor", tta: str) -> "torch.Tensor":
        light = pixels.to(device).permute(0, 3, 1, 2).float() / 255
        images = ((light - mean) / std).contiguous(memory_format=layout)
        shown = views(tta, mean, std)
        if "joined" in parts:
            together = torch.cat([view(images) for view in shown]).contiguous(memory_format=layout)
            return model(together).float().softmax(1).unflatten(0, (len(shown), len(images))).mean(0).cpu()
        probabilities = (model(view(images).contiguous(memory_format=layout)).float().softmax(1) for view in shown)
        return (sum(probabilities) / len(shown)).cpu()

    # A card tunes its convolutions in the first few turns.
    warm_up = 5 if on_card else 1
    times: dict[Case, list[float]] = {case: [] for case in arguments.cases}
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
    symmetries = [identity, quarter, rotated(2), three_quarters, *flips, *diagonals]
    # Each symmetry but the identity once more, with a variation.
    variations = [zoom(0.9), zoom(1.1), *lit, zoom(1 / 0.8)]
    varied = [then(symmetry, variation) for symmetry, variation in zip(symmetries[1:], variations)]
    return {
        "none": [identity],
        "legacy": [identity, quarter, three_quarters],
        "essential": essential,
        "comprehensive": [*symmetries, *varied],
    }[tta]


def then(first, second):
    return lambda images: second(first(images))


def rotated(quarters: int):
    return lambda images: images.rot90(quarters, (2, 3))


if __name__ == "__main__":
    sys.exit(main())
