"""What every verb that reads a network file asks for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["add_formats", "add_imports", "add_network", "read_network"]


def add_network(add: Any, what: str = "network file (.pt or .safetensors)") -> None:
    """Add the network, the folder of its data and what may be imported."""
    add("network", metavar="NETWORK", help=what)
    add("--root", metavar="DIR",
        help="folder of the network's data set (default: as it was trained)")  # fmt: skip
    add_imports(add)


def add_imports(add: Any) -> None:
    """Add what of the user's own code a network file may name."""
    add("--import", dest="imports", action="append", default=[], metavar="MODULE:FUNCTION",
        help="run this function where the network's file names it as its model or data; may be "
        "given again (default: none is run)")  # fmt: skip


def add_formats(add: Any) -> None:
    """Add the formats of layers that are learned."""
    add("--lut-bits", type=int, default=8, metavar="N",
        help="bits of a table entry (default: %(default)s)")  # fmt: skip
    add("--input", default="int8", metavar="FORMAT",
        help="values and thresholds, see formats (default: %(default)s)")  # fmt: skip


def read_network(options: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network and its header."""
    from halut.nn.network import load_network

    return load_network(options.network, imports=options.imports)
