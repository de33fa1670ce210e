"""``python -m halut convert``: any network's layers looked up, without training."""

from __future__ import annotations

import argparse
import fnmatch
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halut.commands.data import add_data, given_data, parts_of
from halut.commands.network import add_formats, add_imports
from halut.errors import HalutError
from halut.files import write_text

if TYPE_CHECKING:
    from torch import nn

    from halut.nn.config import LayerConfig


def add_verb(verbs: Any) -> None:
    """Add ``convert`` to the command line."""
    verb = verbs.add_parser(
        "convert",
        help="replace the layers of any network by looked-up ones",
        description="Replace layers of a network (.pt, .safetensors, .onnx, .pt2 or "
        "module:function) by looked-up ones, learned from images that need no labels. The report "
        "shows each layer's error on held-out images, and what has piled up at the output.",
    )
    add = verb.add_argument
    add("model", metavar="MODEL", help="network file, ONNX file, .pt2 file or module:function")
    add("-o", "--output", required=True, metavar="FILE",
        help="network to write (.pt or .safetensors)")  # fmt: skip
    add("--report", metavar="FILE", help="also write the report (.json, or .html: a page)")
    add_data(add)
    add("--images", type=int, default=256, metavar="N",
        help="training images to learn from (default: %(default)s)")  # fmt: skip
    add("--held-out", type=int, default=64, metavar="N",
        help="further training images that errors and --budget are measured on "
        "(default: %(default)s)")  # fmt: skip
    add("--layers", action="append", metavar="PATTERN",
        help="layers to replace; may be given again (default: all)")  # fmt: skip
    add("--exclude", action="append", default=[], metavar="PATTERN",
        help="layers that stay; may be given again (default: none)")  # fmt: skip
    add("--width", type=int, metavar="N",
        help="values per codebook (default: those under a kernel, else 8)")  # fmt: skip
    add("--num-k", type=int, default=16, metavar="K",
        help="prototypes, a power of 2 (default: %(default)s)")  # fmt: skip
    add("--encoder", choices=("tree", "sums", "window", "node"), default="tree",
        help="what a tree compares: one value per level, sums with signs, or values of its "
        "codebook, all of which the accelerator takes, one per level or node")  # fmt: skip
    add("--terms", type=int, metavar="N",
        help="values in a sum, 2 to 16, for --encoder sums (default: 2)")  # fmt: skip
    add("--effort", type=int, default=0, metavar="N",
        help="0 to 3: time spent on better trees (default: %(default)s)")  # fmt: skip
    add_formats(add)
    add("--budget", type=float, metavar="DROP",
        help="convert as many products as change at most this share of the network's decisions, "
        "0 to 1 (default: all layers)")  # fmt: skip
    add_imports(add)
    add("-v", "--verbose", action="store_true", help="say what is being done")
    verb.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    from halut.nn import need_torch

    need_torch()
    from halut.checks import integer_from
    from halut.nn import convert_
    from halut.nn.budget import Budget
    from halut.nn.interchange.anything import check_with_onnxruntime, read_model
    from halut.nn.network import save_network

    if options.verbose:
        logging.getLogger("halut").setLevel(logging.INFO)
    if options.report and Path(options.report).suffix not in (".json", ".html"):
        raise HalutError(f"--report must end with .json or .html, not {options.report!r}")
    for name, low in (("images", 2), ("held_out", 1)):
        integer_from(name.replace("_", "-"), getattr(options, name), low)
    config = _config(options)
    model, architecture, trained_on = read_model(options.model, options.imports)
    data, where = given_data(options, trained_on)
    images, held_out = parts_of(data.train_x, options.images, options.held_out)
    compared = options.model.endswith(".onnx") and check_with_onnxruntime(
        options.model, model, images[0]
    )
    names = _chosen(model, options.layers, options.exclude)
    budget = None if options.budget is None else Budget(drop=options.budget, inputs=held_out)
    report = convert_(
        model, config, images, lambda name, _: name in names, held_out=held_out, progress=True,
        budget=budget,
    )  # fmt: skip
    save_network(options.output, model, architecture, where)
    if options.report:
        page = Path(options.report).suffix == ".html"
        write_text(Path(options.report), report.html() if page else report.to_json() + "\n")
    print(report)
    print(f"layers               {len(report.converted)} of {len(report.rows)} converted, "
          f"{100 * report.share_of_macs:.1f} % of the products")  # fmt: skip
    if options.model.endswith(".onnx"):
        print(f"onnxruntime          {'gives the same' if compared else 'not compared with'}")
    print(f"wrote {options.output}")
    return 0


def _config(options: argparse.Namespace) -> LayerConfig:
    from halut.nn.config import LayerConfig

    return LayerConfig(
        codebook_width=options.width,
        n_prototypes=options.num_k,
        lut_bits=options.lut_bits,
        input_format=options.input,
        encoder=options.encoder,
        terms=options.terms,
        effort=options.effort,
    )


def _chosen(model: nn.Module, layers: list[str] | None, exclude: list[str]) -> set[str]:
    every = [name for name, _ in model.named_modules(remove_duplicate=False)]
    for flag, patterns in (("layers", layers or []), ("exclude", exclude)):
        for pattern in patterns:
            if not fnmatch.filter(every, pattern):
                raise HalutError(f"--{flag} must match a module of the network, not {pattern!r}")
    return {
        name
        for name in every
        if (layers is None or any(fnmatch.fnmatchcase(name, one) for one in layers))
        and not any(fnmatch.fnmatchcase(name, one) for one in exclude)
    }
