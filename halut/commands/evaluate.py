"""``python -m halut evaluate``: how often a network is right, and decides as another one does."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from halut.commands.data import add_data, given_data
from halut.commands.network import add_imports
from halut.files import write_text

_BATCH = 64


def add_verb(verbs: Any) -> None:
    """Add ``evaluate`` to the command line."""
    verb = verbs.add_parser(
        "evaluate",
        help="measure a network's accuracy, and its agreement with the exact one",
        description="Run a network on the test images of a data set, and print how many classes "
        "are right and, with --exact, how many are those of another network.",
    )
    add = verb.add_argument
    add("model", metavar="MODEL", help="network file, ONNX file, .pt2 file or module:function")
    add("--exact", metavar="MODEL", help="network to compare decisions with (default: none)")
    add_data(add)
    add("--int8", action="store_true",
        help="compute in 8-bit words, bit for bit as the C code of `export --c --exact int8` "
        "(default: as PyTorch does)")  # fmt: skip
    add("--images", type=int, metavar="N", help="test images, the first (default: all)")
    add("-o", "--output", metavar="FILE", help="also write the figures (.json)")
    add_imports(add)
    verb.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from halut.nn import need_torch

    need_torch()
    import torch

    from halut.checks import integer_from
    from halut.nn.c_export.inputs import CALIBRATION_IMAGES
    from halut.nn.interchange.anything import read_model
    from halut.nn.watch import checked_logits, run_batch

    if options.images is not None:
        integer_from("images", options.images, 1)
    model, _, trained_on = read_model(options.model, options.imports)
    exact = None if options.exact is None else read_model(options.exact, options.imports)
    data, _ = given_data(options, trained_on or ({} if exact is None else exact[2]))
    if exact is None:
        data.labelled()
    images, labels = data.test_x[: options.images], data.test_y[: options.images]

    @torch.no_grad()
    def classes(network: torch.nn.Module) -> torch.Tensor:
        run: Callable[[torch.Tensor], torch.Tensor] = partial(run_batch, network)
        if options.int8:
            from halut.nn.c_export.words import words_of

            checked_logits(run(images[:1]), 1)
            run = words_of(network, data.train_x[:CALIBRATION_IMAGES])
        found = [checked_logits(run(some), len(some)) for some in images.split(_BATCH)]
        return torch.cat(found).argmax(dim=1)

    mine = classes(model)
    facts: dict[str, Any] = {"arithmetic": "8-bit words"} if options.int8 else {}
    facts |= {
        "images": len(images),
        "accuracy": (mine == labels).double().mean().item() if data.n_classes else None,
    }
    print(f"images               {len(images)} of {data.name} (test part)")
    if options.int8:
        print("arithmetic           8-bit words between layers, weights of exact layers in INT8")
    if data.n_classes:
        print(f"accuracy             {100 * facts['accuracy']:.2f} %")
    if exact is not None:
        theirs = classes(exact[0])
        if data.n_classes:
            facts["exact_accuracy"] = (theirs == labels).double().mean().item()
            print(f"exact accuracy       {100 * facts['exact_accuracy']:.2f} %")
        facts["agreement"] = (mine == theirs).double().mean().item()
        print(f"agreement            {100 * facts['agreement']:.2f} %")
    if options.output:
        write_text(Path(options.output), json.dumps(facts, indent=2) + "\n")
        print(f"wrote {options.output}")
    return 0
