"""``python -m rtl_gen image``: programs as one file for a driver."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from halut.cli import Parser
from halut.errors import HalutError
from halut.files import atomic_write, write_text
from halut.program import Program

from ..front_end import FrontEndConfig
from ..settings import add_flags
from .axi import axi_config

__all__ = ["main"]

_MANIFEST = "network.json"
_MANIFEST_KIND = "halut-network-manifest"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rtl_gen image",
        description="Write programs as one file for a driver of halut_axi: program words, and the "
        "descriptors that load and run them. Programs that are larger than the accelerator are cut "
        "into its size. A plan goes beside it: which program is which part of which layer, and how "
        "large buffers must be.",
    )
    parser.add_argument(
        "programs",
        nargs="+",
        metavar="PROGRAM",
        help="a program (.npz), or a folder that `python -m halut export` wrote; in order",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the accelerator (.yaml)")
    front_end = parser.add_argument_group("behind a front end for 3x3 convolutions")
    add_flags(front_end, {"": FrontEndConfig})
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the image")
    return parser


def _layers(path: Path) -> list[tuple[Path, str, float | None]]:
    """Programs that a path names: file, name of the layer, rows for one input of the network."""
    if not path.is_dir():
        return [(path, path.stem, None)]
    place = path / _MANIFEST
    try:
        manifest = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HalutError(f"a folder must hold a network's manifest: {error} ({place})") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != _MANIFEST_KIND:
        raise HalutError(f"kind must be {_MANIFEST_KIND} ({place})")
    return [
        (path / program["file"], layer["name"], layer.get("rows_per_input"))
        for layer in manifest["layers"]
        for program in layer.get("programs", ())
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    from ..axi.image_file import image_file, image_plan

    config = axi_config(arguments)
    layers = [layer for path in arguments.programs for layer in _layers(Path(path))]
    programs = [Program.load(path) for path, _, _ in layers]
    data = image_file(config, programs)
    plan = image_plan(config, programs, [name for _, name, _ in layers], [r for *_, r in layers])
    output = Path(arguments.output)
    beside = output.with_name(output.name + ".json")
    with atomic_write(output) as temporary:
        temporary.write_bytes(data)
    write_text(beside, json.dumps(plan, indent=2) + "\n")
    print(
        f"wrote {output}, {len(data)} bytes, {len(plan['programs'])} programs for configuration "
        f"{config.core_hash[:16]}, and {beside}"
    )
    return 0
