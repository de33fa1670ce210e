"""Netlist simulation: cells, testbench, and every output compared with the exact model."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from flow.cells.library import Library
from flow.designs.design import Workload
from flow.netlist.netlist import Netlist
from flow.simulation.cell_models import cell_delays, simulation_netlist
from flow.simulation.testbench import check_answers, testbench
from flow.timing.analysis import Timing
from flow.timing.constraints import clock_ps
from flow.tools import Tool, run_tool, tail
from halut.errors import CheckFailed
from halut.files import write_text
from sim.simulators import plain_folder

__all__ = ["NetlistRun", "run_netlist"]


@dataclass(frozen=True)
class NetlistRun:
    """Outcome of a simulation whose outputs were all right."""

    answers: int  #: Output transfers compared with the exact model.
    cycles: int
    started: int  #: Cycle of the first input transfer.
    #: Cycle of every input and output transfer.
    input_cycles: tuple[int, ...]
    answer_cycles: tuple[int, ...]
    dump: Path | None
    with_delays: bool


def _compile(simulator: Tool, folder: Path, dump: bool) -> Tool:
    """Compile ``bench.v`` and ``dut.v``; return what runs them."""
    log = folder / "compile.log"
    if simulator.name == "icarus":
        run_tool(simulator, ["-g2005", "-o", "bench.vvp", "bench.v", "dut.v"], log, cwd=folder)
        vvp = str(Path(simulator.command[0]).with_name("vvp"))
        return replace(simulator, name="vvp", command=(vvp, "-n", "bench.vvp"))
    program = folder / "obj"
    shutil.rmtree(program, ignore_errors=True)
    program.mkdir()
    with plain_folder(program) as place:
        for name in ("bench.v", "dut.v"):
            shutil.copy(folder / name, place / name)
        run_tool(
            simulator,
            ["--binary", "--timing", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-O1",
             *(["--trace-vcd"] if dump else []),
             "--top-module", "halut_bench", "-Mdir", ".", "-j", "2",
             "-CFLAGS", "-O0 -std=gnu++20", "bench.v", "dut.v"],
            log, cwd=place,
        )  # fmt: skip
    return Tool("the netlist simulation", (str(program / "Vhalut_bench"),), simulator.version)


def run_netlist(
    simulator: Tool,
    netlist: Netlist,
    library: Library,
    timing: Timing | None,
    workload: Workload,
    folder: Path,
    *,
    clock: str,
    reset: str,
    period_ns: float,
    warm_up: int,
    window: int,
    dump: bool = True,
) -> NetlistRun:
    """Simulate a netlist, check every output, and leave a dump of the window.

    Raises
    ------
    CheckFailed
        When an output differs from the model's, or the simulator fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    timed = simulator.name == "icarus" and timing is not None
    delays = cell_delays(timing) if timed and timing is not None else None
    period_ps = clock_ps(period_ns)
    bench, files = testbench(netlist, workload, clock, reset, period_ps, warm_up, window, dump)
    files["bench.v"] = bench
    files["dut.v"] = simulation_netlist(netlist, library, delays, workload.seed)
    for name in ("answers.txt", "activity.vcd"):
        (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        write_text(folder / name, text)
    executable = _compile(simulator, folder, dump)
    run_tool(executable, [], folder / "simulate.log", cwd=folder)
    answers = folder / "answers.txt"
    if not answers.is_file():
        raise CheckFailed(
            f"the netlist simulation must write its answers: {tail(folder / 'simulate.log', 4)}"
        )
    started, cycles, inputs, when = check_answers(answers.read_text(), workload.outputs, answers)
    vcd = folder / "activity.vcd"
    return NetlistRun(
        answers=len(when),
        cycles=cycles,
        started=started,
        input_cycles=inputs,
        answer_cycles=when,
        dump=vcd if vcd.is_file() else None,
        with_delays=timed,
    )
