"""``python -m halut stats``: what the look-ups of a network do on its test images."""

from __future__ import annotations

import argparse
import json
from typing import Any

from halut.commands.network import add_network, read_network
from halut.errors import HalutError
from halut.files import atomic_write


def add_verb(verbs: Any) -> None:
    """Add ``stats`` to the command line."""
    verb = verbs.add_parser(
        "stats",
        help="count what a network's layers look up",
        description="Run test images through a converted network: histograms and entropy of "
        "codes, locality of table look-ups, inputs in use, range of accumulators.",
    )
    add = verb.add_argument
    add_network(add)
    add("-o", "--output", metavar="FILE", help="also write everything, with histograms (.json)")
    add("--plot", metavar="FILE", help="also draw the histograms (.png, .svg or .pdf)")
    add("--images", type=int, default=256, metavar="N",
        help="images of the test part at most")  # fmt: skip
    add("--window", type=int, default=16, metavar="N",
        help="rows over which distinct entries are counted")  # fmt: skip
    verb.set_defaults(run=_stats)


def _stats(options: argparse.Namespace) -> int:
    from halut.nn import need_torch

    need_torch()
    from halut.nn.network import load_data
    from halut.nn.statistics import collect, plot, table

    if options.images < 1:
        raise HalutError(f"--images must be at least 1, not {options.images}")
    model, header = read_network(options)
    images = load_data(header, options.root, options.imports).test_x[: options.images]
    found = collect(model, images.split(64), window=options.window)
    print(table(found))
    written = []
    if options.output:
        facts = {
            "kind": "halut-statistics",
            "network": str(options.network),
            "n_images": len(images),
            "layers": [one.to_dict() for one in found.values()],
        }
        with atomic_write(options.output) as temporary:
            temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        written.append(options.output)
    if options.plot:
        plot(found, options.plot)
        written.append(options.plot)
    if written:
        print(f"wrote {', '.join(written)}")
    return 0
