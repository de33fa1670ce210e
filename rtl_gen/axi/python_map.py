"""The registers as a Python module, for `halut.driver`."""

from __future__ import annotations

from collections.abc import Sequence

from .config import AxiConfig
from .descriptor import FIELDS, OPCODES
from .image import data_layout
from .image_file import ENTRY_FIELDS, HEAD_FIELDS, IMAGE_MAGIC
from .registers import ERRORS, IDENTITY, INTERFACE_VERSION, registers

__all__ = ["python_map"]


def _mapping(name: str, text: str, values: dict[str, object]) -> list[str]:
    entries = [f'    "{key}": {value},' for key, value in values.items()]
    return ["", f"{name} = {{", *entries, "}", f'"""{text}"""']


def _words(names: Sequence[str]) -> dict[str, object]:
    return {name: word for word, name in enumerate(names)}


def python_map(config: AxiConfig, module: str) -> str:
    """Return the text of a module with the registers of a configuration.

    It imports nothing. ``OFFSETS`` has the byte address of every register, ``FIELDS`` the lowest
    bit and the width of every field, ``ERRORS`` the bits of ERROR, ``LAYOUT`` the sizes of what
    lies in memory.
    """
    described = registers(config)
    offsets = {r.name: f"0x{r.offset:03x}" for r in described}
    fields = {f"{r.name}.{f.name}": (f.low, f.bits) for r in described for f in r.fields}
    digest = config.core_hash
    lines = [
        f'"""Registers of {module}, written by `python -m rtl_gen axi`."""',
        "",
        f"IDENTITY = 0x{IDENTITY:08x}",
        f"VERSION = {INTERFACE_VERSION}",
        f"CONFIG_HASH = (0x{digest[:8]}, 0x{digest[8:16]})",
        *_mapping("OFFSETS", "Byte address of every register.", dict(offsets)),
        *_mapping("FIELDS", "Lowest bit and width of every field.", dict(fields)),
        *_mapping("ERRORS", "Bits of ERROR.", {n: 1 << i for i, n in enumerate(ERRORS)}),
        *_mapping("LAYOUT", "Bytes of what lies in memory.", dict(data_layout(config))),
    ]
    places = {f.name: (f.word, f.low, f.bits) for f in FIELDS}
    lines += [
        *_mapping(
            "DESCRIPTOR", "Word, lowest bit and width of a descriptor's fields.", dict(places)
        ),
        *_mapping("OPCODES", "Numbers of opcodes.", {n: k for n, (k, _) in OPCODES.items()}),
        *_mapping("IMAGE_HEAD", "Words of an image's head.", _words(HEAD_FIELDS)),
        *_mapping("IMAGE_ENTRY", "Words of the entry of a program.", _words(ENTRY_FIELDS)),
        "",
        f"IMAGE_MAGIC = 0x{IMAGE_MAGIC:08x}",
    ]
    return "\n".join(lines) + "\n"
