"""What each setting of a recipe is worth: ResNet-9 on a part of Fashion-MNIST.

    pip install -e .[torch]; apt install dataset-fashion-mnist
    python examples/recipe_ablation.py -o build/ablation

Every variant differs from the common recipe in one setting, begins with the same exact network, and
is judged by training images that are put aside. The table shows accuracy on them after conversion
and after all epochs, and the loss there. Runs are kept below the folder: the command goes on there.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halut.cli import Parser, run
from halut.nn import LayerConfig
from halut.nn.recipe import Augmentation, Distillation, Recipe, Stage, Temperature, Validation
from halut.nn.reconstruct import Reconstruction
from halut.nn.train import train

_LAYER = LayerConfig(codebook_width=3, input_format="int8", max_rows=8192, refine_passes=0)
_SPREAD = Temperature(schedule="cosine", start=0.4, end=0.1, unit="spread")

COMMON = Recipe(
    name="ablation",
    data="fashion_mnist",
    n_train=20_000,
    model="resnet9",
    model_options={"width": 8},
    batch_size=128,
    channels_last=True,
    precision="bfloat16",
    augmentation=Augmentation(pixels=2, flip=True),
    validation=Validation(n_inputs=10_000),
    base=Stage(epochs=12, lr=0.01, weight_decay=0.01, warm_up_epochs=1),
    replace=Stage(epochs=0),
    fine_tune=Stage(epochs=5, lr=0.002),
    mode="simultaneous",
    layer=_LAYER,
    temperature=_SPREAD,
    tables_lr=2.0,
)


def _layer(**changes: Any) -> dict[str, Any]:
    """Return the common recipe's layer, changed."""
    return {"layer": dataclasses.replace(_LAYER, **changes)}


def _temperature(**changes: Any) -> dict[str, Any]:
    """Return the common recipe's temperature, changed."""
    return {"temperature": dataclasses.replace(_SPREAD, **changes)}


VARIANTS: dict[str, dict[str, Any]] = {
    "common": {},
    "temperature 1, absolute": {"temperature": Temperature()},
    "temperature 0.1 x spread": _temperature(schedule="constant", start=0.1),
    "temperature 0.4 x spread": _temperature(schedule="constant"),
    "temperature from 1 to 0.1 x spread": _temperature(start=1.0),
    "rate of tables 1": {"tables_lr": 1.0},
    "rate of tables 4": {"tables_lr": 4.0},
    "rate of thresholds 0.1": {"thresholds_lr": 0.1},
    "rate of thresholds 2": {"thresholds_lr": 2.0},
    "rate of norms 0.25": {"norms_lr": 0.25},
    "rate of norms 2": {"norms_lr": 2.0},
    "all rates halved": {"fine_tune": Stage(epochs=5, lr=0.001)},
    "all rates quartered": {"fine_tune": Stage(epochs=5, lr=0.0005)},
    "all rates doubled": {"fine_tune": Stage(epochs=5, lr=0.004)},
    "no distillation": {"distillation": Distillation(weight=0)},
    "reconstruction first": {
        "reconstruct": Reconstruction(block_steps=40, distill_steps=0, batch_size=64)
    },
    "4096 calibration images": {"calibration_images": 4096, **_layer(max_rows=32_768)},
    "refined codebooks": _layer(refine_passes=LayerConfig().refine_passes),
    "4-bit tables": _layer(lut_bits=4),
    "codebooks of 2 values": _layer(codebook_width=2),
    "codebooks of 9 values": _layer(codebook_width=9),
    "sums of 2 columns": _layer(encoder="sums", terms=2),
    "sums of 2 columns, codebooks of 6 values": _layer(encoder="sums", terms=2, codebook_width=6),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Train every variant, or those that are named, and print the table."""
    parser = Parser(description=__doc__.splitlines()[0])
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
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
