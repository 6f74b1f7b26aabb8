#!/usr/bin/env python3
"""Time stoker beside PyTorch and timm: a forward pass (evaluation) and a training step (forward, backward, AdamW).

    pip install -r scripts/requirements.txt
    cargo build --release
    python scripts/bench_against_pytorch.py --models convnext_tiny,swin_tiny_patch4_window7_224,efficientnet_b0
    python scripts/bench_against_pytorch.py --device cuda:0 --batches 32,128 --json speed.json

Both get the same model, image size, batch and, on the CPU, threads. They run in turn, a process each, again and again,
so that a machine with other work slows both alike; a ratio is PyTorch's time over stoker's in the same round: above 1,
stoker is faster. The first step of a process is not counted.

On the CPU PyTorch computes in f32, with maps in both memory formats; the faster counts. On a card it runs every way of
`--ways`, and each is a row with images/s and peak memory, beside stoker in the same precision. Whoever fails, for lack of
memory or of a compiler, loses its own row alone. Times are written to the file of `--json` after each batch size.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MODELS = "convnext_tiny,swin_tiny_patch4_window7_224,efficientnet_b0"
CPU_WAYS = "fp32,fp32+channels_last"
CARD_WAYS = "fp32,bf16+channels_last,bf16+channels_last+compile"


@dataclass
class Timing:
    """Best times of one process, and the peak of the device's memory where it is known."""

    forward_ms: float
    step_ms: float
    peak_bytes: int | None = None

    @staticmethod
    def best(timings: list["Timing"]) -> "Timing":
        peaks = [timing.peak_bytes for timing in timings if timing.peak_bytes is not None]
        return Timing(
            min(timing.forward_ms for timing in timings),
            min(timing.step_ms for timing in timings),
            max(peaks, default=None),
        )


def main() -> int:
    arguments = parse_arguments()
    if arguments.time_pytorch:
        print(json.dumps(vars(time_pytorch(arguments))))
        return 0
    rows: list[dict] = []
    failed = False
    for model in arguments.models.split(","):
        for batch in map(int, arguments.batches.split(",")):
            rounds = [run_round(arguments, model, batch) for _ in range(arguments.rounds)]
            of_batch = rows_of(model, batch, rounds)
            failed |= not of_batch
            report = report_on_cpu if arguments.device == "cpu" else report_on_card
            report(of_batch, batch)
            rows += of_batch
            if arguments.json:
                arguments.json.write_text(json.dumps({"command": sys.argv, "rows": rows}, indent=2) + "\n")
    return int(failed)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS, help="timm's names, separated by commas")
    parser.add_argument("--size", type=int, default=224, help="image size, pixels")
    parser.add_argument("--batches", default="8", help="batch sizes, separated by commas")
    parser.add_argument("--threads", type=int, default=2, help="of each process, on the CPU")
    parser.add_argument("--rounds", type=int, default=5, help="times that both run")
    parser.add_argument("--steps", type=int, default=3, help="steps that a process times")
    parser.add_argument("--device", default="cpu", help="`cpu` or `cuda:N`")
    parser.add_argument("--ways", help=f"PyTorch's ways, separated by commas (CPU: {CPU_WAYS}; card: {CARD_WAYS})")
    parser.add_argument("--stoker", default="target/release/stoker", help="the binary")
    parser.add_argument("--stoker-arguments", default="", help="more for `stoker bench step`, separated by spaces")
    parser.add_argument("--json", type=Path, help="write all times there, too")
    parser.add_argument("--prefix", default="", help="a command that runs each process, such as `chrt -r 1`")
    parser.add_argument("--time-pytorch", metavar="WAY", help=argparse.SUPPRESS)  # what each process is started with
    arguments = parser.parse_args()
    arguments.ways = arguments.ways or (CPU_WAYS if arguments.device == "cpu" else CARD_WAYS)
    return arguments


def precision_of(way: str) -> str:
    """What stoker computes in beside one of PyTorch's ways."""
    return "bf16" if "bf16" in way.split("+") else "fp32"


def run_round(arguments: argparse.Namespace, model: str, batch: int) -> dict[str, Timing]:
    """Every contestant once: stoker in each precision, PyTorch in each way. One that fails is told and left out."""
    ways = arguments.ways.split(",")
    contestants = {f"stoker {precision}": run_stoker for precision in dict.fromkeys(map(precision_of, ways))}
    contestants |= {way: run_pytorch for way in ways}
    round_ = {}
    for name, run_one in contestants.items():
        try:
            round_[name] = run_one(arguments, model, batch, name.removeprefix("stoker "))
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or [""])[-1]
            print(f"{model}, batch {batch}, {name}: {last}", file=sys.stderr)
    timed = [round_[way] for way in ways if way in round_]
    if arguments.device == "cpu" and timed:
        round_ = {name: timing for name, timing in round_.items() if name not in ways}
        round_["PyTorch"] = Timing.best(timed)
    return round_


def run_stoker(arguments: argparse.Namespace, model: str, batch: int, precision: str) -> Timing:
    command = [arguments.stoker, "bench", "step", "--model", model, "--size", str(arguments.size)]
    command += ["--batch", str(batch), "--rounds", str(arguments.steps), "--device", arguments.device, "--json"]
    command += ["--precision", precision]
    report = json.loads(run(arguments, command + arguments.stoker_arguments.split()))
    step = report["steps"][0]
    return Timing(report["forward_ms"]["min"], step["step_ms"]["min"], step["peak_bytes"])


