"""``python -m halut reconstruct``: train a converted network to do what the exact one does."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from halut.commands.data import add_data, given_data, parts_of
from halut.commands.network import add_imports


def add_verb(verbs: Any) -> None:
    """Add ``reconstruct`` to the command line."""
    verb = verbs.add_parser(
        "reconstruct",
        help="train a converted network to do what the exact one does, without labels",
        description="Train tables, thresholds and norms of a converted network, block by block and "
        "then end to end, to reproduce the exact network on images without labels. An interrupted "
        "run goes on where it was when --folder is given.",
    )
    add = verb.add_argument
    add("network", metavar="NETWORK", help="converted network (.pt or .safetensors)")
    add("--exact", required=True, metavar="MODEL",
        help="the network that it was converted from: file or module:function")  # fmt: skip
    add("-o", "--output", required=True, metavar="FILE",
        help="network to write (.pt or .safetensors)")  # fmt: skip
    add_data(add)
    add("--images", type=int, default=256, metavar="N",
        help="training images to learn from (default: %(default)s)")  # fmt: skip
    add("--held-out", type=int, default=64, metavar="N",
        help="further training images that the report is about (default: %(default)s)")  # fmt: skip
    add("--block-steps", type=int, default=200, metavar="N",
        help="steps of training of each block (default: %(default)s)")  # fmt: skip
    add("--distill-steps", type=int, default=200, metavar="N",
        help="steps of training of the whole network (default: %(default)s)")  # fmt: skip
    add("--folder", metavar="DIR", help="where to keep the state (default: nowhere)")
    add_imports(add)
    add("-v", "--verbose", action="store_true", help="say what is being done")
    verb.set_defaults(run=_reconstruct)


def _reconstruct(options: argparse.Namespace) -> int:
    from halut.nn import need_torch

    need_torch()
    from halut.nn.interchange.anything import read_model
    from halut.nn.network import load_network, save_network
    from halut.nn.reconstruct import Reconstruction, reconstruct_

    if options.verbose:
        logging.getLogger("halut").setLevel(logging.INFO)
    settings = Reconstruction(block_steps=options.block_steps, distill_steps=options.distill_steps)
    model, header = load_network(options.network, imports=options.imports)
    exact, _, _ = read_model(options.exact, options.imports)
    data, where = given_data(options, header["data"])
    images, held_out = parts_of(data.train_x, options.images, options.held_out)
    report = reconstruct_(
        model, exact, images, settings, held_out=held_out, folder=options.folder, progress=True
    )
    save_network(options.output, model, header["architecture"], where)
    print(report)
    print(f"wrote {options.output}")
    return 0
