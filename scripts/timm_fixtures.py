#!/usr/bin/env python3
"""Write the fixtures that hold stoker against timm and PyTorch.

    pip install -r scripts/requirements.txt
    python scripts/timm_fixtures.py

ConvNeXt, in `models/convnext/tests/fixtures/`, for a colour and a grey test-size model:

    NAME_weights.safetensors    exactly timm's `state_dict`, every tensor seeded random
    NAME_cases.safetensors      CASE.input           u8  [B, C, H, W], the model sees (input - 128) / 64
                                CASE.logits          f32 [B, classes], eval mode
                                CASE.gradient.PARAM  f32, of `sum(logits[i] * cos(i))` in train mode without
                                                     drop-path, i the flat row-major index into the logits

The optimizer, the loss, clipping and the learning rate, in `crates/trainer/tests/fixtures/`: their layouts stand with
the functions that make them, below.

Every reference is computed in f64 from inputs that f32 holds exactly and rounded once, so that a file carries no
rounding error of PyTorch's own; PyTorch in f32 must agree with it, or nothing is written.
"""

import argparse
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn

Tensors = dict[str, Tensor]

NUM_CLASSES = 5
# Loose enough for any BLAS, ten times below what the Rust tests ask for. Relative to a tensor's largest value.
LOGITS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
TRAINER_TOLERANCE = 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--root", type=Path, default=root, help="write below this folder (default: the repository)")
    root = parser.parse_args().root

    torch.set_num_threads(1)  # one order of summation, so that a second run writes the same bytes
    for model in CONVNEXT_MODELS:
        write_convnext(root / "models/convnext/tests/fixtures", model)

    trainer = root / "crates/trainer/tests/fixtures"
    write(trainer / "adamw.safetensors", adamw_steps())
    write(trainer / "cross_entropy.safetensors", label_smoothed_cross_entropy())
    write(trainer / "clip_grad_norm.safetensors", clipped_gradients())
    write(trainer / "learning_rates.safetensors", learning_rates())


# --- ConvNeXt ---------------------------------------------------------------------------------------------------------


@dataclass
class TestModel:
    """A timm model cut to test size, and the input sizes [batch, height, width] that it is asked about."""

    name: str
    timm_name: str
    seed: int
    in_chans: int
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    cases: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def create(self) -> nn.Module:
        # convnext_atto keeps its MLP as 1x1 convolutions, [4C, C, 1, 1], and convnext_tiny as linear layers, [4C, C].
        return timm.create_model(
            self.timm_name,
            depths=self.depths,
            dims=self.dims,
            in_chans=self.in_chans,
            num_classes=NUM_CLASSES,
            drop_path_rate=0.0,
        )


CONVNEXT_MODELS = [
    TestModel(
        name="rgb",
        timm_name="convnext_atto",
        seed=1,
        in_chans=3,
        depths=(1, 1, 2, 1),
        dims=(8, 16, 24, 32),
        cases={
            "square": (3, 64, 64),
            "wide": (2, 64, 96),
            # Not divisible by the total stride of 32: each strided convolution drops the rows that are left over.
            "uneven": (2, 70, 58),
        },
    ),
    TestModel(
        name="grey",
        timm_name="convnext_tiny",
        seed=2,
        in_chans=1,
        depths=(1, 1, 1, 1),
        dims=(4, 8, 12, 16),
        cases={"square": (3, 64, 64)},
    ),
]


def write_convnext(folder: Path, spec: TestModel) -> None:
    generator = torch.Generator().manual_seed(spec.seed)
    model = spec.create()
    randomize_parameters(model, generator)
    cases: Tensors = {}
    for case, (batch, height, width) in spec.cases.items():
        pixels = draw_pixels((batch, spec.in_chans, height, width), generator)
        for key, tensor in run_case(model, pixels, f"{spec.name} {case}").items():
            cases[f"{case}.{key}"] = tensor

    about = {"model": spec.timm_name, "in_chans": spec.in_chans, "depths": spec.depths, "dims": spec.dims}
    write(folder / f"{spec.name}_weights.safetensors", model.float().state_dict(), about)
    write(folder / f"{spec.name}_cases.safetensors", cases, about)


