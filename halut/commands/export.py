"""``python -m halut export``: a network file as programs and a manifest, as C, or as ONNX."""

from __future__ import annotations

import argparse
from typing import Any

from halut.commands.network import add_network, read_network
from halut.errors import HalutError


def add_verb(verbs: Any) -> None:
    """Add ``export`` to the command line."""
    verb = verbs.add_parser(
        "export",
        help="write the programs of a network's layers and a manifest, or the network as C",
        description="Write one program per converted layer (and group) of a network, and the "
        "manifest network.json, which lists them in the order of the forward pass. With --c: the "
        "whole network as C99, with a Makefile, a test vector and the expected bits. With --onnx: "
        "an ONNX file, whose looked-up layers are functions.",
    )
    add = verb.add_argument
    add_network(add)
    add("-o", "--output", required=True, metavar="DIR",
        help="folder for programs and manifest, or C files; with --onnx a file")  # fmt: skip
    add("--onnx", action="store_true", help="write an ONNX file (default: programs)")
    add("--c", action="store_true", help="write C, see docs/c_network.md (default: programs)")
    add("--inputs", metavar="FILE",
        help="with --c: the test vector's inputs, .npy of shape (n, ...) as the network takes them "
        "(default: images of its test set)")  # fmt: skip
    add("--images", type=int, metavar="N",
        help="with --c: inputs of the test vector (default: 10)")  # fmt: skip
    add("--exact", choices=("float", "int8"),
        help="with --c: exact layers in floats, or in 8-bit words with everything between layers "
        "(default: float)")  # fmt: skip
    verb.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from halut.nn import need_torch

    need_torch()
    if options.c and options.onnx:
        raise HalutError("--onnx must not be given with --c")
    if options.c:
        return _export_c(options)
    for name in ("inputs", "images", "exact"):
        if getattr(options, name) is not None:
            raise HalutError(f"--{name} must be given with --c only")
    if options.onnx:
        return _export_onnx(options)
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


def _export_onnx(options: argparse.Namespace) -> int:
    from halut.nn.interchange.write_onnx import write_onnx
    from halut.nn.layers import layers_of
    from halut.nn.network import example_input

    model, header = read_network(options)
    write_onnx(model, options.output, example_input(header, options.root, options.imports))
    print(f"functions            {len(layers_of(model))} layers looked up")
    print(f"wrote {options.output}")
    return 0


def _export_c(options: argparse.Namespace) -> int:
    from halut.nn.c_export.export import MANIFEST, export_c
    from halut.nn.c_export.inputs import calibration_inputs, test_inputs

    model, header = read_network(options)
    given = options.root, options.inputs
    images = test_inputs(header, *given, options.images, options.imports)
    exact = options.exact or "float"
    seen = calibration_inputs(header, *given, options.imports) if exact == "int8" else None
    done = export_c(model, options.output, images, exact=exact, calibration=seen)
    tables = ", ".join(f"{name} {size:,}" for name, size in done.table_bytes.items() if size)
    code = ", ".join(f"{name} {size:,}" for name, size in done.code_bytes.items())
    print(f"products             {done.looked_up} looked up, {done.exact} exact")
    print(f"constants, bytes     {sum(done.table_bytes.values()):,} ({tables})")
    print(
        f"buffers, bytes       {done.workspace_bytes:,} at the peak; beside them input "
        f"{done.input_bytes:,}, output {done.output_bytes:,}"
    )
    print(f"code, bytes          {code or 'not known: no C compiler was found'}")
    print(f"outputs              {done.verdict}")
    print(f"wrote {options.output.rstrip('/')}/{MANIFEST}")
    return 0
