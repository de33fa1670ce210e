"""The accelerator's cycles in the system beside those that `flow.studies.bus` predicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flow.studies.bus import BusSystem, Memory
from halut.errors import CheckFailed
from rtl_gen.axi.config import AxiConfig

if TYPE_CHECKING:
    from halut.nn.c_export.steps import LookUp

__all__ = ["MEMORY", "MOST_DIFFERENCE", "GroupCycles", "check_bus_cycles", "read_bus_cycles"]

MEMORY = Memory(bytes_per_cycle=4, latency_cycles=2, shared=True)
"""The system's memories as the accelerator's master sees them, through Wishbone."""

MOST_DIFFERENCE = 0.05
"""Of measured cycles, that predicted ones may be off."""

_LINE = re.compile(r"busy_group (\d+) cycles (\d+)")


@dataclass(frozen=True, kw_only=True)
class GroupCycles:
    """Cycles in which the accelerator was busy with a group of a layer, its loads and runs.

    Attributes
    ----------
    layer : str
    rows, tiles : int
        Of the group: pixels, and programs that all of them pass through.
    measured, predicted : int
    """

    layer: str
    rows: int
    tiles: int
    measured: int
    predicted: int

    @property
    def difference(self) -> float:
        """Of the prediction, as a part of what was measured."""
        return self.predicted / self.measured - 1

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON."""
        return asdict(self)


def read_bus_cycles(log: str, block: AxiConfig, steps: Sequence[LookUp]) -> list[GroupCycles]:
    """Take the cycles of every group out of what a run printed.

    Parameters
    ----------
    log : str
        Of `soc.system.System.run`.
    block : AxiConfig
    steps : sequence of LookUp
        The layers that `soc.accelerator.taken` returned.

    Raises
    ------
    CheckFailed
        When a group is missing.
    """
    bus = BusSystem(block, MEMORY)
    groups = [step for step in steps for _ in range(step.table.shape[0])]
    measured = {int(match[1]): int(match[2]) for match in _LINE.finditer(log)}
    if sorted(measured) != list(range(len(groups))):
        raise CheckFailed(f"firmware must report the cycles of {len(groups)} groups of layers")
    found = []
    for number, step in enumerate(groups):
        rows = step.output.shape[0] * step.output.shape[1]
        tiles = -(-step.table.shape[3] // block.accelerator.n_outputs)
        found.append(
            GroupCycles(
                layer=step.name, rows=rows, tiles=tiles, measured=measured[number],
                predicted=bus.cycles(rows, tiles).total,
            )
        )  # fmt: skip
    return found


def check_bus_cycles(groups: Sequence[GroupCycles]) -> None:
    """Raise `CheckFailed` where a prediction is further off than `MOST_DIFFERENCE`."""
    for one in groups:
        if abs(one.predicted - one.measured) > MOST_DIFFERENCE * one.measured:
            raise CheckFailed(
                f"predicted cycles must be within {100 * MOST_DIFFERENCE:.0f} % of those measured, "
                f"{one.measured}, not {one.predicted} (layer {one.layer})"
            )
