"""Builds and runs simulations: any Verilog, any cocotb module, Verilator or Icarus.

With Verilator a testbench may also be a C++ file that is compiled with the model.

A build is shared: its folder is named by a hash of everything that went into it, so the same
Verilog with the same parameters is built once, however many tests and processes want it.
``WAVES=1`` in the environment (or ``waves=True``) records the signals of a run as ``dump.vcd``
(Verilator) or ``<top>.fst`` (Icarus) in the folder of the run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
import secrets
import shutil
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halut import process
from halut.errors import CheckFailed, HalutError
from sim import hierarchy, simulators
from sim.estimate import check_size
from sim.simulators import SIMULATORS, Simulator
from sim.verilator import build_lock, cocotb_folder, shared_objects, source_files, verilate

__all__ = [
    "SIMULATORS",
    "Build",
    "RunResult",
    "SimulationFailed",
    "available_simulators",
    "build",
    "pick_simulator",
    "run",
    "run_compiled",
]

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 600.0
"""A step that takes longer than this is ended."""

_ROOT = Path(__file__).resolve().parent.parent
_TIMESCALE = ("1ns", "1ps")
_LOG_LINES = 12  # of a failing tool's output that are logged
_ERROR = re.compile(r"%Error|\b[Ee]rror:|Error\b.*:")
_WARNING = re.compile(r"%Warning|: warning:")


class SimulationFailed(CheckFailed):
    """A build or a run failed; the message names the file with the tool's output.

    The last lines of that file are logged as a warning.
    """


@dataclass(frozen=True, kw_only=True)
class Build:
    """A simulation that is ready to run.

    Attributes
    ----------
    directory : pathlib.Path
        Where it was built.
    top : str
        Its top module.
    simulator : str
        One of `SIMULATORS`.
    waves : bool
        Whether runs record their signals.
    compiled : bool
        Whether it holds a compiled testbench: `run_compiled` runs it, and `run` does not.
    """

    directory: Path
    top: str
    simulator: str
    waves: bool
    compiled: bool = False


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run in which every test passed.

    Attributes
    ----------
    tests : tuple of str
        Names of the cocotb tests that ran; at least one.
    log : str
        Everything that the simulator and the testbench printed.
    seconds : float
        Wall-clock time.
    directory : pathlib.Path or None
        Where the run's files are; None when they were removed (no waves asked for).
    """

    tests: tuple[str, ...]
    log: str
    seconds: float
    directory: Path | None


# What RTL simulation needs beside a simulator.
_PACKAGES = ("cocotb", "filelock")


def available_simulators() -> list[str]:
    """Return the simulators that can be run here, in order of preference."""
    return simulators.available(_PACKAGES)


def pick_simulator(simulator: str | None = None) -> str:
    """Return the name of the simulator to use.

    Parameters
    ----------
    simulator : str, optional
        A wish; by default the environment's ``SIM``, else the first one that is available.

    Raises
    ------
    HalutError
        When the wish is unknown or cannot be run here, or there is none at all.
    """
    return _find(simulator).name


def _find(simulator: str | None) -> Simulator:
    return simulators.find(simulator or os.environ.get("SIM") or None, packages=_PACKAGES)


def waves_wanted(waves: bool | None = None) -> bool:
    """Whether to record signals: `waves`, else what the environment's ``WAVES`` says."""
    if waves is not None:
        return waves
    return os.environ.get("WAVES", "").lower() in ("1", "true", "yes", "on")


