"""Toggle counts from a simulation's value change dump.

The dump is read in blocks with NumPy: tens of millions of changes take seconds. Two counts come
out of one simulation with delays: every transition (glitches included), and the transitions that
are left when only the settled value at the end of each cycle counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halut.errors import CheckFailed
from halut.files import atomic_write

__all__ = ["Activity", "read_vcd"]

_BLOCK = 1 << 26


@dataclass(frozen=True)
class Activity:
    """How often nets change, over a window."""

    cycles: int  #: Length of the window in clock periods.
    toggles: np.ndarray  #: Shape (n_nets,), float: transitions per cycle, all of them.
    #: Shape (n_nets,), float: transitions per cycle between settled values. For clock nets, all
    #: transitions.
    settled: np.ndarray
    duty: np.ndarray  #: Shape (n_nets,), float: share of the time at 1, in [0, 1].

    def save(self, path: Path) -> None:
        """Write a ``.npz`` file."""
        with atomic_write(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                cycles=self.cycles,
                toggles=self.toggles,
                settled=self.settled,
                duty=self.duty,
            )

    @classmethod
    def load(cls, path: Path) -> Activity:
        """Read what `save` wrote."""
        with np.load(path) as data:
            return cls(int(data["cycles"]), data["toggles"], data["settled"], data["duty"])


def _codes(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Identifier codes (up to 7 printable characters) as integers."""
    code = np.zeros(len(starts), np.int64)
    for offset in range(int((ends - starts).max(initial=0))):
        at = starts + offset
        inside = at < ends
        character = data[np.minimum(at, len(data) - 1)].astype(np.int64)
        code = np.where(inside, code * 128 + character, code)
    return code


def _header(path: Path, n_nets: int) -> tuple[dict[int, list[int]], int, int]:
    """Nets by identifier code, ps per unit of time, and where the changes begin."""
    nets_of: dict[int, list[int]] = {}
    length = scale = 0
    with path.open("rb") as stream:
        for line in stream:
            length += len(line)
            text = line.decode(errors="replace").strip()
            if text.startswith("$var"):
                _, _, width, code, name, *_ = text.split()
                match = re.fullmatch(r"n(\d+)", name)
                if match and width == "1" and int(match[1]) < n_nets:
                    number = 0
                    for character in code.encode():
                        number = number * 128 + character
                    nets_of.setdefault(number, []).append(int(match[1]))
            elif text.startswith("$enddefinitions"):
                break
            elif text.startswith(("$scope", "$upscope")) or scale:
                continue
            elif unit := re.search(r"\b(\d+)\s*([pnf]s)\b", text):
                if unit[2] == "fs":
                    raise CheckFailed(f"an activity dump must be in ps or ns, not fs ({path})")
                scale = int(unit[1]) * {"ps": 1, "ns": 1000}[unit[2]]
    if not nets_of:
        raise CheckFailed(f"an activity dump must hold the netlist's nets ({path})")
    return nets_of, scale or 1, length


def _blocks(path: Path, offset: int) -> Iterator[bytes]:
    """Many whole lines at a time."""
    rest = b""
    with path.open("rb") as stream:
        stream.seek(offset)
        while block := stream.read(_BLOCK):
            block = rest + block
            cut = block.rfind(b"\n") + 1
            rest = block[cut:]
            if cut:
                yield block[:cut]
    if rest:
        yield rest + b"\n"


