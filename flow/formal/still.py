"""Nothing moves without an enable: no stored bit of a unit changes while some inputs are 0.

A pipeline that stalls repeats a cycle in which all its enables are 0. Where that changes nothing,
what is proved without stalls holds with any number of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flow.formal.abc import differ
from flow.formal.blif import blif
from flow.formal.circuit import Circuit
from flow.formal.equivalence import read_rtl, simple_cells
from flow.formal.prove import Outcome
from flow.netlist.netlist import LOW
from flow.tools import Tool
from halut.errors import CheckFailed
from halut.files import write_text
from rtl_gen.units.unit import Unit
from rtl_gen.verilog import unit_verilog

__all__ = ["StillCheck", "prove_still"]


@dataclass(frozen=True, kw_only=True)
class StillCheck:
    """A unit, and the inputs that must be 0 for it to stand still."""

    name: str
    unit: Callable[[], Unit]  #: Makes the unit; called when the check runs.
    inputs: tuple[str, ...]  #: Ports.


def prove_still(
    check: StillCheck, yosys: Tool, abc: Tool, folder: Path, timeout: float = 120
) -> list[Outcome]:
    """Prove it, and refute it for the first of the inputs left free.

    Raises
    ------
    CheckFailed
        When the solver decides neither way.
    """
    folder = (folder / check.name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    unit = check.unit()
    write_text(folder / "unit.v", unit_verilog(unit))
    netlist, _ = read_rtl(yosys, folder / "unit.v", unit.module_name, folder)
    circuit = Circuit(netlist, simple_cells(), "clk_i", "the unit")
    equal = _equal(circuit, check.inputs, abc, folder, "still", timeout)
    broken = _equal(circuit, check.inputs[1:], abc, folder, "twin", timeout)
    says = f"no stored bit changes while {' and '.join(check.inputs)} are 0"
    example = "" if equal else f"a stored bit changes (log: {folder / 'still.log'})"
    return [Outcome(check.name, "still", says, proved=equal, refuted=not broken, example=example)]


def _equal(
    circuit: Circuit, zero: tuple[str, ...], abc: Tool, folder: Path, name: str, timeout: float
) -> bool:
    """Whether every stored bit is the same after the next edge."""
    pairs = []
    for stored in circuit.storage.values():
        if stored.kind == "latch":
            pairs.append((circuit.enable(stored), LOW))
        else:
            pairs.append((circuit.following(stored), stored.outputs[0][0]))
    order = circuit.cone([first for first, _ in pairs])
    tied = {net for port, net in circuit.inputs if port.split("[")[0] in zero}
    if not pairs or (zero and not tied):
        raise CheckFailed(f"a unit that stands still must have storage and the ports {zero}")

    inputs = {leaf: f"i{leaf}" for leaf in sorted(circuit.leaves - tied)}
    leaves = [
        *((leaf, "a", source) for leaf, source in inputs.items()),
        *((leaf, "0", None) for leaf in sorted(tied)),
    ]
    for side, nets in (("after", 0), ("before", 1)):
        points = [pair[nets] for pair in pairs]
        text = blif(side, inputs.values(), leaves, [] if nets else order, points)
        write_text(folder / f"{name}_{side}.blif", text)
    return not differ(abc, f"{name}_before.blif", f"{name}_after.blif", folder, name, timeout)