def build(
    verilog: str,
    top: str,
    *,
    parameters: Mapping[str, int] | None = None,
    defines: Mapping[str, str] | None = None,
    simulator: str | None = None,
    waves: bool | None = None,
    strict: bool = True,
    testbench: Path | None = None,
    root: Path | str = Path("build") / "sim",
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Build:
    """Build a simulation, or find the one that was built before.

    Parameters
    ----------
    verilog : str
        The design's text: every module that is needed.
    top : str
        Name of its top module.
    parameters : mapping of str to int, optional
        Parameters of the top module.
    defines : mapping of str to str, optional
        Macros.
    simulator : str, optional
        See `pick_simulator`.
    waves : bool, optional
        Record the signals of every run; by default the environment's ``WAVES``.
    strict : bool, default True
        Lint warnings (all of them are on) fail the build. Otherwise they go to ``build.log``.
    testbench : pathlib.Path, optional
        A C++ file with `main`, for the class ``Vtop``, in place of a cocotb module. Verilator only,
        without waves.
    root : path-like, default build/sim
        Folder for the build's folder.
    timeout_s : float, default 600
        Limit in seconds.

    Raises
    ------
    SimulationFailed
        When the simulator rejects the design or takes too long.
    HalutError
        When no simulator can be run here.
    """
    found = _find(simulator)
    simulator = found.name
    waves = waves_wanted(waves)
    if testbench is not None and (simulator != "verilator" or waves):
        raise ValueError("a compiled testbench must be for Verilator, without waves")
    arguments: dict[str, Any] = {
        "hdl_toplevel": top,
        "parameters": dict(parameters or {}),
        "defines": dict(defines or {}),
        "build_args": _build_arguments(simulator, strict),
        "timescale": _TIMESCALE,
        "waves": waves,
    }
    files, blocks = {f"{top}.v": verilog}, []
    if simulator == "verilator":
        # Waves show what is inside of blocks only where there are none.
        blocks = [] if waves else hierarchy.blocks(verilog, top)
        files = source_files(verilog, top, testbench, blocks)
    content = [simulator, _version("cocotb"), found.version, found.make_flags]
    content += [json.dumps(arguments, sort_keys=True), json.dumps(files, sort_keys=True)]
    digest = hashlib.sha256("\0".join(content).encode()).hexdigest()[:12]
    kind = "-waves" if waves else "-compiled" if testbench else ""
    directory = Path(root).resolve() / f"{top}-{simulator}{kind}-{digest}"
    result = Build(
        directory=directory,
        top=top,
        simulator=simulator,
        waves=waves,
        compiled=testbench is not None,
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Whoever comes second waits for the first, and finds it done.
        with build_lock(directory, 2 * timeout_s):
            if not (directory / ".built").exists():
                check_size(verilog, top, "build its simulation", blocks)
                _build(result, found, files, arguments, strict, bool(blocks), timeout_s)
    except TimeoutError:
        raise HalutError(
            f"a build must become free within {2 * timeout_s:g} s, but another process holds it "
            f"({directory}.lock)"
        ) from None
    except OSError as error:
        raise HalutError(f"output must be writable: {error.strerror} ({directory})") from None
    return result


def _build(
    what: Build,
    simulator: Simulator,
    files: Mapping[str, str],
    arguments: dict[str, Any],
    strict: bool,
    hierarchical: bool,
    timeout_s: float,
) -> None:
    """Build in an empty folder: what an interrupted build left cannot be trusted."""
    directory = what.directory
    shutil.rmtree(directory)
    directory.mkdir()
    log.info("building %s", directory)
    start = time.monotonic()
    with simulators.plain_folder(directory) as place:
        for name, text in files.items():
            (place / name).write_text(text)
        sources = [str(place / name) for name in files]
        arguments |= {"sources": sources, "build_dir": str(place)}
        build_output = place / "build.log"
        if simulator.name == "verilator":
            with shared_objects(simulator, arguments, place, directory.parent):
                status = verilate(
                    simulator,
                    arguments,
                    build_output,
                    compiled=what.compiled,
                    hierarchical=hierarchical,
                    timeout_s=timeout_s,
                )
        else:
            status = _launch(simulator, "build", arguments, {}, build_output, timeout_s)
    build_log = directory / "build.log"
    output = build_log.read_text(errors="replace")
    # Icarus has no switch that turns warnings into errors.
    warned = strict and simulator.name == "icarus" and ": warning:" in output
    if status is None or status != 0 or warned:
        how = f"ended after {timeout_s:g} s" if status is None else "failed"
        raise _failed(f"build of {what.top} with {simulator.name} {how}", build_log)
    log.info("built %s in %.1f s", directory.name, time.monotonic() - start)
    (directory / ".built").touch()


def run(
    what: Build,
    module: str,
    *,
    testcase: str | Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    seed: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> RunResult:
    """Run the cocotb tests of a module on a build.

    Parameters
    ----------
    what : Build
        What to run.
    module : str
        Importable name of the module that holds the cocotb tests.
    testcase : str or sequence of str, optional
        Names of the tests to run, each with all of its parameters; all tests by default.
    env : mapping of str to str, optional
        Environment of the testbench, in addition to the present one.
    seed : int, optional
        Seed of cocotb and of Python's generator; by default the environment's
        ``COCOTB_RANDOM_SEED``, else 1. It is printed with a failure.
    timeout_s : float, default 600
        Limit in seconds.

    Raises
    ------
    SimulationFailed
        When a test failed, none ran, the simulator crashed or took too long. The run's folder
        is kept then, and named in the message.
    """
    seed = _seed(seed)
    directory = _run_folder(what, module.rpartition(".")[2])
    results = directory / "results.xml"
    arguments: dict[str, Any] = {
        "test_module": module,
        "hdl_toplevel": what.top,
        "hdl_toplevel_lang": "verilog",
        "test_filter": _filter([testcase] if isinstance(testcase, str) else testcase),
        "seed": seed,
        "build_dir": str(what.directory),
        "test_dir": str(directory),
        "results_xml": str(results),
        "waves": what.waves,
        "plusargs": _run_arguments(what, seed),
    }
    run_log = directory / "run.log"
    start = time.monotonic()
    simulator = simulators.find(what.simulator, packages=_PACKAGES)
    status = _launch(simulator, "test", arguments, env or {}, run_log, timeout_s)
    seconds = time.monotonic() - start
    passed, failed = _read_results(results)
    where = f"{module} on {what.top} ({what.simulator}, seed {seed})"
    if status is None:
        raise _failed(f"{where}: ended after {timeout_s:g} s", run_log)
    if failed:
        name, reason = failed[0]
        count = f"{len(failed)} of {len(failed) + len(passed)} tests failed"
        raise _failed(f"{where}: {count}; {name}", run_log, reason)
    if status != 0:
        raise _failed(f"{where}: the simulator failed", run_log)
    if not passed:
        raise _failed(f"{where}: no test ran", run_log)
    text = run_log.read_text(errors="replace")
    if what.waves:
        log.info("waves in %s", directory)
        return RunResult(tests=tuple(passed), log=text, seconds=seconds, directory=directory)
    shutil.rmtree(directory, ignore_errors=True)
    return RunResult(tests=tuple(passed), log=text, seconds=seconds, directory=None)


def run_compiled(
    what: Build,
    arguments: Sequence[str],
    *,
    seed: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> RunResult:
    """Run the compiled testbench of a build.

    Parameters
    ----------
    what : Build
        One with `compiled`.
    arguments : sequence of str
        The testbench's command line.
    seed : int, optional
        Seed of the values that nothing resets; see `run`.
    timeout_s : float, default 600
        Limit in seconds.

    Raises
    ------
    SimulationFailed
        When it ended with another status than 0, or took too long; the message holds the line
        ``error: ...`` that it printed.
    """
    seed = _seed(seed)
    directory = _run_folder(what, "compiled")
    run_log = directory / "run.log"
    command = [str(what.directory / "Vtop"), *arguments, *_run_arguments(what, seed)]
    done = process.run(command, log=run_log, cwd=directory, timeout_s=timeout_s)
    where = f"testbench on {what.top} ({what.simulator}, seed {seed})"
    if done.status is None:
        raise _failed(f"{where}: ended after {timeout_s:g} s", run_log)
    if done.status != 0:
        raise _failed(f"{where}: failed", run_log)
    text = run_log.read_text(errors="replace")
    shutil.rmtree(directory, ignore_errors=True)
    return RunResult(tests=(), log=text, seconds=done.seconds, directory=None)


def _seed(seed: int | None) -> int:
    if seed is not None:
        return seed
    text = os.environ.get("COCOTB_RANDOM_SEED", "1")
    if not text.isdecimal():
        raise HalutError(f"COCOTB_RANDOM_SEED must be an integer from 0, not {text!r}")
    return int(text)


def _run_folder(what: Build, name: str) -> Path:
    directory = what.directory / "runs" / f"{name}-{secrets.token_hex(4)}"
    directory.mkdir(parents=True)
    return directory


def _filter(names: Sequence[str] | None) -> str | None:
    """Return cocotb's filter for whole names: it would take the ending of one."""
    if names is None:
        return None
    return r"\.(" + "|".join(re.escape(name) for name in names) + ")(/.*)?$"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _build_arguments(simulator: str, strict: bool) -> list[str]:
    if simulator == "icarus":
        # Clocks and latches do not need per-statement timescales, and the top gets one here.
        return ["-Wall", "-Wno-timescale"]
    # Unknown and unreset values are drawn at random in every run ("unique", `_run_arguments`).
    # UNOPTFLAT is about speed: one bit of a vector made from another bit of it is "circular".
    return [
        "-Wall",
        "-Wno-UNOPTFLAT",
        *([] if strict else ["-Wno-fatal"]),
        # One file is compiled faster than several that each read Verilator's headers.
        "--output-split", "0",
        "--x-assign", "unique",
        "--x-initial", "unique",
    ]  # fmt: skip


def _run_arguments(what: Build, seed: int) -> list[str]:
    if what.simulator == "icarus":
        # Runs share the build's folder, and write their waves in their own.
        return [f"+dumpfile_path={what.top}.fst"] if what.waves else []
    return ["+verilator+rand+reset+2", f"+verilator+seed+{1 + seed % (2**31 - 1)}"]


def _launch(
    simulator: Simulator,
    step: str,
    arguments: Mapping[str, Any],
    extra: Mapping[str, str],
    output: Path,
    timeout_s: float,
) -> int | None:
    """Run one step in a child process; return its exit status, or None after the limit."""
    what = {"simulator": simulator.name, "step": step, "arguments": arguments}
    if simulator.name == "verilator":
        what["cocotb"] = str(cocotb_folder())
    job = output.with_suffix(".json")
    job.write_text(json.dumps(what))
    env = simulator.environment()
    # pytest's variable makes cocotb's runner end the process; WAVES would override the argument.
    for name in ("PYTEST_CURRENT_TEST", "WAVES", "GUI", "COCOTB_TEST_FILTER"):
        env.pop(name, None)
    env["PYTHONPATH"] = os.pathsep.join(
        [str(_ROOT), *([env["PYTHONPATH"]] if env.get("PYTHONPATH") else [])]
    )
    env |= extra
    command = [sys.executable, "-m", "sim.launch", str(job)]
    return process.run(command, log=output, cwd=output.parent, env=env, timeout_s=timeout_s).status


def _read_results(path: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the names of the tests that passed, and (name, reason) of those that failed."""
    passed: list[str] = []
    failed: list[tuple[str, str]] = []
    if not path.exists():
        return passed, failed
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        return passed, [("results", f"{path.name} is damaged: {error}")]
    for case in root.iter("testcase"):
        name = case.get("name", "?")
        bad = case.find("failure")
        bad = case.find("error") if bad is None else bad
        if bad is not None:
            reason = bad.get("message") or bad.get("error_msg") or bad.text or "failed"
            failed.append((name, reason.strip()))
        elif case.find("skipped") is None:
            passed.append(name)
    return passed, failed


def _failed(message: str, output: Path, reason: str = "") -> SimulationFailed:
    """Log the end of a tool's output; return the error, in one line."""
    lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.search(line) and "Exiting due to" not in line]
    errors = [line for line in lines if _WARNING.search(line)] + errors
    log.warning("last lines of %s:\n  %s", output, "\n  ".join(lines[-_LOG_LINES:]))
    reason = reason or (errors[0] if errors else lines[-1] if lines else "no output")
    return SimulationFailed(f"{message}: {' '.join(reason.split())} ({output})")
