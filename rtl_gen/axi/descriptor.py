"""Descriptors: the commands that lie in memory, eight words of 32 bits, lowest byte first.

One table of fields; hardware, header, documentation and the images that software writes are made
of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from halut.errors import HalutError

__all__ = ["DESCRIPTOR_BYTES", "FIELDS", "OPCODES", "DescriptorField", "descriptor"]

DESCRIPTOR_BYTES = 32

OPCODES: Mapping[str, tuple[int, str]] = {
    "load": (1, "write program words from memory into the accelerator"),
    "run": (2, "send items from memory, and write their results to memory"),
    "switch": (3, "let the next rows use another bank; only with double_buffer"),
    "gather": (4, "write the front end's split dimensions; only with a front end that gathers"),
}
"""Per name: the number, and what it does. 0 is none, so that empty memory is no command."""


@dataclass(frozen=True)
class DescriptorField:
    """A field of a descriptor.

    Attributes
    ----------
    name : str
    word : int
        Which of the eight words.
    low, bits : int
        Place in the word.
    text : str
        What it is.
    """

    name: str
    word: int
    low: int
    bits: int
    text: str

    @property
    def first(self) -> int:
        """Its lowest bit in the descriptor of 256 bits."""
        return 32 * self.word + self.low


FIELDS = (
    DescriptorField("opcode", 0, 0, 8, "what to do"),
    DescriptorField("end", 0, 8, 1, "the chain ends here; else `next` follows"),
    DescriptorField("interrupt", 0, 9, 1, "set IRQ_STATUS.done when it is done"),
    DescriptorField("reserved", 0, 10, 6, "must be 0"),
    DescriptorField("tag", 0, 16, 16, "shown in TAG when it is done"),
    DescriptorField("next", 1, 0, 32, "address of the next descriptor"),
    DescriptorField("configuration", 2, 0, 32, "must be CONFIG_HASH0"),
    DescriptorField("source", 3, 0, 32, "load, run, gather: where to read, any byte"),
    DescriptorField("destination", 4, 0, 32, "run: where to write the results, any byte"),
    DescriptorField("count", 5, 0, 32, "run: items; load, gather: words. At least 1"),
    DescriptorField("program_address", 6, 0, 32, "load: of the first word; switch: the command"),
    DescriptorField("inner", 7, 0, 16, "load: words before `stride` is added, at least 1"),
    DescriptorField("stride", 7, 16, 16, "load: from one such run of words to the next"),
)
"""In order. Word `n` of a load has the address first + n // inner * stride + n % inner."""


def descriptor(opcode: str, **values: int) -> bytes:
    """Return the 32 bytes of a descriptor.

    Parameters
    ----------
    opcode : str
        One of `OPCODES`.
    **values : int
        Other fields; 0 where absent.

    Raises
    ------
    HalutError
        When a field does not exist, or a value does not fit.
    """
    if opcode not in OPCODES:
        raise HalutError(f"opcode must be one of {', '.join(OPCODES)}, not {opcode!r}")
    places = {field.name: field for field in FIELDS}
    whole = 0
    for name, value in {**values, "opcode": OPCODES[opcode][0]}.items():
        if name not in places:
            raise HalutError(f"a field must be one of {', '.join(places)}, not {name!r}")
        if not 0 <= value < 1 << places[name].bits:
            raise HalutError(
                f"{name} must be in [0, {1 << places[name].bits}), not {value} (descriptor)"
            )
        whole |= value << places[name].first
    return whole.to_bytes(DESCRIPTOR_BYTES, "little")