@torch.no_grad()
def randomize_parameters(model: nn.Module, generator: torch.Generator) -> None:
    """Far from the initialisation, where layer scale, norms and biases are constants that hide a mistake.

    Tested by breaking timm's model: with norms of epsilon 1e-5 for 1e-6, logits and gradients move by over 1e-3, and
    with GELU's tanh approximation by 1e-4 and 1e-3.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            parameter.uniform_(0.1, 1.0, generator=generator)
        elif parameter.ndim == 1 and name.endswith("weight"):
            parameter.uniform_(0.5, 1.5, generator=generator)  # norms
        else:
            spread = 0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5  # biases; weights by fan-in
            parameter.normal_(0.0, spread * gain(name), generator=generator)


def gain(name: str) -> float:
    if "stem.0" in name or "downsample.1" in name or "mlp.fc2" in name or name.endswith("conv_dw.bias"):
        return 0.03  # goes, added up, into the norms: they see a variance of about 1e-3, where an epsilon shows
    if "mlp.fc1" in name:
        return 2.0  # reaches the range, about 2 to 3, where GELU and its approximation are furthest apart
    return 1.0


def draw_pixels(shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    """Coarse blocks under fine noise: pooling would wash out noise alone and leave every sample the same."""
    batch, channels, height, width = shape
    blocks = torch.randint(0, 192, (batch, channels, 5, 5), generator=generator)
    rows = torch.arange(height) * 5 // height
    columns = torch.arange(width) * 5 // width
    noise = torch.randint(0, 64, shape, generator=generator)
    return (blocks[:, :, rows][:, :, :, columns] + noise).to(torch.uint8)


def run_case(model: nn.Module, pixels: Tensor, label: str) -> Tensors:
    reference = logits_and_gradients(model.double(), (pixels.double() - 128) / 64)
    in_f32 = logits_and_gradients(model.float(), (pixels.float() - 128) / 64)
    errors = {key: relative_error(in_f32[key], reference[key]) for key in reference}
    logits_error = errors.pop("logits")
    require(logits_error < LOGITS_TOLERANCE, f"{label}: logits in f32 are off by {logits_error:.1e}")
    worst = max(errors, key=errors.get)
    require(errors[worst] < GRADIENT_TOLERANCE, f"{label}: {worst} in f32 is off by {errors[worst]:.1e}")
    print(f"{label}: PyTorch in f32 is within {logits_error:.0e} (logits), {errors[worst]:.0e} ({worst})")
    return {"input": pixels} | round_to_f32(reference)


def logits_and_gradients(model: nn.Module, inputs: Tensor) -> Tensors:
    model.eval()
    with torch.no_grad():
        logits = model(inputs)

    model.train()
    model.zero_grad()
    outputs = model(inputs)
    index = torch.arange(outputs.numel(), dtype=torch.float64).view_as(outputs)
    (outputs * index.cos().to(outputs.dtype)).sum().backward()
    gradients = {f"gradient.{name}": parameter.grad.clone() for name, parameter in model.named_parameters()}
    return {"logits": logits} | gradients


# --- Optimizer --------------------------------------------------------------------------------------------------------

PARAMETER_SHAPES = {"weight": (4, 3), "bias": (4,)}
ADAMW_STEPS = 5
# No arguments: PyTorch's defaults, lr 1e-3, betas (0.9, 0.999), eps 1e-8, weight_decay 1e-2.
# `no_decay` is the reference for vectors, which stoker never decays.
ADAMW_SETTINGS = {"defaults": {}, "decay_0.05": {"lr": 1e-3, "weight_decay": 0.05}, "no_decay": {"weight_decay": 0.0}}


def adamw_steps() -> Tensors:
    """`torch.optim.AdamW`, P being `weight` or `bias` and STEP counting from 1.

    initial.P, gradient.STEP.P        what goes in, the same for every setting
    SETTING.STEP.P                    the parameter after that step

    A step, with m and v zero at first:
        p = p - lr * weight_decay * p
        m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2
        p = p - lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
    """
    generator = torch.Generator().manual_seed(3)
    initial = {name: torch.randn(shape, generator=generator) for name, shape in PARAMETER_SHAPES.items()}
    # Row by row ordinary, small, as small as eps (only here does its place in the formula show), and zero.
    scale = torch.tensor([1.0, 1e-3, 1e-8, 0.0])
    gradients = []
    for _ in range(ADAMW_STEPS):
        weight = torch.randn(PARAMETER_SHAPES["weight"], generator=generator) * scale[:, None]
        gradients.append({"weight": weight, "bias": torch.randn(4, generator=generator) * scale})

    tensors = {f"initial.{name}": tensor for name, tensor in initial.items()}
    for step, by_name in enumerate(gradients, start=1):
        tensors |= {f"gradient.{step}.{name}": gradient for name, gradient in by_name.items()}
    for setting, arguments in ADAMW_SETTINGS.items():
        steps = in_both_precisions(lambda dtype: run_adamw(initial, gradients, arguments, dtype))
        tensors |= {f"{setting}.{key}": tensor for key, tensor in steps.items()}
    return tensors


def run_adamw(initial: Tensors, gradients: list[Tensors], arguments: dict, dtype: torch.dtype) -> Tensors:
    parameters = {name: nn.Parameter(tensor.to(dtype, copy=True)) for name, tensor in initial.items()}
    optimizer = torch.optim.AdamW(parameters.values(), **arguments)
    after: Tensors = {}
    for step, by_name in enumerate(gradients, start=1):
        for name, parameter in parameters.items():
            parameter.grad = by_name[name].to(dtype)
        optimizer.step()
        after |= {f"{step}.{name}": parameter.detach().clone() for name, parameter in parameters.items()}
    return after


def clipped_gradients() -> Tensors:
    """`torch.nn.utils.clip_grad_norm_`, P being `weight` or `bias`.

    gradient.P                        what goes in
    norm                              [1], the norm of both tensors together, before clipping
    CASE.max_norm                     [1], below the norm in `above_limit`, above it in `below_limit`
    CASE.gradient.P                   gradient * min(1, max_norm / (norm + 1e-6))
    """
    generator = torch.Generator().manual_seed(4)
    gradients = {name: torch.randn(shape, generator=generator) for name, shape in PARAMETER_SHAPES.items()}
    tensors = {f"gradient.{name}": gradient for name, gradient in gradients.items()}
    for case, max_norm in {"above_limit": 1.0, "below_limit": 100.0}.items():
        clipped = in_both_precisions(lambda dtype: run_clipping(gradients, max_norm, dtype))
        tensors["norm"] = clipped.pop("norm")
        tensors[f"{case}.max_norm"] = torch.tensor([max_norm])
        tensors |= {f"{case}.{key}": tensor for key, tensor in clipped.items()}
    return tensors


def run_clipping(gradients: Tensors, max_norm: float, dtype: torch.dtype) -> Tensors:
    parameters = {name: nn.Parameter(torch.zeros_like(gradient, dtype=dtype)) for name, gradient in gradients.items()}
    for name, parameter in parameters.items():
        parameter.grad = gradients[name].to(dtype, copy=True)
    norm = nn.utils.clip_grad_norm_(parameters.values(), max_norm)
    return {"norm": norm.reshape(1)} | {f"gradient.{name}": parameter.grad for name, parameter in parameters.items()}


# --- Loss and learning rate -------------------------------------------------------------------------------------------


def label_smoothed_cross_entropy() -> Tensors:
    """`torch.nn.functional.cross_entropy` with `label_smoothing` S of 0 and 0.1, B 6 samples, K 5 classes.

    logits                            f32 [B, K]; the last row's are large, where a bare exp overflows
    labels                            i64 [B]
    smoothing_S.losses                [B], -sum_k q[k] * log_softmax(logits)[k]
                                      with q[k] = S / K, plus 1 - S at the label
    smoothing_S.loss                  [1], their mean
    smoothing_S.gradient              [B, K], of the mean: (softmax(logits) - q) / B
    """
    generator = torch.Generator().manual_seed(5)
    logits = 2.0 * torch.randn((6, NUM_CLASSES), generator=generator)
    logits[-1] = torch.tensor([120.0, -95.0, 3.5, 118.0, 0.0])
    labels = torch.tensor([0, 4, 2, 1, 3, 3])
    tensors = {"logits": logits, "labels": labels}
    for smoothing in (0.0, 0.1):
        results = in_both_precisions(lambda dtype: run_cross_entropy(logits.to(dtype), labels, smoothing))
        tensors |= {f"smoothing_{smoothing:g}.{key}": tensor for key, tensor in results.items()}
    return tensors


def run_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensors:
    logits = logits.clone().requires_grad_()
    losses = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    loss = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    loss.backward()
    return {"losses": losses.detach(), "loss": loss.detach().reshape(1), "gradient": logits.grad}


# Total steps, warm-up steps, peak and minimum rate.
SCHEDULES = {
    "warm_up": (20, 4, 1e-3, 1e-6),
    "no_warm_up": (12, 0, 5e-4, 0.0),
    "mostly_warm_up": (10, 7, 1e-2, 1e-4),
}


def learning_rates() -> Tensors:
    """timm's `CosineLRScheduler` stepped by optimizer steps, all in f64.

    CASE.total_steps, .warmup_steps   i64 [1]; T and W
    CASE.peak, .minimum               f64 [1]
    CASE.learning_rates               f64 [T], the rate that step t = 0 .. T-1 is taken with

    t < W:   peak * (t + 1) / (W + 1)
    t >= W:  minimum + (peak - minimum) * (1 + cos(pi * (t - W) / (T - 1 - W))) / 2

    So no step has a rate of zero, step W has the peak and the last step the minimum. timm takes the warm-up's first
    rate as `warmup_lr_init`, here peak / (W + 1). It refuses T - 1 = W, where the cosine has no length.
    """
    tensors: Tensors = {}
    for case, (total, warmup, peak, minimum) in SCHEDULES.items():
        rates = run_schedule(total, warmup, peak, minimum)
        for step, rate in enumerate(rates):
            if step < warmup:
                expected = peak * (step + 1) / (warmup + 1)
            else:
                share = (step - warmup) / (total - 1 - warmup)
                expected = minimum + (peak - minimum) * (1 + math.cos(math.pi * share)) / 2
            require(abs(rate - expected) < 1e-12 * peak, f"{case}: step {step} has {rate}, the formula {expected}")
        tensors[f"{case}.learning_rates"] = torch.tensor(rates, dtype=torch.float64)
        tensors[f"{case}.total_steps"] = torch.tensor([total])
        tensors[f"{case}.warmup_steps"] = torch.tensor([warmup])
        tensors[f"{case}.peak"] = torch.tensor([peak], dtype=torch.float64)
        tensors[f"{case}.minimum"] = torch.tensor([minimum], dtype=torch.float64)
    return tensors


def run_schedule(total: int, warmup: int, peak: float, minimum: float) -> list[float]:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=total - 1 - warmup,
        lr_min=minimum,
        warmup_t=warmup,
        warmup_lr_init=peak / (warmup + 1),
        warmup_prefix=True,
        t_in_epochs=False,
    )
    rates = []
    for step in range(total):
        scheduler.step_update(num_updates=step)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


# --- Common -----------------------------------------------------------------------------------------------------------


def in_both_precisions(compute) -> Tensors:
    """What `compute(dtype)` gives in f64, rounded to f32, once f32 has been seen to agree."""
    reference = compute(torch.float64)
    for key, tensor in compute(torch.float32).items():
        error = relative_error(tensor, reference[key])
        require(error < TRAINER_TOLERANCE, f"{key}: PyTorch in f32 is off by {error:.1e}")
    return round_to_f32(reference)


def relative_error(found: Tensor, reference: Tensor) -> float:
    """The largest difference, relative to the largest reference value."""
    return ((found.double() - reference).abs().max() / reference.abs().max()).item()


def round_to_f32(tensors: Tensors) -> Tensors:
    return {key: tensor.float() for key, tensor in tensors.items()}


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"error: {otherwise}")


def write(path: Path, tensors: Tensors, about: dict | None = None) -> None:
    origin = {"script": "scripts/timm_fixtures.py", "torch": torch.__version__.split("+")[0], "timm": timm.__version__}
    path.parent.mkdir(parents=True, exist_ok=True)
    # One metadata entry: safetensors writes several in no fixed order, and a second run should change nothing.
    save_file(
        {key: tensor.detach().contiguous() for key, tensor in tensors.items()},
        path,
        metadata={"fixture": json.dumps(origin | (about or {}))},
    )
    print(f"{path}: {len(tensors)} tensors, {path.stat().st_size / 1024:.1f} KiB")


if __name__ == "__main__":
    main()
