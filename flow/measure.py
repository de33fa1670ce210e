"""Measuring a design: the steps from Verilog to a routed layout, and the metrics of their results.

`STEPS` is the list. A step names what it needs, the files that it leaves and the type of its
result, and sees the results of what it named only.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flow.cells.platform import Platform
from flow.designs.design import Design
from flow.figures.mapped import set_mapped
from flow.figures.metrics import Metrics
from flow.figures.routed import set_routed
from flow.layout.corners import (
    Corners,
    PowerAtCorners,
    corner_files,
    power_at_corners,
    time_corners,
)
from flow.layout.products import Products, write_products
from flow.layout.routed import RoutedNetlist, read_routed, routed_piece
from flow.layout.settings import corners_there
from flow.layout.stages import LaidOut, check_layout, lay_out, no_layout
from flow.run.context import Run
from flow.run.mapping import Finished, Mapped, Proof, finish, map_design, mapped_files, prove
from flow.run.options import BUILD, RunOptions
from flow.run.power import Loaded, Summed, load, mapped_piece, sum_power
from flow.run.simulation import ROWS_ACTIVITY, Simulated, Workpiece, simulate
from flow.run.steps import Done, Results, Step, run_steps
from flow.run.timing import Timed, check_timing
from halut.files import file_hash, locked, write_text

__all__ = ["STEPS", "measure", "run_design"]


def _of_yosys(run: Run, _: Results) -> list[object]:
    """What decides about a netlist."""
    return [
        run.design.verilog_hash,
        run.design.top,
        {
            "platform": run.platform.source.read_text(),
            "corner": run.corner,
            "liberty": [file_hash(path) for path in run.liberty],
        },
        dataclasses.asdict(run.options.synth),
        run.target,
        run.tools.yosys.version,
        run.block and run.block.digest,
    ]


def _mapped(run: Run, results: Results) -> Workpiece:
    return mapped_piece(run, results[TIME].shortest_period)


def _routed(run: Run, results: Results) -> Workpiece:
    return routed_piece(run, results[LAY_OUT], results[READ])


def _sees_activity(run: Run, results: Results) -> bool:
    """Whether OpenROAD gets the activity of the mapped netlist: it cannot look into blocks."""
    return SIMULATE in results and run.block is None


MAP = Step(
    name="yosys",
    result=Mapped,
    inputs=_of_yosys,
    files=mapped_files,
    work=lambda run, _: map_design(run),
)
FINISH = Step(
    name="finish",
    result=Finished,
    needs=(MAP,),
    inputs=lambda run, _: [run.options.io_share, run.target, run.design.static],
    files=lambda run: [run.folder / "netlist.json", run.folder / "netlist.v"],
    work=lambda run, results: finish(run, results[MAP]),
)
PROVE = Step(
    name="proof",
    result=Proof,
    needs=(FINISH,),
    wanted=lambda run: run.options.prove,
    inputs=lambda run, results: [
        run.tools.yosys.version,
        run.abc.version,
        results[FINISH].adder,
        [file_hash(path) for path in run.liberty],
    ],
    depends_on=lambda run: [run.folder / "rtl.v", run.folder / "netlist.json"],
    work=lambda run, results: prove(run, results[FINISH]),
)
TIME = Step(
    name="timing",
    result=Timed,
    needs=(FINISH,),
    inputs=lambda run, _: [run.options.clock_ns, run.tools.sta and run.tools.sta.version],
    work=lambda run, _: check_timing(run),
)
SIMULATE = Step(
    name="simulate",
    result=Simulated,
    needs=(TIME,),
    wanted=lambda run: run.tools.simulator is not None,
    inputs=lambda run, _: [
        run.options.clock_ns,
        run.options.seed,
        run.options.cycles,
        run.tools.simulator and run.tools.simulator.name,
        run.tools.simulator and run.tools.simulator.version,
        # Configurations with the same unit do other work with it.
        run.design.config_hash,
        run.design.workload_key,
    ],
    files=lambda run: [run.folder / ROWS_ACTIVITY] if run.platform.has_library else [],
    work=lambda run, results: simulate(run, _mapped(run, results)),
)
POWER = Step(
    name="power",
    result=Summed,
    needs=(FINISH, TIME, SIMULATE),
    wanted=lambda run: run.platform.has_library,
    work=lambda run, results: sum_power(
        _mapped(run, results), results[SIMULATE], run.kinds(results[FINISH].clock_buffers)
    ),
)
LOAD = Step(
    name="loading",
    result=Loaded,
    needs=(TIME, POWER),
    wanted=lambda run: run.design.loading is not None,
    work=lambda run, results: load(run, _mapped(run, results)),
)
# Its stages (`flow.layout.stages`) are kept, each on its own.
LAY_OUT = Step(
    name="layout",
    result=LaidOut,
    needs=(FINISH,),
    takes=(SIMULATE,),
    wanted=lambda run: (
        run.options.layout in ("placed", "routed")
        or (run.options.layout == "auto" and not no_layout(run))
    ),
    kept=False,
    work=lambda run, results: lay_out(
        run,
        results[FINISH].clock_buffers,
        run.folder / ROWS_ACTIVITY if _sees_activity(run, results) else None,
    ),
)
READ = Step(
    name="read",
    result=RoutedNetlist,
    needs=(LAY_OUT,),
    wanted=lambda run: run.options.layout == "routed",
    kept=False,
    work=lambda run, results: read_routed(run, results[LAY_OUT]),
)
PRODUCTS = Step(
    name="products",
    result=Products,
    needs=(LAY_OUT,),
    takes=(READ,),
    kept=False,
    work=lambda run, results: write_products(run, results[LAY_OUT], results.get(READ)),
)
CORNERS = Step(
    name="corners",
    result=Corners,
    needs=(LAY_OUT, READ),
    wanted=lambda run: len(run.platform.corners) > 1,
    inputs=lambda run, _: [
        run.openroad and run.openroad.version,
        run.platform.source.read_text(),
        {name: [*map(file_hash, files)] for name, files in corners_there(run).items()},
        dataclasses.asdict(run.options.place_and_route),
    ],
    depends_on=corner_files,
    work=lambda run, results: time_corners(run, results[LAY_OUT], results[READ]),
)
# Loading comes first, so that OpenROAD's report in the folder is that of the work on rows.
LOAD_ROUTED = Step(
    name="routed loading",
    result=Loaded,
    needs=(LAY_OUT, READ, SIMULATE),
    wanted=lambda run: run.design.loading is not None,
    kept=False,
    work=lambda run, results: load(run, _routed(run, results)),
)
SIMULATE_ROUTED = Step(
    name="routed simulate",
    result=Simulated,
    needs=(LAY_OUT, READ, SIMULATE),
    kept=False,
    work=lambda run, results: simulate(run, _routed(run, results)),
)
POWER_ROUTED = Step(
    name="routed power",
    result=Summed,
    needs=(LAY_OUT, READ, SIMULATE_ROUTED),
    kept=False,
    work=lambda run, results: sum_power(
        _routed(run, results), results[SIMULATE_ROUTED], results[READ].kinds
    ),
)
POWER_AT_CORNERS = Step(
    name="power at corners",
    result=PowerAtCorners,
    needs=(LAY_OUT, READ, CORNERS, SIMULATE_ROUTED),
    kept=False,
    work=lambda run, results: power_at_corners(
        run, results[LAY_OUT], results[READ], results[CORNERS]
    ),
)

STEPS = (
    MAP, FINISH, PROVE, TIME, SIMULATE, POWER, LOAD, LAY_OUT, READ, PRODUCTS,
    CORNERS,
    LOAD_ROUTED, SIMULATE_ROUTED, POWER_ROUTED, POWER_AT_CORNERS,
)  # fmt: skip


def run_design(run: Run) -> tuple[Metrics, Done]:
    """Do the steps of a run and write ``metrics.json``; see `measure`."""
    done = run_steps(run, STEPS)
    results, metrics = done.results, Metrics()
    set_mapped(
        metrics,
        run,
        results[FINISH],
        results.get(PROVE),
        results[TIME],
        results.get(SIMULATE),
        results.get(POWER),
        results.get(LOAD),
    )
    set_routed(
        metrics,
        run,
        results.get(LAY_OUT),
        results.get(READ),
        results.get(PRODUCTS),
        results.get(CORNERS),
        results.get(LOAD_ROUTED),
        results.get(SIMULATE_ROUTED),
        results.get(POWER_ROUTED),
        results.get(POWER_AT_CORNERS),
        with_activity=_sees_activity(run, results),
    )
    metrics.provenance["seconds"] = done.seconds
    path = run.folder / "metrics.json"
    if path.is_file():
        old = path.read_text()
        write_text(run.folder / "metrics.previous.json", old)
    metrics.write(path)
    return metrics, done


def measure(
    design: Design,
    platform: Platform,
    options: RunOptions,
    build: Path = BUILD,
    cache: Path | None = None,
    folder: Path | None = None,
) -> tuple[Metrics, Path]:
    """Run a design through the flow.

    Parameters
    ----------
    build : Path
        Products go below it; see `run_folder`. A second process that wants the same folder
        waits until the first has done.
    cache : Path, optional
        Where read libraries are kept; ``<build>/cache`` when None.
    folder : Path, optional
        Where products go instead.

    Returns
    -------
    metrics : Metrics
        Also written to ``metrics.json`` in that folder; the run before it is kept as
        ``metrics.previous.json``.

    Raises
    ------
    HalutError
        When a tool or file is missing; says what and how to get it.
    CheckFailed
        When a tool fails, the netlist does not compute what the model says, or with `prove`
        differs from the RTL.
    """
    run = Run(design, platform, options, build, cache, folder)
    check_layout(run)  # before what comes first, which may take long
    with locked(run.folder):
        metrics, _ = run_design(run)
    return metrics, run.folder
