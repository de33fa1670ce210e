"""``python -m halut formats``: what each number format costs a network, without training for it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from halut.errors import HalutError
from halut.files import atomic_write
from halut.formats import FLOAT_FORMATS

_INPUT_FORMATS = (*FLOAT_FORMATS, "int16", "int8", "int6", "int5", "int4")
_LUT_BITS = (16, 12, 8, 6, 5, 4)


def add_verb(verbs: Any) -> None:
    """Add ``formats`` to the command line."""
    verb = verbs.add_parser(
        "formats",
        help="accuracy of a trained network in each number format",
        description="Set all replaced layers of a trained network to one input format, or to one "
        "width of table entries, after the other, and measure the accuracy on test images. "
        "Nothing is trained again.",
    )
    add = verb.add_argument
    add("network", metavar="NETWORK", help="network file (.pt) with converted layers")
    add("-o", "--output", metavar="FILE", help="also write what was measured (.json)")
    add("--root", metavar="DIR",
        help="folder of the network's data set (default: as it was trained)")  # fmt: skip
    verb.set_defaults(run=_formats)


def _formats(options: argparse.Namespace) -> int:
    from halut.nn import need_torch

    need_torch()
    import torch

    from halut.nn.network import halut_layers, load_data, load_network

    model, header = load_network(options.network)
    layers = halut_layers(model)
    for name, layer in layers.items():
        if layer.input_bits or layer.config.encoder != "tree":
            raise HalutError(
                f"layers must be trees that read values, not integers or centroids (layer {name})"
            )
    data = load_data(header, options.root)

    @torch.no_grad()
    def accuracy() -> float:
        right = sum(
            int((model(images).argmax(dim=1) == labels).sum())
            for images, labels in zip(data.test_x.split(256), data.test_y.split(256), strict=True)
        )
        return right / len(data.test_x)

    trained = {name: layer.config for name, layer in layers.items()}
    rows: list[dict[str, Any]] = [{"what": "as trained", "accuracy": accuracy()}]
    for what, choices in (("input_format", _INPUT_FORMATS), ("lut_bits", _LUT_BITS)):
        for choice in choices:
            for name, layer in layers.items():
                layer.config = trained[name]
                layer.set_formats(**{what: choice})
            rows.append({"what": f"{what} {choice}", "accuracy": accuracy()})
    for row in rows:
        change = 100 * (row["accuracy"] - rows[0]["accuracy"])
        print(f"{row['what']:22} {100 * row['accuracy']:6.2f} %  {change:+6.2f} points")
    print(f"{len(data.test_x)} test images of {data.name}; all {len(layers)} replaced layers")
    if options.output:
        report = {"kind": "halut-network-formats", "network": options.network, "rows": rows}
        with atomic_write(options.output) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(f"wrote {options.output}")
    return 0
