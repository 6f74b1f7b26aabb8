#!/usr/bin/env python3
"""Time each operation of the models alone in stoker and in PyTorch, forward and backward, at the same shapes.

    pip install -r scripts/requirements.txt
    cargo build --release
    python scripts/bench_kernels_against_pytorch.py --sizes 224 --batch 8
    python scripts/bench_kernels_against_pytorch.py --device cuda:0 --sizes 224,384 --batch 64 --precision bf16 --compile

stoker's side is `stoker bench kernels --json`, which says what there is to time; PyTorch's is the operation as timm's models
have it, with maps in channels-last memory and, in half precision, under autocast. Both run in turn, a process each, once a
round; times are the best of all rounds, and a ratio is PyTorch's over stoker's: above 1, stoker is faster. With `--compile`
PyTorch has a second time, of the same function under `torch.compile`. An operation that PyTorch cannot run loses its own
time alone, and the last line of what went wrong is told.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from statistics import median

Key = tuple[int, int, str, str, str, str]


def main() -> int:
    arguments = parse_arguments()
    if arguments.time_pytorch:
        print(json.dumps(time_pytorch(arguments, json.load(sys.stdin))))
        return 0
    ours: dict[Key, dict] = {}
    theirs: dict[Key, dict[str, float]] = {}
    for _ in range(arguments.rounds):
        reports = json.loads(run(arguments, stoker_command(arguments)))
        for key, row in rows_of(reports):
            kept = ours.setdefault(key, row)
            kept["ms"]["min"] = min(kept["ms"]["min"], row["ms"]["min"])
        timed = json.loads(run(arguments, pytorch_command(arguments), json.dumps(reports)))
        for (key, _), times in zip(rows_of(reports), timed, strict=True):
            kept = theirs.setdefault(key, times)
            kept |= {way: min(milliseconds, kept.get(way, milliseconds)) for way, milliseconds in times.items()}
    print_tables(arguments, ours, theirs)
    if arguments.json:
        rows = [row | {"pytorch_ms": theirs[key], "size": key[0], "batch": key[1]} for key, row in ours.items()]
        arguments.json.write_text(json.dumps({"command": sys.argv, "rows": rows}, indent=2) + "\n")
    return int(not any(theirs.values()))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("filter", nargs="?", help="part of `OPERATION of MODEL`; all are timed without")
    parser.add_argument("--sizes", default="224", help="image sizes that the maps are of, separated by commas")
    parser.add_argument("--batch", default="8", help="images at once, separated by commas")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"], help="what maps are stored in")
    parser.add_argument("--device", default="cpu", help="`cpu` or `cuda:N`")
    parser.add_argument("--threads", type=int, default=2, help="of each process, on the CPU")
    parser.add_argument("--rounds", type=int, default=3, help="times that both processes run")
    parser.add_argument("--times", type=int, default=5, help="times that a process measures an operation")
    parser.add_argument("--compile", action="store_true", help="time PyTorch under `torch.compile`, too")
    parser.add_argument("--stoker", default="target/release/stoker", help="the binary")
    parser.add_argument("--json", type=Path, help="write all times there, too")
    parser.add_argument("--time-pytorch", action="store_true", help=argparse.SUPPRESS)  # what PyTorch's process is started with
    return parser.parse_args()


def stoker_command(arguments: argparse.Namespace) -> list[str]:
    command = [arguments.stoker, "bench", "kernels", *([arguments.filter] if arguments.filter else []), "--json"]
    command += ["--sizes", arguments.sizes, "--batch", arguments.batch, "--precision", arguments.precision]
    return [*command, "--device", arguments.device, "--rounds", str(arguments.times)]


def pytorch_command(arguments: argparse.Namespace) -> list[str]:
    command = [sys.executable, __file__, "--time-pytorch", "--precision", arguments.precision, "--device", arguments.device]
    command += ["--threads", str(arguments.threads), "--times", str(arguments.times)]
    return command + (["--compile"] if arguments.compile else [])


def run(arguments: argparse.Namespace, command: list[str], text: str | None = None) -> str:
    threads = str(arguments.threads)
    limits = {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads} if arguments.device == "cpu" else {}
    done = subprocess.run(command, env=os.environ | limits, input=text, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: `{' '.join(command)}` ended with {done.returncode}")
    return done.stdout


def rows_of(reports: list[dict]) -> list[tuple[Key, dict]]:
    def key(report: dict, row: dict) -> Key:
        return (report["size"], report["batch"], row["operation"], row["model"], row["shape"], row["pass"])

    return [(key(report, row), row) for report in reports for row in report["rows"]]


def time_pytorch(arguments: argparse.Namespace, reports: list[dict]) -> list[dict[str, float]]:
    """Runs in a process of its own: for each row milliseconds by way, `eager` and `compiled`; none for what cannot be run."""
    import torch

    device = torch.device(arguments.device)
    if device.type == "cpu":
        torch.set_num_threads(arguments.threads)
    ways = ["eager"] + (["compiled"] if arguments.compile else [])
    kept: dict[tuple, dict[str, dict[str, float]]] = {}
    for key, row in rows_of(reports):
        operation = key[:-1]
        if operation not in kept:
            kept[operation] = {}
            for way in ways:
                try:
                    kept[operation][way] = best_times(torch, arguments, device, row, way)
                except Exception as error:  # whatever PyTorch or its compiler has to say
                    last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                    print(f"{row['operation']} at {row['shape']}, {way}: {last}", file=sys.stderr)
    return [
        {way: times[key[-1]] for way, times in kept[key[:-1]].items() if key[-1] in times} for key, _ in rows_of(reports)
    ]


def best_times(torch, arguments: argparse.Namespace, device, row: dict, way: str) -> dict[str, float]:
    """The best milliseconds of each pass of an operation."""
    torch.manual_seed(0)
    maps = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[arguments.precision]
    half = torch.autocast(device.type, dtype=maps, enabled=maps is not torch.float32)
    make = Operations(torch, device, maps)

    def clock(work: Callable[[], object]) -> tuple[float, object]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 1e3 * (time.perf_counter() - start), result

    # A compiler compiles, and a card tunes its convolutions, in the first few turns.
    warm_up = 3 if device.type == "cuda" or way == "compiled" else 1
    if row["operation"] in ("AdamW", "pixels to images"):
        action = make.optimizer_step() if row["operation"] == "AdamW" else make.images_of_pixels(row["shape"])
        return {row["pass"]: min([clock(action)[0] for _ in range(warm_up + arguments.times)][warm_up:])}
    function, leaves = make.differentiable(row)
    function = torch.compile(function) if way == "compiled" else function

    def forward():
        with half:
            return function(*leaves)

    times: dict[str, list[float]] = {"forward": [], "backward": []}
    for turn in range(warm_up + arguments.times):
        forward_ms, output = clock(forward)
        upstream = torch.ones_like(output)
        backward_ms, _ = clock(lambda output=output, upstream=upstream: output.backward(upstream))
        for leaf in leaves:
            leaf.grad = None
        if turn >= warm_up:
            times["forward"].append(forward_ms)
            times["backward"].append(backward_ms)
    return {name: min(measured) for name, measured in times.items()}


class Operations:
    """PyTorch's side of each operation that `stoker bench kernels` names, by its shape: `BxHxWxC`, or `ROWSxC to OUT`."""

    def __init__(self, torch, device, maps) -> None:
        self.torch, self.functional, self.device, self.maps = torch, torch.nn.functional, device, maps

    def map(self, *shape: int):
        return self.torch.randn(*shape, device=self.device, dtype=self.maps).requires_grad_()

    def channels_last(self, batch: int, height: int, width: int, channels: int):
        """`[B, C, H, W]`, as convolutions have it, in the memory of `[B, H, W, C]`."""
        return self.map(batch, height, width, channels).detach().permute(0, 3, 1, 2).requires_grad_()

    def weight(self, *shape: int):
        return (0.02 * self.torch.randn(*shape, device=self.device)).requires_grad_()

    def differentiable(self, row: dict):
        """The function, and the leaves that it is called with."""
        operation, shape = row["operation"], row["shape"]
        if operation.endswith("matrix product"):
            return self.product(*map(int, shape.replace(" to ", "x").split("x")), gelu=operation.startswith("GELU"))
        sides = tuple(map(int, shape.split(",")[0].split("x")))
        if operation.startswith("depthwise"):
            kernel, stride = int(operation.split()[1][0]), 2 if "stride 2" in operation else 1
            return self.depthwise(sides, kernel, stride, has_bias=row["model"].startswith("convnext"))
        if operation == "window attention":
            return self.window_attention(sides, int(shape.split("window ")[1]))
        if operation == "squeeze-excite":
            # Bytes forward are those of two maps and of both layers, which tells how wide the middle is.
            numbers = (row["bytes"] - 2 * self.torch.tensor([], dtype=self.maps).element_size() * prod(sides)) / 4
            return self.squeeze_excite(sides, round((numbers - sides[3]) / (2 * sides[3] + 1)))
        by_name = {
            "layer norm": self.layer_norm,
            "GELU": self.gelu,
            "response norm": self.response_norm,
            "bias, layer scale and sum": self.residual_sum,
            "batch norm, SiLU": self.batch_norm,
            "cross-entropy": self.cross_entropy,
        }
        if operation not in by_name:
            raise ValueError(f"no operation of PyTorch is known for `{operation}`")
        return by_name[operation](sides)

    def product(self, rows: int, channels: int, out: int, gelu: bool):
        linear, activation = self.functional.linear, self.functional.gelu
        leaves = [self.map(rows, channels), self.weight(out, channels), self.weight(out)]
        return (lambda x, w, b: linear(activation(x), w, b)) if gelu else linear, leaves

    def depthwise(self, sides, kernel: int, stride: int, has_bias: bool):
        channels, convolve = sides[3], self.functional.conv2d
        leaves = [self.channels_last(*sides), self.weight(channels, 1, kernel, kernel)]
        leaves += [self.weight(channels)] if has_bias else []
        return lambda x, w, b=None: convolve(x, w, b, stride, kernel // 2, groups=channels), leaves

    def layer_norm(self, sides):
        channels, norm = sides[3], self.functional.layer_norm
        leaves = [self.map(*sides), self.weight(channels), self.weight(channels)]
        return lambda x, w, b: norm(x, (channels,), w, b, 1e-6), leaves

    def gelu(self, sides):
        return self.functional.gelu, [self.map(*sides)]

    def response_norm(self, sides):
        """timm's `GlobalResponseNorm`, channels last."""

        def normalise(x, weight, bias):
            lengths = x.norm(p=2, dim=(1, 2), keepdim=True)
            ratio = lengths / (lengths.mean(dim=-1, keepdim=True) + 1e-6)
            return x + self.torch.addcmul(bias, weight, x * ratio)

        return normalise, [self.map(*sides), self.weight(sides[3]), self.weight(sides[3])]

    def residual_sum(self, sides):
        leaves = [self.map(*sides), self.map(*sides), self.weight(sides[3]), self.weight(sides[3])]
        return lambda x, branch, bias, scale: x + scale * (branch + bias), leaves

    def batch_norm(self, sides):
        channels = sides[3]
        running = [value * self.torch.ones(channels, device=self.device) for value in (0.0, 1.0)]
        norm, silu = self.functional.batch_norm, self.functional.silu
        leaves = [self.channels_last(*sides), self.weight(channels), self.weight(channels)]
        return lambda x, w, b: silu(norm(x, *running, w, b, training=True, eps=1e-5)), leaves

    def squeeze_excite(self, sides, squeezed: int):
        channels, functional = sides[3], self.functional
        leaves = [self.channels_last(*sides), self.weight(squeezed, channels, 1, 1), self.weight(squeezed)]
        leaves += [self.weight(channels, squeezed, 1, 1), self.weight(channels)]

        def excite(x, w_1, b_1, w_2, b_2):
            hidden = functional.silu(functional.conv2d(x.mean((2, 3), keepdim=True), w_1, b_1))
            return x * functional.conv2d(hidden, w_2, b_2).sigmoid()

        return excite, leaves

    def window_attention(self, sides, window: int):
        """Between the two linear layers of timm's `SwinTransformerBlock`: shift, windows, scaled dot products with bias and mask, and back."""
        batch, side, _, channels = sides
        head_width = 32
        heads, seen, windows = channels // head_width, window * window, side // window
        shift = window // 2 if window < side else 0
        mask = self.shift_mask(side, window, shift)

        def attend(qkv, bias):
            qkv = qkv.roll((-shift, -shift), (1, 2)) if shift else qkv
            qkv = qkv.view(batch, windows, window, windows, window, 3, heads, head_width)
            # [3, B*nW, nH, N, D]
            qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, heads, seen, head_width)
            added = bias.unsqueeze(0)
            if mask is not None:
                added = (added + mask.unsqueeze(1)).repeat(batch, 1, 1, 1)
            mixed = self.functional.scaled_dot_product_attention(*qkv.unbind(0), attn_mask=added.to(qkv.dtype))
            mixed = mixed.transpose(1, 2).reshape(batch, windows, windows, window, window, channels)
            mixed = mixed.transpose(2, 3).reshape(batch, side, side, channels)
            return mixed.roll((shift, shift), (1, 2)) if shift else mixed

        return attend, [self.map(batch, side, side, 3 * channels), self.weight(heads, seen, seen)]

    def shift_mask(self, side: int, window: int, shift: int):
        """`[nW, N, N]`: what keeps cells apart that lie in one window by the shift alone."""
        if not shift:
            return None
        parts = self.torch.zeros(side, device=self.device, dtype=self.torch.int64)
        parts[side - window :] = 1
        parts[side - shift :] = 2
        cells = (3 * parts[:, None] + parts[None, :]).view(side // window, window, side // window, window)
        cells = cells.transpose(1, 2).reshape(-1, window * window)
        return -100.0 * (cells[:, :, None] != cells[:, None, :]).float()

    def cross_entropy(self, sides):
        batch, classes = sides[0], sides[3]
        targets = self.torch.full((batch, classes), 1e-3, device=self.device)
        return lambda logits: self.functional.cross_entropy(logits, targets), [self.map(batch, classes)]

    def images_of_pixels(self, shape: str):
        """Bytes that are put onto the device, and made normalised numbers there."""
        pixels = (self.torch.arange(prod(sides := tuple(map(int, shape.split("x"))))) % 251).to(self.torch.uint8).view(sides)
        mean, deviation = (self.torch.full((3,), 255 * value, device=self.device) for value in (0.5, 0.25))
        return lambda: (pixels.to(self.device).float() - mean) / deviation

    def optimizer_step(self):
        """Over the parameters of a ConvNeXt block of each stage, as `bench kernels` has them."""
        lengths = []
        for channels in (128 << stage for stage in range(4)):
            matrix = 4 * channels * channels
            lengths += [49 * channels, channels, channels, channels, matrix, 4 * channels, matrix, channels, channels]
        parameters = [self.torch.zeros(length, device=self.device, requires_grad=True) for length in lengths]
        for parameter in parameters:
            parameter.grad = self.torch.ones_like(parameter)
        return self.torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, fused=True).step


