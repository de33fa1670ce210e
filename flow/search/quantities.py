"""Numbers with units, as users write them: ``0.5mm2``, ``2ns``, ``0.05pJ``, ``500MHz``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from halut.errors import HalutError

__all__ = ["AREA", "ENERGY", "RATE", "RATIO", "TIME", "Quantity"]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A kind of number."""

    unit: str  #: What `parse` returns.
    units: Mapping[str, float]  #: Factor of each unit that is understood.
    #: Units of the reciprocal: the value is the factor divided by the number.
    inverse: Mapping[str, float]

    def parse(self, name: str, text: str) -> float:
        """Return a positive number in `unit`.

        Parameters
        ----------
        name : str
            How error messages call it.
        text : str
            A number and a unit, with or without a space between.

        Raises
        ------
        HalutError

        Examples
        --------
        >>> AREA.parse("--area", "0.5mm2"), TIME.parse("--clock", "500 MHz")
        (500000.0, 2.0)
        """
        match = re.fullmatch(r"\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s*([^\d\s.]\S*)?\s*", text)
        unit = (match[2] or "") if match else ""
        unit = unit.replace("²", "2").replace("µ", "u").replace("μ", "u")
        known = {**self.units, **self.inverse}
        try:
            value = float(match[1]) if match and unit in known else math.nan
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            names = [unit for unit in known if unit]
            plain = " (or none)" if "" in known else ""
            raise HalutError(
                f"{name} must be a positive number with a unit of {', '.join(names)}{plain}, "
                f"not {text!r}"
            )
        return value * self.units[unit] if unit in self.units else self.inverse[unit] / value

    def show(self, value: float) -> str:
        """A value with its unit, for messages."""
        return f"{value:,.6g} {self.unit}" if self.unit else f"{value:.4g}"


AREA = Quantity(unit="um2", units={"um2": 1.0, "mm2": 1e6}, inverse={})
TIME = Quantity(
    unit="ns", units={"ps": 1e-3, "ns": 1.0, "us": 1e3}, inverse={"MHz": 1e3, "GHz": 1.0}
)
ENERGY = Quantity(unit="pJ", units={"fJ": 1e-3, "pJ": 1.0, "nJ": 1e3}, inverse={})
RATE = Quantity(unit="GMAC/s", units={"MMAC/s": 1e-3, "GMAC/s": 1.0, "TMAC/s": 1e3}, inverse={})
RATIO = Quantity(unit="", units={"": 1.0, "%": 0.01}, inverse={})
