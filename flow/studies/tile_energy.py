"""Energy of an engine's work on tiles, from metrics that the flow measured on its netlist."""

from __future__ import annotations

from dataclasses import dataclass

from flow.figures.metrics import Metrics

__all__ = ["LAYOUT", "SYNTHESIS", "Names", "measured_on", "tile_energy"]


@dataclass(frozen=True, kw_only=True)
class Names:
    """Metrics of one kind of netlist."""

    netlist: str  #: ``"layout"`` or ``"synthesis"``.
    per_cycle: str  #: Energy of a cycle at full rate, pJ.
    per_word: str  #: Energy of a program word, pJ.
    leakage: str  #: mW.
    area: str  #: um2.


LAYOUT = Names(
    netlist="layout",
    per_cycle="halut__routed__energy_per_cycle",
    per_word="halut__routed__energy_per_program_word",
    leakage="finish__power__leakage__total",
    area="finish__design__die__area",
)
SYNTHESIS = Names(
    netlist="synthesis",
    per_cycle="halut__energy__per_cycle",
    per_word="halut__energy__per_program_word",
    leakage="synth__power__leakage__total",
    area="synth__design__instance__area__stdcell",
)


def measured_on(metrics: Metrics | None) -> Names:
    """Which netlist the energies are of: that of the layout where there is one."""
    found = metrics is not None and metrics.values.get(LAYOUT.per_cycle) is not None
    return LAYOUT if found else SYNTHESIS


def tile_energy(
    metrics: Metrics | None, streaming: int, total: int, words: int, loading: int
) -> dict[str, float | None]:
    """Energy in pJ of cycles at full rate, of all others, and of the program words.

    Parameters
    ----------
    streaming, total : int
        Cycles at full rate, and all cycles, of all units together.
    words : int
        Program words.
    loading : int
        Cycles of those words that are written while no rows are sent.
    """
    values = metrics.values if metrics else {}
    names = measured_on(metrics)
    per_cycle, per_word, leakage = (
        values.get(name) for name in (names.per_cycle, names.per_word, names.leakage)
    )
    clock = values.get("synth__timing__clock__period")
    if per_cycle is None or leakage is None or clock is None:
        return dict.fromkeys(("stream", "other_cycles", "load", "without_load", "total"))
    stream = per_cycle * streaming
    # Both were measured with the leakage of their cycles; other words share those of rows.
    load = None if per_word is None else per_word * words - leakage * clock * (words - loading)
    other = leakage * clock * (total - streaming - (0 if load is None else loading))
    return {
        "stream": stream,
        "other_cycles": other,
        "load": load,
        "without_load": stream + other,
        "total": None if load is None else stream + other + load,
    }
