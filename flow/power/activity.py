"""Toggle counts from a simulation's value change dump.

The dump is read in blocks with NumPy: tens of millions of changes take seconds. Two counts come
out of one simulation with delays: every transition (glitches included), and the transitions that
are left when only the settled value at the end of each cycle counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halut.errors import CheckFailed
from halut.files import atomic_write

__all__ = ["Activity", "read_vcd"]

_BLOCK = 1 << 26


@dataclass(frozen=True)
class Activity:
    """How often nets change, over a window.

    Attributes
    ----------
    cycles : int
        Length of the window in clock periods.
    toggles : ndarray of shape (n_nets,), float
        Transitions per cycle, all of them.
    settled : ndarray of shape (n_nets,), float
        Transitions per cycle between settled values. For clock nets, all transitions.
    duty : ndarray of shape (n_nets,), float
        Share of the time at 1, in [0, 1].
    """

    cycles: int
    toggles: np.ndarray
    settled: np.ndarray
    duty: np.ndarray

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
    n_nets : int
    period_ps : int
        Clock period. The dump begins 1 ps before a rising clock edge.
    cycles : int
        Periods to count; later changes are ignored.
    clock_nets : ndarray of int
        Nets of the clock network, for which every transition is meant.

    Returns
    -------
    Activity

    Raises
    ------
    CheckFailed
        When the dump is cut off or a counted net is never known.
    """
    nets_of: dict[int, list[int]] = {}
    header = 0
    scale = 0
    with path.open("rb") as stream:
        depth = 0
        for line in stream:
            header += len(line)
            text = line.decode(errors="replace").strip()
            if text.startswith("$scope"):
                depth += 1
            elif text.startswith("$upscope"):
                depth -= 1
            elif text.startswith("$var"):
                parts = text.split()
                match = re.fullmatch(r"n(\d+)", parts[4])
                if match and parts[2] == "1" and int(match[1]) < n_nets:
                    number = 0
                    for character in parts[3].encode():
                        number = number * 128 + character
                    nets_of.setdefault(number, []).append(int(match[1]))
            elif re.search(r"\b(\d+)\s*(ps|ns|fs)\b", text):
                found = re.search(r"\b(\d+)\s*(ps|ns|fs)\b", text)
                if found and not scale:
                    scale = int(found[1]) * {"fs": 0, "ps": 1, "ns": 1000}[found[2]]
            elif text.startswith("$enddefinitions"):
                break
    if not nets_of:
        raise CheckFailed(f"an activity dump must hold the netlist's nets ({path})")
    codes = np.array(sorted(nets_of))
    # Nets that are wired together share a code: the first one is counted for all of them.
    nets = np.array([nets_of[code][0] for code in codes])
    scale = scale or 1

    value = np.full(n_nets, -1, np.int8)
    last_time = np.zeros(n_nets)
    high = np.zeros(n_nets)
    toggles = np.zeros(n_nets, np.int64)
    settled = np.zeros(n_nets, np.int64)
    # Settled value at the end of the cycle before the one that a net last changed in.
    base = np.full(n_nets, -1, np.int8)
    base_cycle = np.full(n_nets, -1, np.int64)
    begin = None
    end = float("inf")
    now = 0
    rest = b""
    with path.open("rb") as stream:
        stream.seek(header)
        while True:
            block = stream.read(_BLOCK)
            if not block and not rest:
                break
            block = rest + block
            cut = block.rfind(b"\n") + 1
            if cut == 0 and len(block) < _BLOCK:
                cut = len(block)
            rest = block[cut:]
            data = np.frombuffer(block[:cut], np.uint8)
            if not len(data):
                break
            newline = np.flatnonzero(data == 10)
            starts = np.r_[0, newline[:-1] + 1] if len(newline) else np.zeros(1, int)
            ends = newline if len(newline) else np.array([len(data)])
            kept = ends > starts
            starts, ends = starts[kept], ends[kept]
            head = data[starts]
            # Times: "#123".
            is_time = head == ord("#")
            time_rows = np.flatnonzero(is_time)
            times = np.array(
                [int(block[starts[row] + 1 : ends[row]]) for row in time_rows], dtype=np.int64
            )
            if begin is None and len(times):
                begin = int(times[0]) * scale
                now = begin
                end = begin + cycles * period_ps
            stamps = np.r_[now, times * scale]
            time_of = stamps[np.cumsum(is_time)]
            now = int(stamps[-1])
            scalar = (
                (head == ord("0")) | (head == ord("1")) | (head == ord("x")) | (head == ord("z"))
            )
            rows = np.flatnonzero(scalar & (time_of < end))
            if len(rows):
                code = _codes(data, starts[rows] + 1, ends[rows])
                place = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
                good = codes[place] == code
                rows, place = rows[good], place[good]
                _count(
                    nets[place],
                    np.where(
                        head[rows] == ord("1"), 1, np.where(head[rows] == ord("0"), 0, -1)
                    ).astype(np.int8),
                    time_of[rows],
                    begin or 0,
                    period_ps,
                    (value, last_time, high, toggles, settled, base, base_cycle),
                )
            if begin is not None and now >= end:
                break
    if begin is None or now < end - period_ps:
        raise CheckFailed(f"an activity dump must cover {cycles} cycles ({path})")
    seen = last_time > 0
    # Close the last stretch of every net.
    high[seen & (value == 1)] += end - last_time[seen & (value == 1)]
    changed = (base_cycle >= 0) & (value >= 0) & (base >= 0) & (value != base)
    settled[changed] += 1
    unknown = np.flatnonzero(seen & (value < 0))
    if len(unknown):
        raise CheckFailed(
            f"every net must be 0 or 1 in the activity window, unlike n{unknown[0]} ({path})"
        )
    for first, *others in nets_of.values():
        for counts in (toggles, settled, high):
            counts[others] = counts[first]
    settled[clock_nets] = toggles[clock_nets]
    span = cycles * period_ps
    return Activity(cycles, toggles / cycles, settled / cycles, np.clip(high / span, 0, 1))


