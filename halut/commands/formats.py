"""``python -m halut formats``: what each number format costs a network, without training for it."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from halut.checks import known
from halut.commands.network import add_network, read_network
from halut.errors import HalutError
from halut.files import atomic_write
from halut.formats import FLOAT_FORMATS
from halut.golden import OVERFLOWS
from halut.output import OUTPUT_FORMATS
from halut.program import LUT_FORMATS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from halut.nn.layers import HalutLayer

_CHOICES: dict[str, tuple[Any, ...]] = {
    "input_format": (*FLOAT_FORMATS, "int16", "int8", "int6", "int5", "int4"),
    "lut_bits": (16, 12, 8, 6, 5, 4),
    "lut_format": ("fp16",),
    "output_format": ("fp16", "int8"),
}
_FLAGS = ("input_format", "lut_bits", "lut_format", "output_format", "parallel_codebooks",
          "codebook_tiles", "codebooks_per_load", "acc_bits", "overflow")  # fmt: skip
_CALIBRATION = 256


def add_verb(verbs: Any) -> None:
    """Add ``formats`` to the command line."""
    verb = verbs.add_parser(
        "formats",
        help="accuracy of a trained network in each number format",
        description="Set all replaced layers of a trained network to one number format after the "
        "other, or to those of the flags, and measure the accuracy on test images. Nothing is "
        "trained again; the range of 8-bit results is learned from training images.",
    )
    add = verb.add_argument
    add_network(add, "network file (.pt or .safetensors) with converted layers")
    add("--input", dest="input_format", metavar="X",
        help="values and thresholds: fp16, bf16, fp8_e4m3, fp8_e5m2, int2 to int16 "
        "(default, here and below: as the network was trained)")  # fmt: skip
    add("--lut-bits", type=int, metavar="N",
        help="width of a LUT entry in bits (default: the network's)")  # fmt: skip
    add("--lut-format", choices=LUT_FORMATS,
        help="LUT entries: integers, or half floats of 16 bits "
        "(default: the network's)")  # fmt: skip
    add("--output-format", choices=OUTPUT_FORMATS,
        help="results: accumulators, half floats, or bytes (default: the network's)")  # fmt: skip
    add("--relu", default="", metavar="LAYERS",
        help="layers whose results below zero become zero, comma-separated "
        "(default: the network's)")  # fmt: skip
    add("--acc-bits", type=int, metavar="N",
        help="width of an accumulator where sums need more; with --overflow "
        "(default: the network's)")  # fmt: skip
    add("--overflow", choices=OVERFLOWS,
        help="what such an accumulator does; with --acc-bits (default: the network's)")  # fmt: skip
    add("--parallel-codebooks", type=int, metavar="N",
        help="codebooks per cycle of the accelerator, which sums of half floats and of "
        "accumulators that saturate depend on (default: the network's)")  # fmt: skip
    add("--codebook-tiles", type=int, metavar="N",
        help="units that share these codebooks, which sums of half floats depend on "
        "(default: the network's)")  # fmt: skip
    add("--codebooks-per-load", type=int, metavar="N",
        help="codebooks that the accelerator has, where layers with half floats have more "
        "(default: the network's)")  # fmt: skip
    add("--save", metavar="FILE", help="also write the network in the flags' formats (.pt)")
    add("-o", "--output", metavar="FILE", help="also write what was measured (.json)")
    verb.set_defaults(run=_formats)


def _set(layer: HalutLayer, changes: Mapping[str, Any]) -> None:
    """Set a layer's formats; accumulators stay as they are where sums fit."""
    changes = dict(changes)
    if changes.get("lut_format") == "fp16":
        changes.setdefault("lut_bits", 16)
    acc_bits, lut_bits = changes.get("acc_bits"), changes.get("lut_bits", layer.config.lut_bits)
    if acc_bits and lut_bits and acc_bits >= lut_bits + (layer.n_codebooks - 1).bit_length():
        changes |= {"acc_bits": None, "overflow": None}
    layer.set_formats(**changes)


def _changed(
    model: nn.Module, changes: Mapping[str, Any], relu: list[str], images: Tensor
) -> nn.Module:
    """Return a copy of a network with other formats; `images` calibrate what these need."""
    from halut.nn.network import halut_layers

    model = copy.deepcopy(model)
    hooks = []
    for name, layer in halut_layers(model).items():
        try:
            _set(layer, {**changes, **({"relu": True} if name in relu else {})})
        except HalutError as error:
            raise HalutError(f"{error} (layer {name})") from None
        if layer.output_range is not None:
            hooks.append(layer.register_forward_pre_hook(_learn_range))
    if hooks:
        model(images)
    for hook in hooks:
        hook.remove()
    return model


def _learn_range(layer: Any, inputs: tuple[Any, ...]) -> None:
    layer.learn_output_range(inputs[0])


def _formats(options: argparse.Namespace) -> int:
    from halut.nn import need_torch

    need_torch()
    import torch

    from halut.nn.deviation import accuracy
    from halut.nn.network import halut_layers, load_data, save_network

    changes = {name: getattr(options, name) for name in _FLAGS}
    changes = {name: value for name, value in changes.items() if value is not None}
    relu = [name.strip() for name in options.relu.split(",") if name.strip()]
    if (options.acc_bits is None) != (options.overflow is None):
        raise HalutError("--acc-bits and --overflow must come together")
    if options.save and not (changes or relu):
        raise HalutError("--save must come with a format to change")
    model, header = read_network(options)
    layers = halut_layers(model)
    for name, layer in layers.items():
        if layer.input_bits or layer.config.encoder == "centroid":
            raise HalutError(
                f"layers must be trees that read values, not integers or centroids (layer {name})"
            )
    known("--relu", relu, layers, "be among {}")
    data = load_data(header, options.root, options.imports).labelled()

    def right(model: nn.Module) -> float:
        return accuracy(model, data.test_x, data.test_y)

    @torch.no_grad()
    def changed(changes: Mapping[str, Any]) -> nn.Module:
        return _changed(model, changes, relu, data.train_x[:_CALIBRATION])

    rows: list[dict[str, Any]] = [{"what": "as trained", "accuracy": right(model)}]
    if changes or relu:
        asked = changed(changes)
        words = [f"{name} {value}" for name, value in changes.items()]
        words += [f"relu {name}" for name in relu]
        rows.append({"what": ", ".join(words), "accuracy": right(asked)})
        if options.save:
            save_network(options.save, asked, header["architecture"], header["data"])
    else:
        for what, choices in _CHOICES.items():
            for choice in choices:
                share = right(changed({what: choice}))
                rows.append({"what": f"{what} {choice}", "accuracy": share})
    for row in rows:
        change = 100 * (row["accuracy"] - rows[0]["accuracy"])
        print(f"{row['what']:22} {100 * row['accuracy']:6.2f} %  {change:+6.2f} points")
    print(f"{len(data.test_x)} test images of {data.name}; all {len(layers)} replaced layers")
    if options.output:
        report = {"kind": "halut-network-formats", "network": options.network, "rows": rows}
        with atomic_write(options.output) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    written = [path for path in (options.save, options.output) if path]
    if written:
        print(f"wrote {' and '.join(written)}")
    return 0
