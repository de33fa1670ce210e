"""``python -m halut analyse``: replace each layer of a network alone, over a grid of C and K."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

from halut.commands.network import add_network, read_network
from halut.errors import HalutError
from halut.files import atomic_write


def add_verb(verbs: Any) -> None:
    """Add ``analyse`` to the command line."""
    verb = verbs.add_parser(
        "analyse",
        help="replace each layer of a network alone, over a grid of C and K",
        description="Replace each layer of an exact network alone and measure the error of its "
        "output and the network's accuracy, over a grid of codebooks and prototypes. An "
        "interrupted study goes on where it was.",
    )
    add = verb.add_argument
    add_network(add, "network file (.pt or .safetensors) with layers that are not converted")
    add("-o", "--output", required=True, metavar="DIR",
        help="folder for points.jsonl, analysis.json, .csv and .png")  # fmt: skip
    add("--num-c", default="x0.5,x1,x2", metavar="LIST",
        help="codebooks: numbers (16,32) or multiples of the layer's usual number")  # fmt: skip
    add("--num-k", default="8,16,32", metavar="LIST",
        help="prototypes, powers of two")  # fmt: skip
    add("--layers", metavar="LIST", help="names of layers (default: all)")
    add("--lut-bits", default="8", metavar="N",
        help="width of a LUT entry in bits, or float")  # fmt: skip
    add("--input", dest="input_format", default="float", metavar="X",
        help="values, thresholds: float, fp16, bf16, fp8_e4m3, fp8_e5m2, int2 to int16"
        )  # fmt: skip
    add("--calibration", type=int, default=256, metavar="N",
        help="images of the training part to learn from")  # fmt: skip
    add("--images", type=int, default=500, metavar="N",
        help="images of the test part at most")  # fmt: skip
    add("-v", "--verbose", action="store_true", help="say each point")
    verb.set_defaults(run=_analyse)


def _numbers(flag: str, text: str, multiples: bool) -> list[int | float]:
    numbers: list[int | float] = []
    for item in text.split(","):
        item = item.strip()
        try:
            relative = multiples and item.startswith("x")
            numbers.append(float(item[1:]) if relative else int(item))
        except ValueError:
            rule = "numbers, or multiples like x0.5" if multiples else "numbers"
            raise HalutError(f"{flag} must be {rule}, with commas, not {item!r}") from None
    return numbers


def _analyse(options: argparse.Namespace) -> int:
    num_c = _numbers("--num-c", options.num_c, True)
    num_k = [int(size) for size in _numbers("--num-k", options.num_k, False)]
    for flag in ("calibration", "images"):
        if getattr(options, flag) < 1:
            raise HalutError(f"--{flag} must be at least 1, not {getattr(options, flag)}")
    lut_bits = options.lut_bits
    if lut_bits != "float":
        lut_bits = int(_numbers("--lut-bits", lut_bits, False)[0])
    from halut.nn import LayerConfig, need_torch

    need_torch()
    from halut.nn.analysis import analyse
    from halut.nn.network import load_data

    if options.verbose:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("halut.nn.analysis").setLevel(logging.INFO)
    config = LayerConfig(
        lut_bits=None if lut_bits == "float" else lut_bits,
        input_format=None if options.input_format == "float" else options.input_format,
    )
    model, header = read_network(options)
    data = load_data(header, options.root, options.imports).labelled()
    result = analyse(
        model,
        data.train_x[: options.calibration],
        data.test_x[: options.images],
        data.test_y[: options.images],
        options.output,
        num_c=num_c,
        num_k=num_k,
        config=config,
        layers=options.layers.split(",") if options.layers else None,
        progress=True,
    )
    print(result)
    folder = Path(options.output)
    for name, text in (("json", json.dumps(result.to_dict(), indent=1) + "\n"),
                       ("csv", result.csv())):  # fmt: skip
        with atomic_write(folder / f"analysis.{name}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    written = ["json", "csv"]
    if importlib.util.find_spec("matplotlib") is None:
        print("no plot: matplotlib is not installed (pip install -e .[demo])")
    else:
        result.plot(folder / "analysis.png")
        written.append("png")
    print("wrote " + ", ".join(str(folder / f"analysis.{suffix}") for suffix in written))
    return 0
