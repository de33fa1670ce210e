"""The generic library: Yosys' own gates as cells, for a platform without a PDK."""

from __future__ import annotations

from typing import Any

from flow.cells.library import Arc, Cell, Library, Pin, Table
from flow.cells.platform import Platform
from halut.errors import HalutError, closest

__all__ = ["generic_library"]

_GENERIC = {
    "$_BUF_": "A",
    "$_NOT_": "!A",
    "$_AND_": "A & B",
    "$_NAND_": "!(A & B)",
    "$_OR_": "A | B",
    "$_NOR_": "!(A | B)",
    "$_XOR_": "A ^ B",
    "$_XNOR_": "!(A ^ B)",
    "$_ANDNOT_": "A & !B",
    "$_ORNOT_": "A | !B",
    "$_MUX_": "(A & !S) | (B & S)",
    "$_NMUX_": "!((A & !S) | (B & S))",
    "$_AOI3_": "!((A & B) | C)",
    "$_OAI3_": "!((A | B) & C)",
    "$_AOI4_": "!((A & B) | (C & D))",
    "$_OAI4_": "!((A | B) & (C | D))",
}


def generic_library(platform: Platform) -> Library:
    """Yosys' own gates as a library: area in gate equivalents, one unit of delay per gate.

    Simulation and the netlist's checks then work as with a real library, and the longest path is
    the logic depth.

    Parameters
    ----------
    platform : Platform
        One with `gate_equivalents`.
    """

    def table(value: float) -> Table:
        return Table([0.0], [0.0], [[value]])

    def arc(related: str, kind: str, sense: str, delay: float) -> Arc:
        return Arc(
            related,
            kind,
            sense,
            {
                "cell_rise": table(delay),
                "cell_fall": table(delay),
                "rise_transition": table(0.0),
                "fall_transition": table(0.0),
            },
        )

    def pin(name: str, direction: str, **more: Any) -> Pin:
        return Pin(name=name, direction=direction, **more)

    cells = {}
    for name, area in platform.gate_equivalents.items():
        state: dict[str, str] = {}
        if name in _GENERIC:
            kind = "gate"
            inputs = [c for c in "ABCDS" if c in _GENERIC[name]]
            arcs = [arc(source, "combinational", "non", 1.0) for source in inputs]
            pins = [pin(c, "input") for c in inputs]
            pins.append(pin("Y", "output", function=_GENERIC[name], arcs=arcs))
        elif name.startswith("$_DFF_") or name.startswith("$_DLATCH_"):
            kind = "ff" if name.startswith("$_DFF_") else "latch"
            clock = "C" if kind == "ff" else "E"
            low = name.endswith("N_")
            key = ("clock", "next") if kind == "ff" else ("enable", "data")
            state = {"iq": "IQ", key[0]: f"!{clock}" if low else clock, key[1]: "D"}
            edge = "falling_edge" if low else "rising_edge"
            pins = [
                pin("D", "input"),
                pin(clock, "input", clock=True),
                pin("Q", "output", function="IQ", arcs=[arc(clock, edge, "non", 0.0)]),
            ]
        elif name == "halut_clock_gate":
            kind = "clock_gate"
            setup = Arc("clk_i", "setup_rising", "non", {"rise_constraint": table(0.0),
                                                        "fall_constraint": table(0.0)})  # fmt: skip
            pins = [
                pin("clk_i", "input", clock=True),
                pin("en_i", "input", arcs=[setup]),
                pin("gclk_o", "output"),
            ]
        else:
            raise HalutError(
                f"gate_equivalents must be of Yosys' gates, not {name}"
                f"{closest(name, _GENERIC)} ({platform.source})"
            )
        cells[name] = Cell(
            name=name,
            area=area,
            kind=kind,
            leakage=0.0,
            leakages=[],
            state=state,
            dont_use=False,
            pins={p.name: p for p in pins},
        )
    return Library(1.0, 25.0, cells, dict.fromkeys(cells, "generic"))
