"""Moves items through an accelerator's streams in simulation: what goes in, what came out, when.

A run is a list of `Segment`: items that one stream sends back to back. With Verilator they are
moved by a compiled testbench (``sim/pump.cpp``), else by cocotb (`sim.benches.transfers`): when
signals are recorded, and with Icarus. Both read the same files, pause in the same cycles, check
the rules of the streams and write the same files, cycle for cycle.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.checks import one_of
from halut.errors import CheckFailed, HalutError
from rtl_gen.tiled_config import AnyConfig
from sim import runner
from sim.accelerator import port_widths
from sim.stalls import idle_limit, stalls

__all__ = ["PUMP", "Moved", "Segment", "check_settings", "move", "read_plan", "word_bytes"]

PUMP = Path(__file__).with_name("pump.cpp")
"""The compiled testbench."""

STREAMS = ("program", "input")

_PATTERNS = ("none", "gaps", "backpressure", "both")
_DRAIN_CYCLES = 8  # beside the latency: nothing may follow the last result that is due
_STALL_CYCLES = 1 << 15  # then the pauses begin again
_REPORTS = ("start", "first", "last", "stalls")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Items that one stream sends without a break, but for stalls.

    Attributes
    ----------
    stream : {"program", "input"}
    items : ndarray of shape (n_items, bytes), uint8
        At least one; each as `word_bytes` or `sim.accelerator.input_bytes` gives it.
    after_segments : int
        Segments of the other stream that must have moved before.
    after_results : int
        Output transfers that must have come before.
    wait_cycles : int
        Clock cycles that pass then.
    """

    stream: str
    items: NDArray[np.uint8]
    after_segments: int = 0
    after_results: int = 0
    wait_cycles: int = 0


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What came out, and when. Cycle 0 is the edge after which the reset is over.

    Attributes
    ----------
    data : ndarray of shape (n_transfers, bytes), uint8
        ``o_data`` of every output transfer.
    cycles, stalls : ndarray of shape (n_transfers,), int64
        Clock cycle of every output transfer; cycles that it was offered and not taken.
    program, input : tuple of dict
        For each segment of the stream: ``start``, the cycle at which it could begin, ``first``
        and ``last``, the cycles of its transfers, and ``stalls``, cycles with an offer that the
        accelerator was not ready for.
    simulator : str
    seconds : float
        Wall-clock time of the run.
    waves : pathlib.Path or None
        Folder with the recorded signals.
    """

    data: NDArray[np.uint8]
    cycles: NDArray[np.int64]
    stalls: NDArray[np.int64]
    program: tuple[dict[str, int], ...]
    input: tuple[dict[str, int], ...]
    simulator: str
    seconds: float
    waves: Path | None


def word_bytes(config: AnyConfig, image: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """Return words of the program port, (address, data), as items of a segment."""
    sizes = _size(config.program_address_bits), _size(config.program_data_bits)
    raw = b"".join(
        value.to_bytes(size, "little")
        for word in image
        for value, size in zip(word, sizes, strict=True)
    )
    return np.frombuffer(raw, dtype=np.uint8).reshape(len(image), sum(sizes))


def check_settings(stall_pattern: str, seed: int, timeout_s: float) -> None:
    """Raise `HalutError` when a stall pattern, a seed or a limit is not one."""
    one_of("stall_pattern", stall_pattern, _PATTERNS)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise HalutError(f"seed must be an integer in [0, 2**31), not {seed!r}")
    if not 0 < timeout_s < float("inf"):
        raise HalutError(f"timeout must be greater than 0 s and finite, not {timeout_s!r}")


def move(
    built: runner.Build,
    config: AnyConfig,
    segments: Sequence[Segment],
    n_due: int,
    *,
    stall_pattern: str = "none",
    program_stalls: bool = False,
    seed: int = 1,
    timeout_s: float = runner.DEFAULT_TIMEOUT_S,
) -> Moved:
    """Move all segments, and collect what comes out.

    Parameters
    ----------
    built : Build
        The accelerator, as `sim.simulation.build_accelerator` returns it.
    config : AcceleratorConfig or TiledConfig
    segments : sequence of Segment
        Each stream's in order.
    n_due : int
        Output transfers that must come.
    stall_pattern, seed
        See `sim.simulate`.
    program_stalls : bool
        Whether the source of program words pauses, too.
    timeout_s : float
        Limit in seconds.

    Raises
    ------
    SimulationFailed
        When the accelerator breaks a rule of its streams, or stops before everything is out.
    CheckFailed
        When more transfers come, or their ``o_index`` and ``o_last`` are wrong.
    """
    folder = Path(tempfile.mkdtemp(prefix="transfers-", dir=built.directory))
    try:
        _write(folder, config, segments, n_due, stall_pattern, program_stalls, seed)
        if built.compiled:
            run = runner.run_compiled(built, [str(folder)], seed=seed, timeout_s=timeout_s)
        else:
            env = {"HALUT_TRANSFERS": str(folder)}
            run = runner.run(
                built, "sim.benches.transfers", env=env, seed=seed, timeout_s=timeout_s
            )
        data = np.fromfile(folder / "output.bin", dtype=np.uint8)
        marks = np.fromfile(folder / "marks.bin", dtype=np.int64).reshape(-1, 4)
        reports = np.fromfile(folder / "segments.bin", dtype=np.int64).reshape(-1, 4)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _check_marks(config, marks[:, 2], marks[:, 3], n_due)
    named = [dict(zip(_REPORTS, report, strict=True)) for report in reports.tolist()]
    n_program = sum(segment.stream == "program" for segment in segments)
    return Moved(
        data=data.reshape(len(marks), -1),
        cycles=marks[:, 0],
        stalls=marks[:, 1],
        program=tuple(named[:n_program]),
        input=tuple(named[n_program:]),
        simulator=built.simulator,
        seconds=run.seconds,
        waves=run.directory,
    )


def _check_marks(
    config: AnyConfig, index: NDArray[np.int64], last: NDArray[np.int64], n_due: int
) -> None:
    if len(index) != n_due:
        raise CheckFailed(f"{n_due} output transfers must come, not {len(index)}")
    beats = np.arange(n_due) % config.n_beats
    for name, given, wanted in (
        ("o_index", index, beats),
        ("o_last", last, (beats == config.n_beats - 1).astype(np.int64)),
    ):
        wrong = np.flatnonzero(given != wanted)
        if len(wrong):
            k = int(wrong[0])
            raise CheckFailed(f"{name} of output transfer {k} must be {wanted[k]}, not {given[k]}")


def _size(bits: int) -> int:
    return (bits + 7) // 8


def _write(
    folder: Path,
    config: AnyConfig,
    segments: Sequence[Segment],
    n_due: int,
    pattern: str,
    program_stalls: bool,
    seed: int,
) -> None:
    widths = port_widths(config)
    numbers: list[Iterable[int]] = [
        (widths[name] for name in ("program_address", "program_data", "i_data", "o_data")),
        (idle_limit(config), _DRAIN_CYCLES + config.latency_cycles),
        (n_due, len(segments)),
    ]
    numbers += [
        (STREAMS.index(s.stream), len(s.items), s.after_segments, s.after_results, s.wait_cycles)
        for s in segments
    ]
    text = "".join(" ".join(map(str, line)) + "\n" for line in numbers)
    (folder / "plan.txt").write_text(text)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    for stream in STREAMS:
        with open(folder / f"{stream}.bin", "wb") as file:
            for segment in segments:
                if segment.stream == stream:
                    file.write(np.ascontiguousarray(segment.items).tobytes())
    pauses = {
        "program": _stalls(pattern if program_stalls else "none", "source", seed + 1),
        "input": _stalls(pattern, "source", seed),
        "output": _stalls(pattern, "sink", seed),
    }
    for stream, cycles in pauses.items():
        (folder / f"{stream}_stalls.bin").write_bytes(cycles)


def _stalls(pattern: str, side: str, seed: int) -> bytes:
    if pattern == "none":
        return b"\0"
    return bytes(itertools.islice(stalls(pattern, side, seed), _STALL_CYCLES))


def read_plan(folder: Path) -> dict[str, Any]:
    """Return what ``plan.txt`` and the files beside it hold, for `sim.benches.transfers`."""
    numbers = [int(word) for word in (folder / "plan.txt").read_text().split()]
    address, data, row, _, stuck, drain, n_due, n_segments = numbers[:8]
    table = np.array(numbers[8:]).reshape(n_segments, 5).tolist()
    sizes = {"program": (_size(address), _size(data)), "input": (_size(row),)}
    items: dict[str, list[Any]] = {}
    for stream, parts in sizes.items():
        raw = (folder / f"{stream}.bin").read_bytes()
        ends = list(itertools.accumulate(parts, initial=0))
        items[stream] = [
            tuple(
                int.from_bytes(raw[at + low : at + high], "little")
                for low, high in itertools.pairwise(ends)
            )
            for at in range(0, len(raw), ends[-1])
        ]
    pauses = {
        stream: itertools.cycle(map(bool, (folder / f"{stream}_stalls.bin").read_bytes()))
        for stream in (*STREAMS, "output")
    }
    return {
        "stuck_cycles": stuck,
        "drain_cycles": drain,
        "n_due": n_due,
        "items": items,
        "pauses": pauses,
        "segments": {
            stream: [row[1:] for row in table if STREAMS[row[0]] == stream] for stream in STREAMS
        },
    }
