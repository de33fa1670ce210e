"""``python -m halut dataless``: what it costs to learn a network's layers without its data."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from halut.commands.network import add_formats, add_network, read_network
from halut.files import write_text


def add_verb(verbs: Any) -> None:
    """Add ``dataless`` to the command line."""
    verb = verbs.add_parser(
        "dataless",
        help="what it costs to learn a network's layers without its data",
        description="Learn each layer of an exact network from images, from noise that its batch "
        "norms normalise, and from independent values with the mean and deviation that they "
        "guarantee. The errors are those on test images; the last columns are those once tables "
        "were learned again from images.",
    )
    add = verb.add_argument
    add_network(add, "network file (.pt or .safetensors) with layers that are not converted")
    add("--calibration", type=int, default=256, metavar="N",
        help="images of the training part, or of noise, to learn from (default: %(default)s)"
        )  # fmt: skip
    add("--images", type=int, default=500, metavar="N",
        help="images of the test part at most (default: %(default)s)")  # fmt: skip
    add_formats(add)
    add("--seed", type=int, default=0, metavar="N", help="of what is drawn (default: 0)")
    add("-o", "--output", metavar="FILE", help="also write the figures (.json)")
    verb.set_defaults(run=_dataless)


def _dataless(options: argparse.Namespace) -> int:
    from halut.checks import integer_from
    from halut.nn import LayerConfig, need_torch

    need_torch()
    from halut.nn.dataless import study
    from halut.nn.display import shown
    from halut.nn.network import load_data

    for name, low in (("calibration", 2), ("images", 1)):
        integer_from(f"--{name}", getattr(options, name), low)
    config = LayerConfig(lut_bits=options.lut_bits, input_format=options.input)
    model, header = read_network(options)
    data = load_data(header, options.root, options.imports).labelled()
    found = study(
        model,
        data.train_x[: options.calibration],
        data.test_x[: options.images],
        data.test_y[: options.images],
        config,
        options.seed,
        lambda names: shown(names, "learning", "layer", True),
    )
    print(found)
    if options.output:
        write_text(Path(options.output), json.dumps(found.to_dict(), indent=1) + "\n")
        print(f"wrote {options.output}")
    return 0