def _count(
    net: np.ndarray,
    new: np.ndarray,
    time: np.ndarray,
    begin: int,
    period: int,
    state: tuple[np.ndarray, ...],
) -> None:
    """Add a block of changes to the counts, in place."""
    value, last_time, high, toggles, settled, base, base_cycle = state
    initial = (time == begin) & (value[net] < 0)
    if initial.any():
        at, known = net[initial], new[initial]
        value[at], base[at], last_time[at] = known, known, begin
        net, new, time = net[~initial], new[~initial], time[~initial]
    order = np.argsort(net, kind="stable")
    net, new, time = net[order], new[order], time[order]
    first = np.r_[True, net[1:] != net[:-1]]
    last = np.r_[net[1:] != net[:-1], True]
    old = np.where(first, value[net], np.r_[np.int8(-1), new[:-1]])
    since = np.where(first, last_time[net], np.r_[0, time[:-1]])
    edge = (old >= 0) & (new >= 0) & (old != new)
    np.add.at(toggles, net[edge], 1)
    was_high = old == 1
    np.add.at(high, net[was_high], (time - since)[was_high])
    # The value before the first change of a cycle is the settled one of the cycle before.
    cycle = (time - begin - 1) // period
    before_cycle = np.where(first, base_cycle[net], np.r_[np.int64(-1), cycle[:-1]])
    opens = cycle != before_cycle
    # Net by net: what was settled when each cycle with changes began.
    rows = np.flatnonzero(opens)
    if len(rows):
        at, start = net[rows], old[rows]
        head = np.r_[True, at[1:] != at[:-1]]
        previous = np.where(head, base[at], np.r_[np.int8(-1), start[:-1]])
        moved = (previous >= 0) & (start >= 0) & (previous != start)
        np.add.at(settled, at[moved], 1)
        tail = np.r_[at[1:] != at[:-1], True]
        base[at[tail]] = start[tail]
    value[net[last]] = new[last]
    last_time[net[last]] = time[last]
    base_cycle[net[last]] = cycle[last]
