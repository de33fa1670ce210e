"""What the tests of whole systems begin with."""

from __future__ import annotations

import os
from pathlib import Path

from halut.nn.recipe import Recipe
from halut.nn.train import train

LITEX = os.environ.get("HALUT_LITEX", "build/soc/venv/bin/python")
"""The Python in whose environment LiteX is installed."""


def tiny_network(folder: Path) -> Path:
    """Train a tiny ResNet-9 on digits for an epoch a stage; return its file."""
    recipe = {
        "version": 1, "name": "tiny", "data": "digits", "model": "resnet9",
        "model_options": {"width": 4}, "batch_size": 64,
        "base": {"epochs": 1, "lr": 0.01}, "replace": {"epochs": 1, "lr": 0.005},
        "fine_tune": {"epochs": 1, "lr": 0.005},
        "layer": {"n_prototypes": 16, "lut_bits": 8, "input_format": "int8", "max_rows": 1024},
    }  # fmt: skip
    train(Recipe.from_dict(recipe), folder)
    return folder / "network.pt"
