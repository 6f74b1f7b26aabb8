#!/usr/bin/env python3
"""Write what timm says of how images are brought to each registered model; a test holds the registry to it.

    pip install -r scripts/requirements.txt
    cargo build --release
    python scripts/preprocessing_fixture.py
    python scripts/preprocessing_fixture.py --check

A name without a tag has timm's default one, the first in its `default_cfgs`. The values are those of `pretrained_cfg`:
mean, deviation, interpolation and `crop_pct`. timm's version is written beside them. With `--check` nothing is written:
it exits with 1 and prints each model of which the installed timm says something else.
"""

import argparse
import json
import sys
from pathlib import Path

import timm
from timm.models import get_pretrained_cfg

from check_full_size import list_models


def main() -> int:
    arguments = parse_arguments()
    models = [published(model["name"]) for model in list_models(arguments.stoker)]
    if arguments.check:
        return 0 if list_changes(json.loads(arguments.file.read_text())["models"], models) == [] else 1
    rows = ",\n".join(f"    {json.dumps(model)}" for model in models)
    arguments.file.write_text(f'{{\n  "timm": "{timm.__version__}",\n  "models": [\n{rows}\n  ]\n}}\n')
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    fixture = root / "crates/stoker/tests/fixtures/preprocessing.json"
    parser.add_argument("--stoker", type=Path, default=root / "target/release/stoker", help="the binary, for the names")
    parser.add_argument("--file", type=Path, default=fixture, help="the fixture")
    parser.add_argument("--check", action="store_true", help="compare the fixture with the installed timm")
    return parser.parse_args()


def published(name: str) -> dict:
    config = get_pretrained_cfg(name)
    return {
        "name": name,
        "tag": config.tag,
        "mean": config.mean,
        "std": config.std,
        "interpolation": config.interpolation,
        "crop_share": config.crop_pct,
    }


def list_changes(written: list[dict], installed: list[dict]) -> list[str]:
    """The names of which the two say different things; each is printed with both."""
    by_name = {model["name"]: model for model in written}
    # Tuples are lists in JSON.
    installed = json.loads(json.dumps(installed))
    changed = [model["name"] for model in installed if by_name.get(model["name"]) != model]
    for model in installed:
        if model["name"] in changed:
            print(f"{model['name']}: written {by_name.get(model['name'])}, timm {timm.__version__} {model}")
    return changed


if __name__ == "__main__":
    sys.exit(main())
