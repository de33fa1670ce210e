"""Cycles of tiles on an accelerator; tests compare them with simulation of the Verilog."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from halut.schedule import Machine, Schedule, schedule
from rtl_gen.machine import machine
from rtl_gen.tiled_config import AnyConfig

__all__ = ["Cycles", "tile_cycles"]

# No row group begins in the cycle after a program word (docs/architecture.md).
_SETTLE_CYCLES = 1
# With two banks every further tile takes as many cycles as this one.
_STEADY_TILES = 4


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """Clock cycles of one tile, or of several one after the other."""

    load: int  #: Program words, one per cycle; with two banks those that no row hides.
    settle: int  #: Between the last word and the first row group; with two banks the switch, too.
    stream: int  #: Row groups at their interval.
    drain: int  #: From the end of the last row group's interval to its last result.

    @property
    def run(self) -> int:
        """From the first input transfer to the last result, both included."""
        return self.stream + self.drain

    @property
    def total(self) -> int:
        return self.load + self.settle + self.run

    def times(self, count: int) -> Cycles:
        return Cycles(**{name: count * value for name, value in asdict(self).items()})


def tile_cycles(config: AnyConfig, n_rows: int, n_tiles: int = 1) -> Cycles:
    """Cycles of loading programs and sending `n_rows` rows to each, when nothing stalls.

    With two banks a program is loaded while the rows of the one before are sent.

    Parameters
    ----------
    n_rows : int
        Of every tile, at least 1.
    n_tiles : int, default 1
        Tiles one after the other, at least 1.

    Examples
    --------
    >>> from rtl_gen.config import AcceleratorConfig
    >>> cycles = tile_cycles(AcceleratorConfig(), 100)
    >>> cycles.load, cycles.run, cycles.total
    (320, 1615, 1936)
    """
    hardware = machine(config)
    if hardware.banks == 1:
        return _planned(hardware, n_rows, 1).times(n_tiles)
    if n_tiles <= _STEADY_TILES:
        return _planned(hardware, n_rows, n_tiles)
    before, steady = (_planned(hardware, n_rows, n) for n in (_STEADY_TILES - 1, _STEADY_TILES))
    more = n_tiles - _STEADY_TILES
    parts = {
        name: cycles + more * (cycles - getattr(before, name))
        for name, cycles in asdict(steady).items()
    }
    return Cycles(**parts)


def _planned(hardware: Machine, n_rows: int, n_tiles: int) -> Cycles:
    """Cycles of a schedule of tiles along the outputs."""

    def plan(hardware: Machine) -> Schedule:
        n_outputs = n_tiles * hardware.n_outputs
        return schedule(n_rows, hardware.n_codebooks, n_outputs, hardware, order="tables")

    whole = plan(hardware)
    # Of programs of one word, only the first one's takes time: rows hide the others.
    load = whole.cycles - plan(replace(hardware, program_words=1)).cycles + 1
    settle = _SETTLE_CYCLES * n_tiles + sum(step.kind == "switch" for step in whole.steps)
    stream = whole.row_groups * hardware.interval_cycles
    return Cycles(
        load=load,
        settle=settle,
        stream=stream,
        drain=whole.cycles - load - settle - stream,
    )
