#!/usr/bin/env python3
"""Write the images and folds that hold crates/data-pipeline against timm, torchvision, Pillow and scikit-learn.

    pip install -r scripts/requirements.txt torchvision scikit-learn
    python scripts/augment_fixtures.py

views.png   tiles of 24 x 24 pixels, one below the other: first the image that everything is done to, then what became of
            it, in the order of views.txt
views.txt   a line for each tile but the first:
              OPERATION MAGNITUDE plain|increasing +|- bilinear|bicubic   timm's `AugmentOp` with that sign drawn
              hue ROUNDS                                                  torchvision's `adjust_hue` of a tensor
              blur SIGMA                                                  torchvision's `gaussian_blur`, 3 sigma to each side
              brightness, contrast or saturation FACTOR                   torchvision's `adjust_..` of a tensor
              mirror, flip, turn QUARTERS                                 torchvision's `hflip` and `vflip`; numpy's `rot90`, clockwise
              rotate DEGREES                                              torchvision's `rotate`, clockwise, of the image with its edge repeated
              erase LEFT TOP WIDTH HEIGHT                                 torchvision's `erase` with ImageNet's mean colour
mix.png     two images, then what timm's `Mixup` made of both, two tiles for each line of mix.txt
mix.txt     a line for each pair: `mixup SHARE`, or `cutmix TOP BOTTOM LEFT RIGHT SHARE`: the rows and columns that came from the other image, and
            the other image's share of the label
source.png  61 x 47 pixels
resized.png tiles of 24 x 24 pixels: what `Image.resize` (bilinear) makes of boxes of source.png
resized_bicubic.png
            the same, bicubic
resized.txt a line for each tile: LEFT TOP WIDTH HEIGHT
saved.png   tiles of 24 x 24 pixels: an image, then what Pillow reads of it once it has saved it as jpeg, without subsampling
saved.txt   a line for each tile but the first: `rgb QUALITY`, or `grey QUALITY` of the green channel alone
whole.png   tiles of 24 x 24 pixels: views of source.png after a whole training transform. Chance is drawn as the crate draws it, by
            fixtures/sample_choices.py; Pillow and torchvision do the rest, but for light and speckle, which numpy does
whole.txt   a line for each tile: EPOCH SAMPLE, of seed 42
folds.csv   label and group of images, a line each below the names of the columns
folds.txt   how uneven the 5 folds are that scikit-learn's `StratifiedGroupKFold` makes of them, a line for each of 20 seeds:
            the deviation between folds of their shares of a class, summed over classes
"""

import argparse
import io
import math
import random
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold
from timm.data import mixup
from timm.data.auto_augment import _RAND_INCREASING_TRANSFORMS, _RAND_TRANSFORMS, AugmentOp
from torchvision.transforms import functional

from fixtures.sample_choices import Choices, Settings, check_stream

SIDE = 24
# ImageNet's mean colour, as timm's `create_transform` rounds it.
FILL = (124, 116, 104)
MOVES = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
SIGNED = ("ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing")
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
BOXES = [(0, 0, 61, 47), (0, 0, 24, 24), (3.5, 2.25, 40, 30.5), (10, 5, 12, 9), (30.75, 20.125, 30, 26), (7, 0, 48, 24)]