class _Counts:
    """Counts of every net, to which blocks of changes are added in order of time."""

    def __init__(self, n_nets: int, period_ps: int):
        self.period = period_ps
        self.value = np.full(n_nets, -1, np.int8)
        self.last_time = np.zeros(n_nets)
        self.high = np.zeros(n_nets)
        self.toggles = np.zeros(n_nets, np.int64)
        self.settled = np.zeros(n_nets, np.int64)
        # Settled value at the end of the cycle before the one that a net last changed in.
        self.base = np.full(n_nets, -1, np.int8)
        self.base_cycle = np.full(n_nets, -1, np.int64)

    def add(self, net: np.ndarray, new: np.ndarray, time: np.ndarray, begin: int) -> None:
        """Count changes to 0, 1 or -1 (unknown); times in ps, the window's first is `begin`."""
        initial = (time == begin) & (self.value[net] < 0)
        if initial.any():
            at, known = net[initial], new[initial]
            self.value[at], self.base[at], self.last_time[at] = known, known, begin
            net, new, time = net[~initial], new[~initial], time[~initial]
        order = np.argsort(net, kind="stable")
        net, new, time = net[order], new[order], time[order]
        first = np.r_[True, net[1:] != net[:-1]]
        last = np.r_[net[1:] != net[:-1], True]
        old = np.where(first, self.value[net], np.r_[np.int8(-1), new[:-1]])
        since = np.where(first, self.last_time[net], np.r_[0, time[:-1]])
        edge = (old >= 0) & (new >= 0) & (old != new)
        np.add.at(self.toggles, net[edge], 1)
        was_high = old == 1
        np.add.at(self.high, net[was_high], (time - since)[was_high])
        # The value before the first change of a cycle is the settled one of the cycle before.
        cycle = (time - begin - 1) // self.period
        opens = cycle != np.where(first, self.base_cycle[net], np.r_[np.int64(-1), cycle[:-1]])
        # Net by net: what was settled when each cycle with changes began.
        rows = np.flatnonzero(opens)
        if len(rows):
            at, start = net[rows], old[rows]
            head = np.r_[True, at[1:] != at[:-1]]
            previous = np.where(head, self.base[at], np.r_[np.int8(-1), start[:-1]])
            moved = (previous >= 0) & (start >= 0) & (previous != start)
            np.add.at(self.settled, at[moved], 1)
            tail = np.r_[at[1:] != at[:-1], True]
            self.base[at[tail]] = start[tail]
        self.value[net[last]] = new[last]
        self.last_time[net[last]] = time[last]
        self.base_cycle[net[last]] = cycle[last]

    def close(self, end: float) -> np.ndarray:
        """Count the last stretch of every net; returns nets whose value is unknown."""
        seen = self.last_time > 0
        stays = seen & (self.value == 1)
        self.high[stays] += end - self.last_time[stays]
        known = (self.base_cycle >= 0) & (self.value >= 0) & (self.base >= 0)
        self.settled[known & (self.value != self.base)] += 1
        return np.flatnonzero(seen & (self.value < 0))


def read_vcd(
    path: Path,
    n_nets: int,
    period_ps: int,
    cycles: int,
    clock_nets: np.ndarray,
) -> Activity:
    """Count the transitions of nets named ``n<number>`` in a dump.

    Parameters
    ----------
    path : Path
        A dump of scalars with a time unit of 1 ps; vectors are skipped.
    period_ps : int
        Clock period. The dump begins 1 ps before a rising clock edge.
    cycles : int
        Periods to count; later changes are ignored.
    clock_nets : ndarray of int
        Nets of the clock network, for which every transition is meant.

    Raises
    ------
    CheckFailed
        When the dump is cut off or a counted net is never known.
    """
    nets_of, scale, offset = _header(path, n_nets)
    codes = np.array(sorted(nets_of))
    # Nets that are wired together share a code: the first one is counted for all of them.
    nets = np.array([nets_of[code][0] for code in codes])
    values = np.full(256, -1, np.int8)
    values[ord("0")], values[ord("1")] = 0, 1
    counts = _Counts(n_nets, period_ps)
    begin = None
    now, end = 0, float("inf")
    for block in _blocks(path, offset):
        data = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        starts = np.r_[0, ends[:-1] + 1]
        kept = ends > starts
        starts, ends = starts[kept], ends[kept]
        head = data[starts]
        # Times: "#123".
        is_time = head == ord("#")
        times = np.array(
            [int(block[starts[row] + 1 : ends[row]]) for row in np.flatnonzero(is_time)], np.int64
        )
        if begin is None and len(times):
            begin = now = int(times[0]) * scale
            end = begin + cycles * period_ps
        stamps = np.r_[now, times * scale]
        time_of = stamps[np.cumsum(is_time)]
        now = int(stamps[-1])
        rows = np.flatnonzero(np.isin(head, [ord(c) for c in "01xz"]) & (time_of < end))
        if len(rows):
            code = _codes(data, starts[rows] + 1, ends[rows])
            place = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
            good = codes[place] == code
            rows, place = rows[good], place[good]
            counts.add(nets[place], values[head[rows]], time_of[rows], begin or 0)
        if begin is not None and now >= end:
            break
    if begin is None or now < end - period_ps:
        raise CheckFailed(f"an activity dump must cover {cycles} cycles ({path})")
    unknown = counts.close(end)
    if len(unknown):
        raise CheckFailed(
            f"every net must be 0 or 1 in the activity window, unlike n{unknown[0]} ({path})"
        )
    toggles, settled, high = counts.toggles, counts.settled, counts.high
    for first, *others in nets_of.values():
        for count in (toggles, settled, high):
            count[others] = count[first]
    settled[clock_nets] = toggles[clock_nets]
    duty = np.clip(high / (cycles * period_ps), 0, 1)
    return Activity(cycles, toggles / cycles, settled / cycles, duty)
