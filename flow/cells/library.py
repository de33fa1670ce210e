"""A standard-cell library in memory: cells, their pins, timing arcs and energy tables.

Only what synthesis, sizing, simulation models and power need is kept, in fixed units: ns, fF, fJ,
nW, V, um2. Tables are stored with the input slew along the first axis and the load along the
second, whatever order the file uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flow.cells.boolean import parse

__all__ = ["MACROS", "Arc", "Cell", "Library", "Pin", "PowerArc", "Table"]


@dataclass
class Table:
    """Values over input slew and load."""

    slews: list[float]  #: First axis, ns; one entry when the values do not depend on it.
    #: Second axis, fF (ns of the related pin for setup and hold); one entry likewise.
    loads: list[float]
    #: Shape (len(slews), len(loads)); ns for delays, slews and constraints, fJ for energies.
    values: list[list[float]]


@dataclass
class Arc:
    """One timing group of a pin."""

    related: str  #: The input it is timed from.
    kind: str  #: liberty's timing_type; ``combinational`` when it has none.
    sense: str  #: ``positive``, ``negative`` or ``non``.
    #: By liberty name: ``cell_rise``, ``fall_transition``, ``rise_constraint``, ...
    tables: dict[str, Table]


@dataclass
class PowerArc:
    """One internal_power group of a pin: energy in fJ for a rising and a falling edge."""

    related: str
    when: str
    rise: Table
    fall: Table


@dataclass
class Pin:
    """A pin."""

    #: Direction ``input``, ``output``, ``inout`` or ``internal``.
    name: str
    direction: str
    capacitance: tuple[float, float] = (0.0, 0.0)  #: fF, for a rising and a falling edge.
    #: Limits in fF and ns; 0 where the library states none.
    max_capacitance: float = 0.0
    max_slew: float = 0.0
    function: str = ""  #: Of an output, as the library writes it.
    tristate: bool = False
    clock: bool = False
    arcs: list[Arc] = field(default_factory=list)
    power: list[PowerArc] = field(default_factory=list)


MACROS = ("sram", "block")
"""Kinds of cells that are no single gate or register; all of them have a clock."""


@dataclass
class Cell:
    """A cell."""

    name: str
    area: float  #: um2.
    #: ``gate``, ``ff``, ``latch``, ``clock_gate``, ``sram`` (a macro of the platform), ``block`` (a
    #: routed layout of ours) or ``other`` (tri-state, fillers, ...).
    kind: str
    leakage: float  #: nW, the library's unconditional figure.
    leakages: list[tuple[str, float]]  #: Condition and nW.
    #: For ff: iq, iqn, next, clock, clear, preset. For latch: iq, iqn, data, enable, clear, preset.
    #: Expressions as the library writes them; absent when it has none. For sram: pins by role, see
    #: `flow.cells.sram.SramMacros`; for block its clock pin.
    state: dict[str, str]
    dont_use: bool  #: The library says not to use it.
    pins: dict[str, Pin]

    @property
    def inputs(self) -> list[str]:
        return [pin.name for pin in self.pins.values() if pin.direction == "input"]

    @property
    def outputs(self) -> list[str]:
        return [pin.name for pin in self.pins.values() if pin.direction == "output"]

    @property
    def clock_pins(self) -> frozenset[str]:
        """Pins that a clock belongs to: clock, enable of a latch, clock of a clock gate."""
        if self.kind in MACROS:
            return frozenset({self.state["clock"]})
        text = self.state.get("clock") or self.state.get("enable")
        if text:
            return frozenset(parse(text).inputs)
        if self.kind == "clock_gate":
            inputs = (pin for pin in self.pins.values() if pin.direction == "input")
            return frozenset(arc.related for pin in inputs for arc in pin.arcs) or frozenset(
                pin.name for pin in self.pins.values() if pin.clock
            )
        return frozenset()


@dataclass
class Library:
    """Cells of one corner, in fixed units."""

    voltage: float  #: V.
    temperature: float  #: Degrees Celsius.
    cells: dict[str, Cell]
    #: Name of the library that each cell comes from.
    cell_library: dict[str, str] = field(default_factory=dict)
    #: Whether it has internal power of ground pins too, which is that of the supply once more:
    #: the charge that comes from the one goes to the other. It is not in `cells`.
    ground_power: bool = False
