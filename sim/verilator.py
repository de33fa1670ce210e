"""Builds with Verilator: its files, its command, and the objects that builds share."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from halut import process
from halut.files import atomic_write
from sim import simulators
from sim.simulators import Simulator

__all__ = ["build_lock", "cocotb_folder", "shared_objects", "source_files", "verilate"]

_LONGEST_S = 600.0  # of a build


def source_files(
    verilog: str, top: str, testbench: Path | None, blocks: Sequence[str]
) -> dict[str, str]:
    """Return the text of every file that a build reads, by name."""
    design = {f"{top}.v": verilog}
    lines = [f'hier_block -module "{name}"' for name in blocks]
    if testbench is None:
        # cocotb sees the ports; lint then takes them for used.
        lines.append(f'public_flat_rw -module "{top}" -var "*"')
        return {"control.vlt": _control_file(lines)} | design
    return {"control.vlt": _control_file(lines)} | design | {testbench.name: testbench.read_text()}


def _control_file(lines: Sequence[str]) -> str:
    return "\n".join(["`verilator_config", *lines]) + "\n"


def verilate(
    simulator: Simulator,
    arguments: Mapping[str, Any],
    output: Path,
    *,
    compiled: bool,
    hierarchical: bool,
    timeout_s: float,
) -> int | None:
    """Build a model with its testbench; return the status, or None after the limit.

    cocotb's own runner cannot build blocks (`hierarchy`), so this does what it does.
    """
    place = Path(arguments["build_dir"])
    testbench = []
    if not compiled:
        cocotb = cocotb_folder()
        libraries = f"-Wl,-rpath,{cocotb}/libs -L{cocotb}/libs -lcocotbvpi_verilator"
        testbench = ["--vpi", "-o", arguments["hdl_toplevel"], "-LDFLAGS", libraries]
        testbench.append(str(cocotb / "share" / "lib" / "verilator" / "verilator.cpp"))
    command = [
        simulator.program(),
        *("--cc", "--exe", "--build", "-j", "0", "--prefix", "Vtop", "--Mdir", str(place)),
        *("--top-module", arguments["hdl_toplevel"]),
        *("--timescale", "/".join(arguments["timescale"])),
        *(["--hierarchical"] if hierarchical else []),
        *(["--trace"] if arguments["waves"] else []),
        *(f"-G{name}={value}" for name, value in arguments["parameters"].items()),
        *(f"+define+{name}={value}" for name, value in arguments["defines"].items()),
        *arguments["build_args"],
        *testbench,
        *arguments["sources"],
    ]
    env = simulator.environment()
    return process.run(command, log=output, cwd=place, env=env, timeout_s=timeout_s).status


def cocotb_folder() -> Path:
    """Return cocotb's folder; the makefile and the program that it builds name it."""
    spec = importlib.util.find_spec("cocotb")
    assert spec is not None and spec.origin is not None  # `simulators.find` has looked
    return simulators.plain_link(Path(spec.origin).parent)


def build_lock(path: Path, timeout_s: float) -> Any:
    from filelock import FileLock

    return FileLock(path.with_name(f"{path.name}.lock"), timeout=timeout_s)


@contextlib.contextmanager
def shared_objects(
    simulator: Simulator, arguments: Mapping[str, Any], directory: Path, root: Path
) -> Iterator[None]:
    """Lend the build in `directory` the parts of Verilator that do not depend on the design.

    They take ten times as long to compile as a small design. The first build makes them, and
    builds that start meanwhile wait for it; a build that needs more of them adds those. They are
    kept in `root`.
    """
    flags = [simulator.version, str(simulator.folder), simulator.make_flags, arguments["waves"]]
    flags += [os.environ.get("CXX"), os.environ.get("CXXFLAGS")]
    digest = hashlib.sha256(json.dumps(flags).encode()).hexdigest()[:12]
    shared = root / f"verilator-runtime-{digest}"
    with build_lock(shared, 2 * _LONGEST_S):
        if not (shared / "verilated.o").exists():
            yield
            _keep_objects(directory, shared)
            return
    # make takes them for done while they are newer than the makefile that Verilator writes next.
    later = time.time() + _LONGEST_S
    for file in shared.glob("verilated*.[od]"):
        shutil.copy(file, directory / file.name)
        os.utime(directory / file.name, (later, later))
    yield
    _keep_objects(directory, shared)


def _keep_objects(directory: Path, shared: Path) -> None:
    """Put the objects of Verilator's own files into `shared`, each whole, after a good build."""
    if not list(directory.glob("Vtop*.a")):
        return
    shared.mkdir(exist_ok=True)
    for file in directory.glob("verilated*.[od]"):
        if not (shared / file.name).exists():
            with atomic_write(shared / file.name) as temporary:
                shutil.copy(file, temporary)
