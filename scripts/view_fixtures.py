"""Makes the fixture of crates/inference: views and merges by ttach, the library for test-time augmentation in PyTorch.

    python -m venv venv && venv/bin/pip install torch==2.15.0 ttach==0.0.3
    venv/bin/python scripts/view_fixtures.py            # writes crates/inference/tests/fixtures/ttach.json

Views are `{name, pixels}` of one image [1, 3, 8, 8]; a view of stoker is the chain of ttach's transforms that it is named for. ttach has no
zoom: `center_crop_0.5` is its centre crop, enlarged by PyTorch as its `Resize` does. Merges are those of one table of logits
[views, images, classes]. ttach neither makes its geometric mean nor its maximum sum to 1: that is done here.
"""

import json
from pathlib import Path

import torch
import ttach
from ttach.base import Merger

FIXTURE = Path(__file__).parent.parent / "crates/inference/tests/fixtures/ttach.json"

HORIZONTAL, VERTICAL = ttach.HorizontalFlip(), ttach.VerticalFlip()
TURN = ttach.Rotate90(angles=[0, 90, 180, 270])


def views(image):
    """Each view of `image` by ttach's own transforms."""
    side = image.shape[-1]
    crop = ttach.functional.center_crop(image, side // 2, side // 2)
    return {
        "identity": image,
        "rotate_90": TURN.apply_aug_image(image, angle=90),
        "rotate_180": TURN.apply_aug_image(image, angle=180),
        "rotate_270": TURN.apply_aug_image(image, angle=270),
        "flip_horizontal": HORIZONTAL.apply_aug_image(image, apply=True),
        "flip_vertical": VERTICAL.apply_aug_image(image, apply=True),
        # Turned, then mirrored: the two diagonals.
        "transpose": VERTICAL.apply_aug_image(TURN.apply_aug_image(image, angle=90), apply=True),
        "anti_transpose": HORIZONTAL.apply_aug_image(TURN.apply_aug_image(image, angle=90), apply=True),
        "brightness_0.8": ttach.Multiply(factors=[0.8]).apply_aug_image(image, factor=0.8),
        "center_crop_0.5": ttach.functional.resize(crop, (side, side), "bilinear", align_corners=False),
    }


def merge(rule, rows):
    merger = Merger(type=rule, n=len(rows))
    for row in rows:
        merger.append(row)
    return merger.result


def merges(logits):
    probabilities = logits.softmax(-1)
    shares = {"geometric": merge("gmean", probabilities), "max": merge("max", probabilities)}
    return {
        "mean": merge("mean", probabilities),
        "logits": merge("mean", logits).softmax(-1),
        **{name: share / share.sum(-1, keepdim=True) for name, share in shares.items()},
    }


def main():
    generator = torch.Generator().manual_seed(6)
    image = torch.rand((1, 3, 8, 8), generator=generator, dtype=torch.float64)
    image = (image * 200).round() / 256  # few digits, which f32 holds exactly, and nothing to clamp
    logits = (torch.randn((5, 4, 3), generator=generator, dtype=torch.float64) * 3 * 64).round() / 64
    fixture = {
        "image": image.flatten().tolist(),
        "views": {name: [round(value, 9) for value in view.flatten().tolist()] for name, view in views(image).items()},
        "logits": logits.tolist(),
        "merges": {name: [[round(p, 9) for p in row] for row in rows.tolist()] for name, rows in merges(logits).items()},
    }
    FIXTURE.parent.mkdir(exist_ok=True)
    FIXTURE.write_text(json.dumps(fixture, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
