"""``python -m halut fold``: integers between a network's layers, and outputs that nothing reads."""

from __future__ import annotations

import argparse
import json
from typing import Any

from halut.commands.network import add_network, read_network
from halut.errors import HalutError
from halut.files import atomic_write


def add_verb(verbs: Any) -> None:
    """Add ``fold`` to the command line."""
    verb = verbs.add_parser(
        "fold",
        help="fold batch norm and ReLU into a network's thresholds, prune its outputs",
        description="Fold batch norm and ReLU so that integers go from layer to layer; with "
        "--prune, also drop outputs that no tree reads. Decisions stay the same, but for the "
        "roundings of batch norms that become part of tables (--keep-norms).",
    )
    add = verb.add_argument
    add_network(add, "network file (.pt or .safetensors) with converted layers")
    add("-o", "--output", required=True, metavar="FILE", help="network to write (.pt)")
    add("--prune", action="store_true", help="also drop outputs that no tree reads")
    add("--keep-norms", action="store_true",
        help="keep batch norms whose result stays a float: the output keeps its bits")  # fmt: skip
    add("--bits", type=int, default=2, metavar="N",
        help="least width of integers between layers in bits; 16 makes all equal")  # fmt: skip
    add("--report", metavar="FILE", help="also write what was done (.json)")
    verb.set_defaults(run=_fold)


def _fold(options: argparse.Namespace) -> int:
    if not 2 <= options.bits <= 16:
        raise HalutError(f"--bits must be in [2, 16], not {options.bits}")
    from halut.nn import need_torch

    need_torch()
    from halut.nn.fold import fold_
    from halut.nn.network import example_input, save_network
    from halut.nn.prune import prune_

    model, header = read_network(options)
    example = example_input(header, options.root, options.imports)
    reports: dict[str, Any] = {"kind": "halut-fold", "network": str(options.network)}
    if options.prune:
        pruned = prune_(model, example)
        print(f"{pruned}\n")
        reports["prune"] = pruned.to_dict()
    folded = fold_(model, example, norms=not options.keep_norms, least_bits=options.bits)
    print(folded)
    reports["fold"] = folded.to_dict()
    save_network(options.output, model, header["architecture"], header["data"])
    written = [options.output]
    if options.report:
        with atomic_write(options.report) as temporary:
            temporary.write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")
        written.append(options.report)
    print(f"wrote {', '.join(written)}")
    return 0
