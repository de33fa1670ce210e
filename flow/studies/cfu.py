"""``python -m flow cfu``: the custom function unit beside a processor and accelerators."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flow.cells.platform import Platform
from flow.cells.platform_file import read_platform
from flow.designs.cfu import WORK, cfu, processor
from flow.designs.design import accelerator
from flow.figures.metrics import Metrics
from flow.measure import measure
from flow.report.table import Column, fixed, terminal
from flow.report.table import markdown as table_markdown
from flow.run.flags import add_run_arguments, run_options
from flow.run.options import RunOptions
from flow.run.sources import ROOT
from halut.cli import Parser
from halut.errors import HalutError
from halut.files import write_text
from rtl_gen.cfu import CfuConfig
from rtl_gen.tiled_config import load_config

__all__ = ["Row", "main", "markdown", "processor_file"]

log = logging.getLogger(__name__)

_AREA = "synth__design__instance__area__stdcell"
_COLUMNS = (Column(_AREA), Column("halut__area__gate_equivalents"),
            Column("halut__timing__shortest_period", 2))  # fmt: skip
VARIANTS = ("VexRiscv_Full", "VexRiscv_FullCfu")
"""Without and with the port for custom functions."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table."""

    name: str
    metrics: Metrics
    look_ups_per_cycle: float | None = None  #: At full rate.
    energy: float | None = None  #: Of a look-up and its addition, pJ.
    energy_per_code: float | None = None  #: pJ.


def processor_file(variant: str, folder: str | None) -> Path:
    """Find the Verilog of a variant of VexRiscv.

    Parameters
    ----------
    variant : str
        Name of the file, without its ending.
    folder : str or None
        Where it is; the installed package pythondata-cpu-vexriscv when None, or that of `make soc`.
    """
    places = [Path(folder)] if folder else []
    if not folder:
        spec = importlib.util.find_spec("pythondata_cpu_vexriscv")
        roots = [Path(spec.origin).parent] if spec is not None and spec.origin else []
        venv = Path("build") / "soc" / "venv" / "lib"
        roots += sorted(venv.glob("python3*/site-packages/pythondata_cpu_vexriscv"))
        places = [root / "verilog" for root in roots]
    for place in places:
        path = place / f"{variant}.v"
        if path.is_file():
            return path
    raise HalutError(
        f"--processor must be a folder with {variant}.v (pip install pythondata-cpu-vexriscv, or "
        f"make soc), not {folder or 'absent'}"
    )


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    return table_markdown(_table(rows))


def _table(rows: Sequence[Row]) -> list[list[str]]:
    """The table, its head first; shares are of the first row."""
    heads = [column.head for column in _COLUMNS]
    table = [["", *heads, "of the processor (%)", "look-ups per cycle", "pJ per look-up",
              "pJ per code"]]  # fmt: skip
    whole = rows[0].metrics.values[_AREA]
    for row in rows:
        values = row.metrics.values
        area = values[_AREA]
        share = 100 * area / whole if area is not None and whole else None
        table.append([
            row.name,
            *(column.text(values) for column in _COLUMNS),
            fixed(share, 1),
            fixed(row.look_ups_per_cycle),
            fixed(row.energy, 2),
            fixed(row.energy_per_code, 2),
        ])  # fmt: skip
    return table


def _unit(config: CfuConfig, platform: Platform, options: RunOptions, build: Path) -> Row:
    found = {work: measure(cfu(config, work), platform, options, build)[0] for work in WORK}
    energy = {work: found[work].values["halut__energy__per_look_up"] for work in WORK}
    return Row(
        name=f"unit, {config.n_sums} sums, entries of {config.lut_bits} bits",
        metrics=found["add"],
        look_ups_per_cycle=config.lanes,
        energy=energy["add"],
        energy_per_code=energy["encode"],
    )


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow cfu",
        description="Synthesise, time and power the custom function unit, in several sizes, beside "
        "the processor that it extends (VexRiscv, without the arrays of its caches) and "
        "accelerators.",
    )
    add = parser.add_argument
    add("--processor", metavar="DIR",
        help="folder with VexRiscv_Full.v and VexRiscv_FullCfu.v (default: the package "
        "pythondata-cpu-vexriscv, here or where make soc installs it)")  # fmt: skip
    add("--config", action="append", metavar="FILE",
        help="configuration of an accelerator beside it; may be repeated (default: "
        "configs/small.yaml and configs/stella_nera.yaml)")  # fmt: skip
    add_run_arguments(parser, platform="nangate45", defaults=RunOptions(cycles=256))
    add("-o", "--output", default="build/cfu", metavar="DIR", help="folder for all products")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    options = run_options(arguments)
    names = arguments.config or [ROOT / "configs" / f"{n}.yaml" for n in ("small", "stella_nera")]
    accelerators = [load_config(name) for name in names]
    sources = [processor_file(variant, arguments.processor) for variant in VARIANTS]
    platform = read_platform(arguments.platform)
    if platform.has_library:
        platform.liberty_files(arguments.corner)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    build = Path(arguments.output)
    rows = []
    for source in sources:
        design = processor(source.stem, source.read_text(), build / "processor" / source.stem)
        metrics, _ = measure(design, platform, replace(options, power=False), build)
        rows.append(Row(name=source.stem, metrics=metrics))
    sizes = (CfuConfig(n_sums=8), CfuConfig(n_sums=16), CfuConfig(n_sums=32),
             CfuConfig(lut_bits=4, n_sums=16), CfuConfig(lut_bits=4, n_sums=32),
             CfuConfig(lut_bits=4, n_sums=64))  # fmt: skip
    rows += [_unit(config, platform, options, build) for config in sizes]
    for config in accelerators:
        metrics, _ = measure(accelerator(config), platform, options, build)
        rows.append(
            Row(
                name=f"accelerator {config.name}",
                metrics=metrics,
                look_ups_per_cycle=config.look_ups_per_cycle,
                energy=metrics.values["halut__energy__per_look_up"],
            )
        )
    print(terminal(_table(rows)))
    page = (build / f"cfu-{platform.name}.md").resolve()
    write_text(page, markdown(rows))
    print(f"wrote {page}")
    return 0