def run_pytorch(arguments: argparse.Namespace, model: str, batch: int, way: str) -> Timing:
    command = [sys.executable, __file__, "--time-pytorch", way, "--models", model, "--size", str(arguments.size)]
    command += ["--batches", str(batch), "--threads", str(arguments.threads), "--steps", str(arguments.steps)]
    return Timing(**json.loads(run(arguments, command + ["--device", arguments.device])))


def run(arguments: argparse.Namespace, command: list[str]) -> str:
    threads = str(arguments.threads)
    limits = {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads} if arguments.device == "cpu" else {}
    command = arguments.prefix.split() + command
    return subprocess.run(command, env=os.environ | limits, capture_output=True, text=True, check=True).stdout


def time_pytorch(arguments: argparse.Namespace) -> Timing:
    """Runs in a process of its own: a forward pass and a training step of timm's model, several times each."""
    import timm
    import torch

    parts = arguments.time_pytorch.split("+")
    device, batch = torch.device(arguments.device), int(arguments.batches)
    on_card = device.type == "cuda"
    if not on_card:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if "channels_last" in parts else torch.contiguous_format
    images = torch.randn(batch, 3, arguments.size, arguments.size, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, 1000, (batch,), device=device)
    original = timm.create_model(arguments.models).to(device=device, memory_format=layout)
    optimizer = torch.optim.AdamW(original.parameters(), lr=1e-4)
    model = torch.compile(original) if "compile" in parts else original
    half = torch.autocast(device.type, dtype=torch.bfloat16, enabled="bf16" in parts)

    def forward() -> None:
        with torch.no_grad(), half:
            model(images)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with half:
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    def best_ms(work, warm_up: int) -> float:
        times = []
        for turn in range(warm_up + arguments.steps):
            start = time.perf_counter()
            work()
            if on_card:
                torch.cuda.synchronize(device)
            if turn >= warm_up:
                times.append(1e3 * (time.perf_counter() - start))
        return min(times)

    # A card tunes its convolutions, and a compiler compiles, in the first few turns.
    warm_up = 5 if on_card else 1
    original.eval()
    forward_ms = best_ms(forward, warm_up)
    original.train()
    if on_card:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    step_ms = best_ms(step, warm_up)
    return Timing(forward_ms, step_ms, torch.cuda.max_memory_reserved(device) if on_card else None)


def rows_of(model: str, batch: int, rounds: list[dict[str, Timing]]) -> list[dict]:
    """Each of PyTorch's ways beside stoker in the same precision: best times, and the ratios of all rounds in which both ran."""
    names = dict.fromkeys(name for round_ in rounds for name in round_ if not name.startswith("stoker "))
    return [row for name in names if (row := row_of(model, batch, name, rounds))]


def row_of(model: str, batch: int, name: str, rounds: list[dict[str, Timing]]) -> dict | None:
    beside = f"stoker {precision_of(name)}"
    both = [(round_[name], round_[beside]) for round_ in rounds if name in round_ and beside in round_]
    if not both:
        return None
    pytorch, stoker = (Timing.best(list(timings)) for timings in zip(*both, strict=True))
    return {
        "model": model,
        "batch": batch,
        "pytorch_way": name,
        "precision": precision_of(name),
        "pytorch": vars(pytorch),
        "stoker": vars(stoker),
        "forward_ratios": sorted(theirs.forward_ms / ours.forward_ms for theirs, ours in both),
        "step_ratios": sorted(theirs.step_ms / ours.step_ms for theirs, ours in both),
    }


def report_on_cpu(rows: list[dict], batch: int) -> None:
    print_head("| model | batch | pass | PyTorch | stoker | ratio, least | ratio, median |")
    for row in rows:
        for name, key, ratios in [("forward", "forward_ms", "forward_ratios"), ("step", "step_ms", "step_ratios")]:
            times = f"{row['pytorch'][key]:.0f} ms | {row['stoker'][key]:.0f} ms"
            print(f"| {row['model']} | {batch} | {name} | {times} | {row[ratios][0]:.2f} | {median(row[ratios]):.2f} |")
    sys.stdout.flush()


def report_on_card(rows: list[dict], batch: int) -> None:
    print_head("| model | batch | what | forward images/s | step images/s | peak | step ratio, median |")
    told = set()
    for row in rows:
        if row["precision"] not in told:
            told.add(row["precision"])
            print_on_card(row, batch, f"stoker {row['precision']}", "stoker", "")
        print_on_card(row, batch, f"PyTorch {row['pytorch_way']}", "pytorch", f"{median(row['step_ratios']):.2f}")
    sys.stdout.flush()


def print_on_card(row: dict, batch: int, name: str, who: str, ratio: str) -> None:
    timing = row[who]
    speeds = f"{1e3 * batch / timing['forward_ms']:.0f} | {1e3 * batch / timing['step_ms']:.0f}"
    print(f"| {row['model']} | {batch} | {name} | {speeds} | {(timing['peak_bytes'] or 0) / 2**30:.2f} GiB | {ratio} |")


def print_head(head: str) -> None:
    """The table's head, once."""
    if not getattr(print_head, "done", False):
        print(head + "\n" + "|---" * (head.count("|") - 1) + "|")
        print_head.done = True


if __name__ == "__main__":
    sys.exit(main())
