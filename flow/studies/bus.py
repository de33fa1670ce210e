"""Cycles and bytes of a layer on `halut_axi`, whose master reads and writes one memory.

Tests compare both with the simulated Verilog (`sim.axi_timing`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from halut.errors import HalutError
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.descriptor import DESCRIPTOR_BYTES
from rtl_gen.axi.image import loads
from rtl_gen.machine import machine
from rtl_gen.reference import random_program

__all__ = ["BOUNDS", "BusCycles", "BusSystem", "Memory"]

BOUNDS = ("look-ups", "rows", "results", "rows and results", "tables", "waiting")
"""What a layer can be bound by, in the order in which ties are decided."""

# From a descriptor's last word to the address of its data: sizes, rules, asking.
_DECODE_CYCLES = 4
# From a word on the bus to the accelerator, through the buffer and the gearbox.
_ARRIVE_CYCLES = 3
# From a burst's last word to the address of the next, when no more may be on their way.
_ASK_CYCLES = 2
# On a shared bus the answer to a burst of writes takes a cycle.
_ANSWER_CYCLES = 1


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What the master sees of the bus and the memory behind it.

    Attributes
    ----------
    bytes_per_cycle : float
        In each direction, or in both together when `shared`; above a word of the bus per cycle it
        is that word.
    latency_cycles : int
        From a burst's address to its first word, and from its last word to the answer of a write.
    shared : bool
        Reads and writes take turns, one burst at a time, as on Wishbone: each burst waits for the
        latency. Otherwise bursts overlap, and both directions go on side by side.

    Raises
    ------
    HalutError
        When a number breaks its rule.
    """

    bytes_per_cycle: float
    latency_cycles: int
    shared: bool = False

    def __post_init__(self) -> None:
        rate = self.bytes_per_cycle
        if not (math.isfinite(rate) and rate > 0):
            raise HalutError(f"bytes_per_cycle must be a positive number, not {rate}")
        least = 2 if self.shared else 1
        if not least <= self.latency_cycles <= 1 << 20:
            raise HalutError(
                f"latency_cycles must be an integer in [{least}, {1 << 20}], not "
                f"{self.latency_cycles}"
            )


@dataclass(frozen=True, kw_only=True)
class BusCycles:
    """Clock cycles of a chain of tiles, from its doorbell until all results are in memory."""

    load: int  #: Program words move.
    run: int  #: Rows go in.
    wait: int  #: Neither: descriptors, latencies, the last results.

    @property
    def total(self) -> int:
        return self.load + self.run + self.wait