# With these every operation is done at least once, and left out at least once.
WHOLE_KEYS = [(42, 3, sample) for sample in (3, 9, 12, 22, 36)]
# Those of `whole_transform` in transform/reference.rs.
WHOLE = Settings(
    scale=(0.4, 0.9),
    ratio=(0.8, 1.25),
    flip=0.5,
    rotation_degrees=20.0,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.05,
    uneven_light=0.3,
    blur=0.5,
    blur_sigma=(0.1, 2.0),
    speckle=0.05,
    erase=0.5,
    erase_area=(0.02, 1 / 3),
    erase_ratio=(0.3, 1 / 0.3),
)


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Slopes, edges and noise, and not all values in every channel."""
    generator = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    planes = [200 * x + 30 * y + 20, 120 + 90 * np.sin(7 * x * y + 4 * y), 40 + 150 * y * (1 - x)]
    values = np.stack(planes, axis=-1)
    values[height // 4 : height // 2, width // 3 : width // 2] = (235, 60, 30)
    values += generator.normal(0, 8, values.shape)
    return Image.fromarray(np.clip(values, 5, 245).astype(np.uint8))


def rand_augment_cases() -> list[tuple[str, AugmentOp, str]]:
    """A line, the operation and the sign of each case."""
    cases = []
    for names, kind in ((_RAND_TRANSFORMS, "plain"), (_RAND_INCREASING_TRANSFORMS, "increasing")):
        for name in names:
            moves = name in MOVES
            if moves and kind == "increasing":
                continue  # the same
            for magnitude in (9,) if moves else (9, 3):
                for sign in "+-" if moves or name in SIGNED else "+":
                    for interpolation in INTERPOLATIONS if moves else ("bilinear",):
                        hparams = {"img_mean": FILL, "interpolation": INTERPOLATIONS[interpolation]}
                        operation = AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)
                        plain_name = name.removesuffix("Increasing").removesuffix("Rel")
                        cases.append((f"{plain_name} {magnitude} {kind} {sign} {interpolation}", operation, sign))
    return cases


def write_views(folder: Path) -> None:
    image = picture(SIDE, SIDE, 1)
    lines, tiles = [], [image]
    for line, operation, sign in rand_augment_cases():
        # timm negates when the draw is above one half.
        with mock.patch.object(random, "random", lambda sign=sign: 0.9 if sign == "-" else 0.1):
            tiles.append(operation(image))
        lines.append(line)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for rounds in (-0.5, -0.1, 0.03, 0.25):
        tiles.append(to_image(functional.adjust_hue(tensor, rounds)))
        lines.append(f"hue {rounds}")
    for sigma in (0.4, 1.0, 2.0):
        side = 2 * math.ceil(3 * sigma) + 1
        tiles.append(to_image(functional.gaussian_blur(tensor, [side, side], [sigma, sigma])))
        lines.append(f"blur {sigma}")
    for line, tile in plain_cases(image, tensor):
        lines.append(line)
        tiles.append(tile)
    write_tiles(folder / "views.png", tiles)
    (folder / "views.txt").write_text("".join(f"{line}\n" for line in lines))


def plain_cases(image: Image.Image, tensor: torch.Tensor) -> list[tuple[str, Image.Image]]:
    cases = []
    for factor in (0.6, 1.3):
        for name in ("brightness", "contrast", "saturation"):
            adjust = getattr(functional, f"adjust_{name}")
            cases.append((f"{name} {factor}", to_image(adjust(tensor, factor))))
    cases.append(("mirror", to_image(functional.hflip(tensor))))
    cases.append(("flip", to_image(functional.vflip(tensor))))
    for quarters in (1, 2, 3):
        cases.append((f"turn {quarters}", Image.fromarray(np.rot90(np.array(image), -quarters).copy())))
    for degrees in (5.0, -11.5, 30.0):
        cases.append((f"rotate {degrees}", to_image(rotated(tensor, degrees))))
    for left, top, width, height in ((3, 5, 7, 4), (0, 0, 1, 9), (12, 8, 12, 16)):
        color = torch.tensor(FILL, dtype=torch.uint8)[:, None, None]
        hidden = functional.erase(tensor, top, left, height, width, color)
        cases.append((f"erase {left} {top} {width} {height}", to_image(hidden)))
    return cases


def rotated(tensor: torch.Tensor, degrees: float) -> torch.Tensor:
    wide = functional.pad(tensor, [SIDE], padding_mode="edge")
    turned = functional.rotate(wide, -degrees, functional.InterpolationMode.BILINEAR)
    return functional.center_crop(turned, [SIDE, SIDE])


def write_mixed(folder: Path) -> None:
    images = [picture(SIDE, SIDE, 4), picture(SIDE, SIDE, 5).transpose(Image.Transpose.ROTATE_90)]
    lines, tiles = [], list(images)
    batch = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]).float()
    settings = [("mixup", 0.85, None), ("mixup", 0.5, None), ("cutmix", 0.75, (9, 15)), ("cutmix", 0.4, (2, 22))]
    for name, own_share, middle in settings:
        alphas = {"mixup_alpha": 0.0 if middle else 1.0, "cutmix_alpha": 1.0 if middle else 0.0}
        mixer = mixup.Mixup(**alphas, label_smoothing=0.0, num_classes=2)
        draws = {"beta": lambda *_, own_share=own_share: own_share, "rand": lambda: 0.0}
        draws["randint"] = lambda *_, places=iter(middle or ()), **__: next(places)
        with mock.patch.multiple(np.random, **draws):
            mixed, targets = mixer(batch.clone(), torch.tensor([0, 1]))
        share = float(targets[0, 1])
        if middle:
            rows, columns = other_parts(batch, mixed)
            lines.append(f"cutmix {rows[0]} {rows[1]} {columns[0]} {columns[1]} {share:.6f}")
        else:
            lines.append(f"mixup {share:.6f}")
        tiles.extend(to_image(image.round().to(torch.uint8)) for image in mixed)
    write_tiles(folder / "mix.png", tiles)
    (folder / "mix.txt").write_text("".join(f"{line}\n" for line in lines))


def other_parts(batch: torch.Tensor, mixed: torch.Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns, each from and to, that the first image has from the other."""
    changed = (mixed[0] != batch[0]).any(dim=0)
    spans = [changed.any(dim=1 - axis).nonzero().flatten() for axis in range(2)]
    return tuple((int(span.min()), int(span.max()) + 1) for span in spans)


