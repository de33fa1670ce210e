"""SRAM macros of a platform, and which of them a memory is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from flow.cells.library import Cell
from halut.checks import integer_at_least, known
from halut.errors import HalutError

__all__ = ["Arrangement", "SramMacros", "arrange"]

_MUST = ("clock", "enable", "write", "address", "data", "output")
_MAY = ("mask",)
_BUSES = ("address", "data", "mask", "output")


@dataclass(frozen=True, kw_only=True)
class SramMacros:
    """Macros with one port: a rising clock edge writes a word or reads one."""

    macros: Mapping[str, Any]  #: Words and bits of a word, by cell.
    #: By corner: the pattern of a cell's liberty file below the PDK's folder, with ``{cell}`` for
    #: its name.
    liberty: Mapping[str, str]
    #: Pin by role: `clock`, `enable`, `write`, the buses `address`, `data` and `output`, and `mask`
    #: where every bit has a write enable of its own.
    pins: Mapping[str, str]
    inverted: tuple[str, ...] = ()  #: Those of `enable`, `write` and `mask` that are active low.
    #: The pattern of a cell's LEF, as in `liberty`; empty where macros cannot be placed.
    lef: str = ""
    power_layer: str = ""  #: Of the macros' power pins.

    def __post_init__(self) -> None:
        if not self.macros:
            raise HalutError("macros must name at least one cell")
        for cell, size in self.macros.items():
            if not isinstance(size, list | tuple) or len(size) != 2:
                raise HalutError(f"macros.{cell} must be [words, bits], not {size!r}")
            for what, value in zip(("words", "bits"), size, strict=True):
                integer_at_least(f"macros.{cell}, {what},", value, 3)
            if size[0] & (size[0] - 1):
                raise HalutError(f"macros.{cell} must have a power of two of words, not {size[0]}")
        known("pins", self.pins, (*_MUST, *_MAY))
        missing = [role for role in _MUST if role not in self.pins]
        if missing:
            raise HalutError(f"pins must have {', '.join(_MUST)}, not lack {missing[0]}")
        known("inverted", dict.fromkeys(self.inverted), ("enable", "write", "mask"))
        if self.lef and not self.power_layer:
            raise HalutError("power_layer must be a layer where there is a lef, not empty")

    def check(self, cell: Cell) -> None:
        """Check a macro's pins against the platform's words, and mark them in the cell."""
        words, bits = self.macros[cell.name]
        widths = {"address": (words - 1).bit_length(), "data": bits, "mask": bits, "output": bits}
        for role, pin in self.pins.items():
            wanted = [pin]
            if role in _BUSES:
                wanted = [f"{pin}[{bit}]" for bit in range(widths[role])]
                if f"{pin}[{widths[role]}]" in cell.pins:
                    raise HalutError(
                        f"{pin} of {cell.name} must have {widths[role]} bits, not more"
                    )
            for name in wanted:
                if name not in cell.pins:
                    raise HalutError(f"pins.{role} must be a pin of {cell.name}, not {name}")
        cell.state = {**self.pins, "inverted": " ".join(self.inverted)}
        cell.kind = "sram"


class Arrangement(NamedTuple):
    """A memory made of equal macros: `across` beside each other, `deep` above each other."""

    cell: str
    words: int  #: Of a macro.
    bits: int
    across: int
    deep: int

    @property
    def n_macros(self) -> int:
        """Macros in all."""
        return self.across * self.deep


def arrange(
    words: int, width: int, macros: Mapping[str, Any], areas: Mapping[str, float]
) -> Arrangement:
    """The arrangement of least area that holds `words` words of `width` bits.

    Parameters
    ----------
    macros : mapping of str to (words, bits)
        Cells to choose from.
    areas : mapping of str to float
        um2 of each.

    Examples
    --------
    >>> arrange(128, 60, {"a": (64, 32), "b": (128, 48)}, {"a": 10.0, "b": 30.0})
    Arrangement(cell='a', words=64, bits=32, across=2, deep=2)
    """
    ways = [
        Arrangement(cell, macro_words, bits, -(-width // bits), -(-words // macro_words))
        for cell, (macro_words, bits) in macros.items()
    ]
    return min(ways, key=lambda way: (areas[way.cell] * way.n_macros, way.n_macros, way.cell))