class BusSystem:
    """An accelerator as `halut_axi`, and the memory that its master reads and writes.

    Data begin at multiples of the longest burst; else there is one burst more for each.

    Parameters
    ----------
    config : AxiConfig
        With a bus master, of an accelerator without front end.
    memory : Memory
    """

    def __init__(self, config: AxiConfig, memory: Memory) -> None:
        if config.bus != "master" or config.has_front_end:
            raise HalutError("the bus must be a master's, of an accelerator without front end")
        self.config, self.memory = config, memory
        self._machine = machine(config.accelerator)
        program = random_program(config.accelerator, np.random.default_rng(1))
        self._loads = [load.count for load in loads(config, program)]

    def to_dict(self) -> dict[str, Any]:
        """What it was made of, ready for JSON."""
        names = ("data_bits", "burst_beats", "outstanding")
        return {**asdict(self.memory), **{name: getattr(self.config, name) for name in names}}

    @property
    def _beat(self) -> float:
        """Cycles from a word to the next one of its burst."""
        return self.config.word_bytes / self.word_bytes_per_cycle

    @property
    def word_bytes_per_cycle(self) -> float:
        """Bytes per cycle that the bus moves in a direction."""
        return min(self.memory.bytes_per_cycle, self.config.word_bytes)

    def bytes_moved(self, n_rows: int, n_tiles: int) -> dict[str, int]:
        """Bytes that a chain of tiles reads and writes: whole row groups, one run per tile."""
        c = self.config
        groups = -(-n_rows // self._machine.rows)
        descriptors = len(self._loads) + 1 + c.double_buffer
        return {
            "tables": n_tiles * sum(self._loads) * c.program_word_bytes,
            "rows": n_tiles * groups * c.item_bytes,
            "results": n_tiles * groups * c.result_bytes,
            "descriptors": n_tiles * descriptors * DESCRIPTOR_BYTES,
        }

    def _read(self, sizes: Sequence[int], own: float = 0.0) -> float:
        """Cycles from the first word of transfers of these bytes, one after the other, to the last.

        `own` are the cycles in which the accelerator takes them: a burst is asked for when the
        buffer has room for it.
        """
        c, latency = self.config, self.memory.latency_cycles
        beats = [-(-size // c.word_bytes) for size in sizes]
        bursts = sum(-(-n // c.burst_beats) for n in beats)
        moving = sum(beats) * self._beat - (self._beat - 1)
        # Few bursts on their way do not hide the latency.
        asked_in_turn = max(moving, own) + (bursts - 1) * (latency + _ASK_CYCLES)
        return max(moving, asked_in_turn / c.outstanding)

    def _occupied(self, sizes: Sequence[int]) -> float:
        """Cycles in which a shared bus is occupied by reading transfers of these bytes."""
        c = self.config
        beats = [-(-size // c.word_bytes) for size in sizes]
        bursts = sum(-(-n // c.burst_beats) for n in beats)
        # A burst's first word comes with the latency.
        return sum(beats) * self._beat + bursts * (self.memory.latency_cycles + 1 - self._beat)

    def _written(self, n_bytes: int) -> tuple[float, float]:
        """Cycles of writing results: of all bursts but the last, and of the last."""
        c = self.config
        beats = -(-n_bytes // c.word_bytes)
        before = (beats - 1) // c.burst_beats
        last = (beats - before * c.burst_beats) * self._beat
        all_before = before * c.burst_beats * self._beat
        if self.memory.shared:
            extra = self.memory.latency_cycles + 1 - self._beat + _ANSWER_CYCLES
            return all_before + before * extra, last + extra
        return all_before, last

    def _data_cycles(self, own: float, read: int, written: float, followed: bool) -> float:
        """Cycles from data's first word to the end of the next descriptor, if one follows.

        `own` are the cycles of the accelerator, `written` those of writing. The descriptor's words
        wait in the buffer, and are taken one per cycle.
        """
        taken = DESCRIPTOR_BYTES / self.config.word_bytes if followed else 0.0
        sizes = [read, DESCRIPTOR_BYTES] if followed else [read]
        least = max(own + taken + _ARRIVE_CYCLES, self._read(sizes, own + taken))
        if self.memory.shared:
            # The first burst's latency is counted as waiting.
            return max(least, self._occupied(sizes) - self.memory.latency_cycles + written)
        return max(least, written + taken + _ARRIVE_CYCLES)

    def cycles(self, n_rows: int, n_tiles: int) -> BusCycles:
        """Cycles of a chain that loads every tile and sends it `n_rows` rows.

        With two programs the bus still moves one thing after the other; only the accelerator need
        not be empty before a program is loaded.
        """
        c, m, memory = self.config, self._machine, self.memory
        groups = -(-n_rows // m.rows)
        latency = memory.latency_cycles
        lead = _DECODE_CYCLES + latency
        in_bytes, out_bytes = groups * c.item_bytes, groups * c.result_bytes
        load = run = wait = 0.0
        gap = lead
        if not c.double_buffer:  # words wait for the rows before
            drain = m.pipeline_cycles + (m.output_cycles + m.output_transfers) * m.drains
            gap = max(lead, drain)
        for k, words in enumerate(self._loads):
            data = self._data_cycles(words, words * c.program_word_bytes, 0.0, True)
            moved = max(words, words * c.program_word_bytes / self.word_bytes_per_cycle)
            load += moved
            wait += data - moved + (lead if k else gap)
        if c.double_buffer:
            wait += lead + DESCRIPTOR_BYTES / self.word_bytes_per_cycle
        own = groups * m.interval_cycles
        rows_move = max(
            own, in_bytes / self.word_bytes_per_cycle, out_bytes / self.word_bytes_per_cycle
        )
        written, last_burst = self._written(out_bytes)
        data = self._data_cycles(own, in_bytes, written, True)
        last = self._data_cycles(own, in_bytes, written, False)
        run += rows_move
        wait += data - rows_move + lead
        # On a shared bus the next data wait for the last results, as far as they are later.
        later = max(0.0, last_burst - _DECODE_CYCLES) if memory.shared else 0.0
        wait += later
        # The first descriptor; none behind the last run, whose results are still written.
        tail = m.pipeline_cycles + m.output_cycles + m.output_transfers + last_burst
        tail += -later if memory.shared else latency
        once = self._read([DESCRIPTOR_BYTES]) + latency + _ARRIVE_CYCLES + tail - (data - last)
        whole = round(n_tiles * (load + run + wait) + once)
        loading, running = round(n_tiles * load), round(n_tiles * run)
        return BusCycles(load=loading, run=running, wait=whole - loading - running)

    def bound(self, n_rows: int, found: BusCycles) -> str:
        """What takes most of a layer's cycles, those of tiles of `n_rows` rows: one of `BOUNDS`."""
        c, m = self.config, self._machine
        most = max(asdict(found), key=lambda part: float(getattr(found, part)))
        if most == "load":
            return "tables"
        if most == "wait":
            return "waiting"
        groups = -(-n_rows // m.rows)
        rows = [groups * c.item_bytes]
        into = self._occupied(rows) if self.memory.shared else self._read(rows)
        out = sum(self._written(groups * c.result_bytes))
        own = groups * m.interval_cycles
        if self.memory.shared and into + out > own:
            return "rows and results"
        return max((own, "look-ups"), (into, "rows"), (out, "results"), key=lambda p: p[0])[1]