def write_resized(folder: Path) -> None:
    source = picture(61, 47, 2)
    source.save(folder / "source.png", optimize=True)
    boxes = [(left, top, left + width, top + height) for left, top, width, height in BOXES]
    for name, interpolation in (("resized", "bilinear"), ("resized_bicubic", "bicubic")):
        tiles = [source.resize((SIDE, SIDE), INTERPOLATIONS[interpolation], box=box) for box in boxes]
        write_tiles(folder / f"{name}.png", tiles)
    (folder / "resized.txt").write_text("".join(" ".join(map(str, box)) + "\n" for box in BOXES))


def write_saved(folder: Path) -> None:
    image = picture(SIDE, SIDE, 1)
    lines, tiles = [], [image]
    for kind, whole in (("rgb", image), ("grey", image.getchannel("G"))):
        for quality in (30, 60, 90):
            file = io.BytesIO()
            whole.save(file, "JPEG", quality=quality, **({"subsampling": 0} if kind == "rgb" else {}))
            lines.append(f"{kind} {quality}")
            tiles.append(Image.open(file).convert("RGB"))
    write_tiles(folder / "saved.png", tiles)
    (folder / "saved.txt").write_text("".join(f"{line}\n" for line in lines))


def write_whole(folder: Path) -> None:
    check_stream()
    source = picture(61, 47, 2)
    tiles = [whole_view(source, Choices(WHOLE, key, source.size, SIDE)) for key in WHOLE_KEYS]
    write_tiles(folder / "whole.png", tiles)
    (folder / "whole.txt").write_text("".join(f"{epoch} {sample}\n" for _, epoch, sample in WHOLE_KEYS))


def whole_view(source: Image.Image, choices: Choices) -> Image.Image:
    """Values stay fractions from the resized image to the end, where they are rounded once."""
    left, top, width, height = choices.crop
    crop = source.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    view = torch.from_numpy(np.array(crop)).permute(2, 0, 1).float() / 255
    view = functional.hflip(view) if choices.mirrors else view
    view = functional.vflip(view) if choices.flips else view
    view = rotated(torch.rot90(view, -choices.quarters, (1, 2)), choices.degrees)
    for name, factor in zip(("brightness", "contrast", "saturation"), choices.factors):
        view = getattr(functional, f"adjust_{name}")(view, factor)
    view = functional.adjust_hue(view, choices.hue)
    view = (view * light(choices.light, choices.direction)).clamp(0, 1)
    if choices.sigma:
        side = 2 * math.ceil(3 * choices.sigma) + 1
        view = functional.gaussian_blur(view, [side, side], [choices.sigma, choices.sigma])
    view = (view * 255).round().to(torch.uint8)
    for place, value in choices.speckles:
        view[:, place // SIDE, place % SIDE] = value
    if choices.erased:
        left, top, width, height = choices.erased
        view = functional.erase(view, top, left, height, width, torch.tensor(FILL, dtype=torch.uint8)[:, None, None])
    return to_image(view)


def light(strength: float, direction: float) -> torch.Tensor:
    """1 - strength in the darkest corner, 1 + strength in the brightest, and a plane between them."""
    x, y = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
    plane = math.cos(direction) * x + math.sin(direction) * y
    return torch.from_numpy(1 + strength * plane / plane.max()).float()


def write_folds(folder: Path) -> None:
    """Groups of 1 to 9 images, most of them of one class, as pages of documents are."""
    generator = np.random.default_rng(3)
    labels, groups = [], []
    for group in range(90):
        own = generator.choice(4, p=[0.5, 0.3, 0.15, 0.05])
        for _ in range(generator.integers(1, 10)):
            labels.append(own if generator.random() < 0.8 else generator.integers(4))
            groups.append(group)
    labels, groups = np.array(labels), np.array(groups)
    rows = "".join(f"{label},{group}\n" for label, group in zip(labels, groups))
    (folder / "folds.csv").write_text(f"label,group\n{rows}")
    (folder / "folds.txt").write_text("".join(f"{unevenness(labels, groups, seed):.6f}\n" for seed in range(20)))


def unevenness(labels: np.ndarray, groups: np.ndarray, seed: int) -> float:
    split = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=seed).split(labels, labels, groups)
    counts = np.array([np.bincount(labels[validation], minlength=4) for _, validation in split])
    return float((counts / counts.sum(axis=0)).std(axis=0).sum())


def to_image(tensor: torch.Tensor) -> Image.Image:
    return Image.fromarray(tensor.permute(1, 2, 0).numpy())


def write_tiles(path: Path, tiles: list[Image.Image]) -> None:
    Image.fromarray(np.concatenate([np.array(tile) for tile in tiles])).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--root", type=Path, default=root, help="write below this folder (default: the repository)")
    folder = parser.parse_args().root / "crates/data-pipeline/tests/fixtures"
    folder.mkdir(parents=True, exist_ok=True)
    write_views(folder)
    write_mixed(folder)
    write_resized(folder)
    write_saved(folder)
    write_whole(folder)
    write_folds(folder)


if __name__ == "__main__":
    main()
