"""Cycles of tiles on an accelerator; tests compare them with simulation of the Verilog."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from halut.schedule import Machine, Schedule, schedule
from rtl_gen.direct import EngineConfig, StoredMatrixConfig, SystolicConfig
from rtl_gen.machine import machine
from rtl_gen.tiled_config import AnyConfig

__all__ = ["Cycles", "Shared", "engine_cycles", "share_tiles", "tile_cycles"]

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


def engine_cycles(config: EngineConfig, n_rows: int, n_tiles: int = 1) -> Cycles:
    """Cycles of loading weights into a direct engine and sending `n_rows` rows to each matrix.

    As `tile_cycles`. Weights are those that the engine holds at once; none are loaded where they
    are held outside. Every row gives its sums over these weights, so that sums of longer products
    are added up outside. A systolic array's last rows are pushed out by further transfers, which
    are part of `stream`; it needs no settling.

    Examples
    --------
    >>> from rtl_gen.direct import DotProductConfig
    >>> cycles = engine_cycles(DotProductConfig(weights="latch"), 100)
    >>> cycles.load, cycles.run, cycles.total
    (16, 103, 120)
    """
    words = config.program_words
    settle, interval, groups = _SETTLE_CYCLES, 1, n_rows
    drain = config.latency_cycles
    if isinstance(config, SystolicConfig):
        settle, groups, drain = 0, n_rows - 1 + config.filling_transfers, 1
    elif isinstance(config, StoredMatrixConfig):
        n_beats = config.output.n_beats
        interval, groups = max(config.n_groups, n_beats), -(-n_rows // config.rows)
        drain += min(config.n_groups, n_beats) - 1
    one = Cycles(
        load=words, settle=settle if words else 0, stream=groups * interval, drain=drain
    )  # fmt: skip
    return one.times(n_tiles)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """How units share a layer's tiles: they take turns, with parts of the rows where they must."""

    row_parts: int  #: Parts that the rows of every tile are cut into.
    rows: int  #: Of a part, at most.
    jobs: int  #: Parts of all tiles.
    one: Cycles  #: Of one job.
    busiest: Cycles  #: Of the unit with the most jobs.
    loading: int  #: Cycles in which a unit is loaded and does nothing else, of all units.


def share_tiles(
    cycles: Callable[[int, int], Cycles], n_rows: int, n_tiles: int, units: int, parallel: int
) -> Shared:
    """Share tiles among units, and rows when there are fewer tiles than units.

    Parameters
    ----------
    cycles : callable
        ``cycles(rows, tiles)``: of a unit, for so many rows of so many tiles.
    parallel : int
        Rows that a unit works on side by side.
    """

    def busiest_unit(parts: int) -> Cycles:
        return cycles(-(-n_rows // parts), -(-n_tiles * parts // units))

    most = max(1, min(units, -(-n_rows // parallel)))
    parts = min(range(1, most + 1), key=lambda count: busiest_unit(count).total)
    rows, jobs = -(-n_rows // parts), n_tiles * parts
    count, rest = divmod(jobs, units)
    loading = rest * cycles(rows, count + 1).load
    if count:
        loading += (units - rest) * cycles(rows, count).load
    return Shared(
        row_parts=parts,
        rows=rows,
        jobs=jobs,
        one=cycles(rows, 1),
        busiest=busiest_unit(parts),
        loading=loading,
    )
