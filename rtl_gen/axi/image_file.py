"""One file for all programs of a network, with the descriptors that load and run them."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from halut.errors import HalutError
from halut.program import Program
from halut.tiles import tile

from .config import AxiConfig
from .descriptor import DESCRIPTOR_BYTES
from .image import loads, run_descriptor, switch_descriptor

__all__ = ["ENTRY_FIELDS", "HEAD_FIELDS", "IMAGE_MAGIC", "image_file", "image_plan"]

IMAGE_MAGIC = 0x494C4148
"""The letters HALI."""
IMAGE_VERSION = 1
HEAD_FIELDS = (
    "magic", "version", "bytes", "config_hash0", "config_hash1", "programs", "base", "reserved",
)  # fmt: skip
"""Words of the head. `base` is the address for which the descriptors are made, 0 in a file."""
ENTRY_FIELDS = (
    "first", "loads", "run", "layer", "codebook_part", "first_output", "outputs", "parts",
)  # fmt: skip
"""Words of a program's entry: offset and number of the descriptors that load it, offset of the one
that runs it; and which part of which layer it is: results of `parts` programs with the same outputs
are added up."""
_ALIGNMENT = 64


def _tiles(config: AxiConfig, programs: Sequence[Program]) -> list[tuple[Program, dict[str, int]]]:
    """All programs in the accelerator's size, with the fields of their entries."""
    a = config.accelerator
    found = []
    for layer, program in enumerate(programs):
        tiling = tile(program, a.n_codebooks, a.n_outputs)
        rows, columns = tiling.grid
        for k, part in enumerate(tiling.tiles):
            codebook_part, column = divmod(k, columns)
            first = column * a.n_outputs
            place = {
                "layer": layer,
                "codebook_part": codebook_part,
                "first_output": first,
                "outputs": min(a.n_outputs, program.n_outputs - first),
                "parts": rows,
            }
            found.append((part, place))
    return found


def image_file(config: AxiConfig, programs: Sequence[Program]) -> bytes:
    """Return the file of some layers.

    Parameters
    ----------
    config : AxiConfig
        With a bus master.
    programs : sequence of Program
        One per layer, of any number of codebooks and outputs: each is cut into the accelerator's
        size (`halut.tiles.tile`).

    Returns
    -------
    bytes
        Words of 32 bits, lowest byte first: the head, an entry per program, descriptors, program
        words at multiples of 64 bytes. Addresses in it count from its beginning; the driver adds
        where it lies. With two programs in the accelerator, banks take turns.

    Raises
    ------
    HalutError
        When there is no program, one does not fit the accelerator, or the file is too large.
    """
    if config.bus != "master":
        raise HalutError(f"bus must be master for an image, not {config.bus}")
    if not programs:
        raise HalutError("programs must be at least one, not none")
    parts = [
        (loads(config, part, k % 2 if config.double_buffer else 0), place)
        for k, (part, place) in enumerate(_tiles(config, programs))
    ]
    extra = 2 if config.double_buffer else 1
    start = 4 * (len(HEAD_FIELDS) + len(parts) * len(ENTRY_FIELDS))
    data_start = start + DESCRIPTOR_BYTES * sum(len(p) + extra for p, _ in parts)
    entries, descriptors, data = [], b"", b""
    for k, (steps, place) in enumerate(parts):
        first = start + len(descriptors)
        chain = []
        for step in steps:
            data += bytes(-(data_start + len(data)) % _ALIGNMENT)
            chain.append((step, data_start + len(data)))
            data += step.data
        n_loads = len(steps) + extra - 1
        for number, (step, source) in enumerate(chain):
            where = first + (number + 1) * DESCRIPTOR_BYTES
            descriptors += step.descriptor(
                config, source, next=where, end=int(number + 1 == n_loads), tag=k & 0xFFFF
            )
        if config.double_buffer:
            descriptors += switch_descriptor(config, k % 2, end=1, tag=k & 0xFFFF)
        run = start + len(descriptors)
        descriptors += run_descriptor(config, 0, 0, 0, end=1, interrupt=1, tag=k & 0xFFFF)
        entries.append({"first": first, "loads": n_loads, "run": run, **place})
    total = data_start + len(data)
    if total >= 1 << 32:
        raise HalutError(f"an image must be less than 4 GiB, not {total} bytes")
    digest = config.core_hash
    head = {
        "magic": IMAGE_MAGIC, "version": IMAGE_VERSION, "bytes": total,
        "config_hash0": int(digest[:8], 16), "config_hash1": int(digest[8:16], 16),
        "programs": len(parts), "base": 0, "reserved": 0,
    }  # fmt: skip
    words = [head[name] for name in HEAD_FIELDS]
    words += [entry[name] for entry in entries for name in ENTRY_FIELDS]
    return struct.pack(f"<{len(words)}I", *words) + descriptors + data


def image_plan(
    config: AxiConfig,
    programs: Sequence[Program],
    names: Sequence[str],
    rows: Sequence[float | None],
) -> dict[str, Any]:
    """Return what a program that runs an image has to know, ready for JSON.

    Parameters
    ----------
    config, programs
        See `image_file`.
    names : sequence of str
        Of the layers.
    rows : sequence of float or None
        Rows of each layer for one input of the network, where they are known.

    Returns
    -------
    dict
        ``programs``: the fields of every entry of the image, the layer's name, and the bytes that
        go in and come out for one input. ``buffers``: bytes that hold those of every program.
    """
    a = config.accelerator
    found = []
    for index, (_, place) in enumerate(_tiles(config, programs)):
        entry: dict[str, Any] = {"program": index, "name": names[place["layer"]], **place}
        n_rows = rows[place["layer"]]
        if n_rows is not None:
            items = math.ceil(n_rows / (a.rows * config.item_groups))
            entry |= {
                "items": items,
                "input_bytes": items * config.item_bytes,
                "result_bytes": items * config.result_bytes,
            }
        found.append(entry)
    sizes = {
        key: max((entry[key] for entry in found if key in entry), default=0)
        for key in ("input_bytes", "result_bytes")
    }
    return {
        "kind": "halut-axi-image-plan",
        "version": 1,
        "configuration": config.core_hash,
        "programs": found,
        "buffers": sizes,
    }
