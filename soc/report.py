"""What a run of the firmware printed, as figures and as tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from halut.errors import CheckFailed
from soc.bus_cycles import GroupCycles
from soc.expected import Layer
from soc.system import Mark, marks

__all__ = ["WAYS", "LayerCycles", "Way", "bus_table", "read_ways", "table"]

WAYS = {
    "plain": "(a) INT8 products",
    "software": "(b) looked up, software",
    "unit": "(c) looked up, instructions",
    "accelerator": "(d) looked up, accelerator",
}
"""The ways of the firmware, in its order."""

_LINE = re.compile(
    r"way (\w+) images (\d+) layers (\d+) wrong_layers (\d+) wrong_outputs (\d+) classes (\d+) "
    r"busy (\d+)"
)


@dataclass(frozen=True, kw_only=True)
class LayerCycles:
    """One layer, of the first image."""

    name: str
    kind: str
    cycles: int
    look_ups: int


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a way of running the network went; counters are per image, means of those timed.

    Attributes
    ----------
    images, layers : int
        Classified images, and layers of each, all of which were compared.
    wrong_layers, wrong_outputs, right_classes : int
        Of these images.
    cycles, read_words, written_words, fetched_words : float
        Words of 32 bits that moved between caches and memory.
    data_wait_cycles, bus_cycles : float
        Cycles in which the data bus waited for memory, and in which it was busy at all.
    custom_instructions : float
    busy_cycles : float
        Cycles in which the accelerator was busy; the processor gathers rows meanwhile, or waits.
    master_read_words, master_written_words : float
        Words of 32 bits that the accelerator moved.
    by_layer : list of LayerCycles
    """

    name: str
    images: int
    layers: int
    wrong_layers: int
    wrong_outputs: int
    right_classes: int
    cycles: float
    fetched_words: float
    read_words: float
    written_words: float
    bus_cycles: float
    custom_instructions: float
    busy_cycles: float
    master_read_words: float
    master_written_words: float
    by_layer: list[LayerCycles] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON."""
        return asdict(self)


def read_ways(log: str, plain: Sequence[Layer], looked_up: Sequence[Layer]) -> list[Way]:
    """Take the figures out of what a run printed.

    Parameters
    ----------
    log : str
        Of `soc.system.System.run`.
    plain, looked_up : sequence of Layer
        The layers of the two networks.

    Raises
    ------
    CheckFailed
        When a way is missing, or a layer or an output was wrong.
    """
    found = {match[1]: [int(part) for part in match.groups()[1:]] for match in _LINE.finditer(log)}
    moments = marks(log)
    ways = []
    for number, name in enumerate(WAYS):
        if name not in found:
            raise CheckFailed(f"firmware must report all ways, not leave out {name}")
        images, layers, wrong_layers, wrong_outputs, right, busy = found[name]
        if wrong_layers or wrong_outputs:
            raise CheckFailed(
                f"every layer must equal the model, but {wrong_layers} layers and {wrong_outputs} "
                f"outputs of {images} images differ ({WAYS[name]})"
            )
        mean, n_timed = _mean(moments, number)
        ways.append(
            Way(
                name=name,
                images=images,
                layers=layers,
                wrong_layers=wrong_layers,
                wrong_outputs=wrong_outputs,
                right_classes=right,
                busy_cycles=busy / n_timed,
                by_layer=_by_layer(moments, number, plain if name == "plain" else looked_up),
                **mean,
            )
        )
    return ways


def _mean(moments: Sequence[Mark], number: int) -> tuple[dict[str, float], int]:
    """Counters per image, and the number of images that were timed."""
    begins = [one for one in moments if one.number == 10 * number + 1]
    ends = [one for one in moments if one.number == 10 * number + 2]
    if not begins or len(begins) != len(ends):
        raise CheckFailed("firmware must mark the begin and the end of every image that is timed")
    sums = dict.fromkeys(Mark.__dataclass_fields__, 0)
    for first, last in zip(begins, ends, strict=True):
        for name in sums:
            sums[name] += getattr(last, name) - getattr(first, name)
    n = len(begins)
    return {
        "cycles": sums["cycle"] / n,
        "fetched_words": sums["fetched"] / n,
        "read_words": sums["read"] / n,
        "written_words": sums["written"] / n,
        "bus_cycles": (sums["read"] + sums["written"] + sums["data_waits"]) / n,
        "custom_instructions": sums["custom"] / n,
        "master_read_words": sums["master_read"] / n,
        "master_written_words": sums["master_written"] / n,
    }, n


def _by_layer(moments: Sequence[Mark], number: int, layers: Sequence[Layer]) -> list[LayerCycles]:
    first = next(k for k, one in enumerate(moments) if one.number == 10 * number + 3)
    begins_and_ends = moments[first + 1 : first + 1 + 2 * len(layers)]
    return [
        LayerCycles(
            name=layer.name, kind=layer.kind, cycles=end.cycle - begin.cycle,
            look_ups=layer.look_ups,
        )
        for layer, begin, end in zip(
            layers, begins_and_ends[::2], begins_and_ends[1::2], strict=True
        )
    ]  # fmt: skip


def table(ways: Sequence[Way]) -> list[list[str]]:
    """The ways side by side, the head first; speed-ups are over the first."""
    head = ["per image", *(WAYS[way.name] for way in ways)]
    rows: list[list[str]] = [
        ["cycles", *(f"{way.cycles:,.0f}" for way in ways)],
        ["times faster than (a)", *(f"{ways[0].cycles / way.cycles:.1f}" for way in ways)],
        ["custom instructions", *(f"{way.custom_instructions:,.0f}" for way in ways)],
        ["data read, bytes", *(f"{4 * way.read_words:,.0f}" for way in ways)],
        ["data written, bytes", *(f"{4 * way.written_words:,.0f}" for way in ways)],
        ["code fetched, bytes", *(f"{4 * way.fetched_words:,.0f}" for way in ways)],
        ["data bus busy", *(f"{100 * way.bus_cycles / way.cycles:.0f} %" for way in ways)],
        ["accelerator: read, bytes", *(f"{4 * way.master_read_words:,.0f}" for way in ways)],
        ["accelerator: written, bytes", *(f"{4 * way.master_written_words:,.0f}" for way in ways)],
        [
            "accelerator: busy",
            *(f"{100 * way.busy_cycles / way.cycles:.0f} %" for way in ways),
        ],
        ["images classified", *(str(way.images) for way in ways)],
        ["PyTorch's class", *(str(way.right_classes) for way in ways)],
        ["layers equal the model", *(f"{way.images * way.layers:,}" for way in ways)],
    ]
    return [head, *rows]


def bus_table(groups: Sequence[GroupCycles]) -> list[list[str]]:
    """The accelerator's cycles beside those predicted, the head first, all of them last."""
    rows = [
        [one.layer, str(one.rows), str(one.tiles), f"{one.measured:,}", f"{one.predicted:,}",
         f"{100 * one.difference:+.1f} %"]
        for one in groups
    ]  # fmt: skip
    measured, predicted = (sum(getattr(one, name) for one in groups)
                           for name in ("measured", "predicted"))  # fmt: skip
    total = f"{100 * (predicted / measured - 1):+.1f} %"
    return [
        ["accelerator, cycles", "rows", "tiles", "measured", "predicted", "difference"],
        *rows,
        ["all", "", "", f"{measured:,}", f"{predicted:,}", total],
    ]