def print_tables(arguments: argparse.Namespace, ours: dict[Key, dict], theirs: dict[Key, dict[str, float]]) -> None:
    ways = ["eager"] + (["compiled"] if arguments.compile else [])
    for place in dict.fromkeys(key[:2] for key in ours):
        size, batch = place
        print(f"\n{arguments.device}, {arguments.precision}, images of {size}x{size}, batch {batch}\n")
        head = ["operation", "of", "shape", "pass", "stoker"]
        head += [name for way in ways for name in (f"PyTorch, {way}", "ratio")]
        print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
        ratios: dict[str, list[float]] = {way: [] for way in ways}
        for key, row in ((key, row) for key, row in ours.items() if key[:2] == place):
            milliseconds = row["ms"]["min"]
            cells = [*key[2:], f"{milliseconds:.3f} ms"]
            for way in ways:
                of_way = theirs[key].get(way)
                if of_way is not None:
                    ratios[way].append(of_way / milliseconds)
                cells += ["-", "-"] if of_way is None else [f"{of_way:.3f} ms", f"{of_way / milliseconds:.2f}"]
            print("| " + " | ".join(cells) + " |")
        for way, of_way in ratios.items():
            if of_way:
                slower = sum(ratio < 1 for ratio in of_way)
                print(f"\n{way}: ratios {min(of_way):.2f} to {max(of_way):.2f}, median {median(of_way):.2f}; stoker is slower in {slower} of {len(of_way)}")


if __name__ == "__main__":
    sys.exit(main())
