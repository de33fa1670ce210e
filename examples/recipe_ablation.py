"""What each setting of a recipe is worth: ResNet-9 on a part of Fashion-MNIST.

    pip install -e .[torch]; apt install dataset-fashion-mnist
    python examples/recipe_ablation.py -o build/ablation

Every variant differs from the common recipe in one setting, begins with the same exact network, and
is judged by training images that are put aside. The table shows accuracy on them after conversion
and after all epochs, and the loss there. Runs are kept below the folder: the command goes on there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halut.nn import LayerConfig
from halut.nn.recipe import Augmentation, Distillation, Recipe, Stage, Temperature, Validation
from halut.nn.reconstruct import Reconstruction
from halut.nn.train import train

COMMON = Recipe(
    name="ablation",
    data="fashion_mnist",
    n_train=10_000,
    model="resnet9",
    model_options={"width": 8},
    batch_size=128,
    channels_last=True,
    precision="bfloat16",
    augmentation=Augmentation(pixels=2, flip=True),
    validation=Validation(n_inputs=5000),
    base=Stage(epochs=12, lr=0.01, weight_decay=0.01, warm_up_epochs=1),
    replace=Stage(epochs=0),
    fine_tune=Stage(epochs=5, lr=0.002),
    mode="simultaneous",
    layer=LayerConfig(input_format="int8", max_rows=8192, refine_passes=0),
    temperature=Temperature(start=0.3, unit="spread"),
    tables_lr=2.0,
)

_SPREAD = COMMON.temperature
VARIANTS: dict[str, dict[str, Any]] = {
    "common": {},
    "temperature 1, absolute": {"temperature": Temperature()},
    "temperature 1 x spread": {"temperature": dataclasses.replace(_SPREAD, start=1.0)},
    "temperature 0.1 x spread": {"temperature": dataclasses.replace(_SPREAD, start=0.1)},
    "temperature from 0.4 to 0.1 x spread": {
        "temperature": dataclasses.replace(_SPREAD, schedule="cosine", start=0.4, end=0.1)
    },
    "rate of tables 1": {"tables_lr": 1.0},
    "rate of tables 4": {"tables_lr": 4.0},
    "rate of thresholds 0.1": {"thresholds_lr": 0.1},
    "rate of thresholds 2": {"thresholds_lr": 2.0},
    "rate of norms 0.25": {"norms_lr": 0.25},
    "all rates doubled": {"fine_tune": Stage(epochs=5, lr=0.004)},
    "no distillation": {"distillation": Distillation(weight=0)},
    "reconstruction first": {
        "reconstruct": Reconstruction(block_steps=40, distill_steps=0, batch_size=64)
    },
    "4-bit tables": {"layer": dataclasses.replace(COMMON.layer, lut_bits=4)},
}


def row(folder: Path, name: str) -> str:
    """Return what a run gave, as a line of a table."""
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    after = [entry for entry in history if entry["stage"] != "base"]
    first, last = after[0], after[-1]
    return (
        f"| {name} | {100 * first['validation_accuracy']:.2f} % "
        f"| {100 * last['validation_accuracy']:.2f} % | {last['validation_loss']:.4f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every variant, or those that are named, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/ablation"))
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS),
                        metavar="VARIANT")  # fmt: skip
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    exact = options.output / "exact"
    train(dataclasses.replace(COMMON, layers="none"), exact)
    lines = ["| variant | after its first epoch | at the end | loss |", "|---|---|---|---|"]
    for name in options.only:
        folder = options.output / name.replace(" ", "-").replace(",", "")
        train(dataclasses.replace(COMMON, **VARIANTS[name]), folder, base=exact)
        lines.append(row(folder, name))
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
