"""``python -m halut export``: a network file as programs and a manifest."""

from __future__ import annotations

import argparse
from typing import Any

from halut.commands.network import add_network, read_network


def add_verb(verbs: Any) -> None:
    """Add ``export`` to the command line."""
    verb = verbs.add_parser(
        "export",
        help="write the programs of a network's layers and a manifest",
        description="Write one program per converted layer (and group) of a network, and the "
        "manifest network.json, which lists them in the order of the forward pass.",
    )
    add = verb.add_argument
    add_network(add)
    add("-o", "--output", required=True, metavar="DIR", help="folder for programs and manifest")
    verb.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from halut.nn import need_torch

    need_torch()
    from halut.nn.network import MANIFEST, example_input, export_network

    model, header = read_network(options)
    example = example_input(header, options.root, options.imports)
    manifest = export_network(
        model, options.output, example, architecture=header["architecture"], data=header["data"]
    )
    total = 0
    print("layer                     kind      rows      D      M      C    K  programs")
    for layer in manifest["layers"]:
        if layer["converted"]:
            total += len(layer["programs"])
            print(
                "{name:24}  {kind:8}{rows_per_input:6}{n_features:7}{n_outputs:7}{n_codebooks:7}"
                "{n_prototypes:5}".format(**layer)
                + f"{len(layer['programs']):10}"
            )
    stay = [layer["name"] for layer in manifest["layers"] if not layer["converted"]]
    print(f"programs             {total}")
    print(f"layers that stay     {', '.join(stay) or 'none'}")
    print(f"wrote {options.output.rstrip('/')}/{MANIFEST}")
    return 0
