"""``python -m flow layouts``: placed and routed runs in one table, beside published layouts.

Beside a page are the metrics and pictures that it is made of, so that it can be made again, and its
figures used by other commands, where no layout is.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.cells.platform_file import read_platform
from flow.figures.metrics import Metrics
from flow.measure import measure
from flow.report.html.runs import metrics_of
from flow.report.table import NOTHING, Column, fixed
from flow.report.table import markdown as table_markdown
from flow.report.template import PAGES, render
from flow.run.context import periods_name, run_folder
from flow.run.options import BUILD
from flow.studies.comparison import LEFT, PUBLISHED, best_first, routed_row, table
from flow.studies.layout_list import read_layouts
from flow.studies.published import LAYOUTS, PublishedLayout
from halut.cli import Parser
from halut.errors import HalutError
from halut.files import atomic_write, write_text

__all__ = ["LayoutRun", "main", "markdown", "read_layout"]

log = logging.getLogger(__name__)

_METRICS = "metrics.json"
_PICTURES = ("placement", "clock_tree", "routing")
_SIDE = 1000  # of a picture on the page, pixels


@dataclass(frozen=True)
class LayoutRun:
    """A run that was routed."""

    title: str  #: Of its column.
    metrics: Metrics
    file: Path  #: ``metrics.json`` of a run, or a copy beside a page: ``KEY.json``.

    @property
    def key(self) -> str:
        """Name of its files beside the page."""
        source = self.metrics.provenance
        periods = periods_name(source["clock_ns"], source["target_ns"])
        return f"{source['slug']}-{source['platform']}-{periods}"

    @property
    def on_page(self) -> bool:
        """Whether its pictures lie beside its metrics, small enough for a page."""
        return self.file.name != _METRICS

    @property
    def pictures(self) -> dict[str, Path]:
        """The pictures that it has, by name."""
        paths = {
            name: self.file.with_name(f"{self.file.stem}-{name}.png")
            if self.on_page
            else self.file.parent / "pnr" / "pictures" / f"{name}.png"
            for name in _PICTURES
        }
        return {name: path for name, path in paths.items() if path.is_file()}

    def copy_to(self, folder: Path) -> None:
        """Copy metrics and pictures to the folder of a page."""
        files = {f"{self.key}-{name}.png": path for name, path in self.pictures.items()}
        for name, source in ({f"{self.key}.json": self.file} | files).items():
            target = folder / name
            if target.exists() and target.samefile(source):
                continue
            with atomic_write(target) as temporary:
                if self.on_page or source == self.file:
                    shutil.copyfile(source, temporary)
                else:
                    _thumbnail(source, temporary)


def read_layout(place: str) -> LayoutRun:
    """Read a run's folder, or its metrics beside a page.

    Raises
    ------
    HalutError
        When it is no run, or was not routed.
    """
    metrics, path = metrics_of(place)
    if metrics.values.get("detailedroute__route__drc_errors") is None:
        raise HalutError(f"a run must be routed (python -m flow pnr), not end before it ({path})")
    return LayoutRun(str(metrics.provenance["design"]), metrics, path)


@dataclass(frozen=True)
class _Row(Column):
    """A metric, and what a published layout says of it."""

    published: Callable[[PublishedLayout], float | None] = lambda _: None

    def theirs(self, layout: PublishedLayout) -> str:
        return fixed(self.published(layout), self.digits)


_ROWS = (
    _Row("finish__design__instance__area__stdcell", published=lambda it: it.area),
    _Row("halut__routed__gate_equivalents", 1, 1e-3, "kGE", lambda it: it.kge),
    _Row("finish__design__instance__count__stdcell", published=lambda it: it.cells),
    _Row("finish__design__die__area"),
    _Row("finish__design__instance__utilization", 1, 100, "%", lambda it: 100 * it.utilisation),
    _Row("synth__timing__clock__period", 2, published=lambda it: it.clock_ns),
    _Row("synth__timing__target__period", 2),
    _Row("finish__timing__setup__tns", 2, published=lambda it: it.tns_ns),
    _Row("finish__timing__setup__ws", 3),
    _Row("finish__timing__hold__ws", 3),
    _Row("halut__routed__corners__hold__ws", 3),
    _Row("finish__clock__skew__setup", 3),
    _Row("halut__routed__shortest_period", 3),
    _Row("detailedroute__route__wirelength", 1, 1e-3, "mm"),
    _Row("detailedroute__route__drc_errors"),
    _Row("detailedroute__antenna__violating__nets"),
    _Row("finish__power__total", 3),
    _Row("finish__power__internal__total", 3),
    _Row("finish__power__switching__total", 3),
    _Row("finish__power__leakage__total", 3),
    _Row("halut__routed__energy_per_look_up", 3),
    _Row("halut__routed__energy_per_mac", 4),
    _Row("halut__routed__energy_per_program_word", 3),
    _Row("halut__routed__die_area_per_mac_per_cycle", 1),
    _Row("halut__routed__transfers_checked"),
)  # fmt: skip


def _gds(run: LayoutRun) -> str:
    gds = run.metrics.notes.get("gds")
    if not isinstance(gds, dict):
        return NOTHING
    return f"{gds['size'] / 1e6:.1f} MB, sha256 {gds['sha256'][:12]}"


def _stages(metrics: Metrics) -> str:
    stages: dict[str, dict[str, Any]] = metrics.provenance.get("layout", {}).get("stages", {})
    seconds = sum(used["seconds"] for used in stages.values())
    peak = max((used["peak_mb"] for used in stages.values()), default=0)
    return f"{seconds / 60:.0f} min, {peak:,.0f} MB" if stages else NOTHING


def markdown(runs: Sequence[LayoutRun], pictures: str, command: str) -> str:
    """The page as Markdown.

    Parameters
    ----------
    pictures : str
        Folder of the pictures, as the page links it.
    command : str
        What was run.
    """
    titles = _titles(runs)
    head = [
        "",
        *titles,
        *(f"{layout.module}, published" for layout in LAYOUTS),
    ]
    lines = [head]
    lines += [
        [row.head, *(row.text(run.metrics.values) for run in runs), *map(row.theirs, LAYOUTS)]
        for row in _ROWS
    ]
    lines.insert(6, ["supply (V)",
                     *(f"{run.metrics.provenance['voltage']:g}" for run in runs),
                     *(f"{layout.voltage:g}" for layout in LAYOUTS)])  # fmt: skip
    nothing = [NOTHING] * len(LAYOUTS)
    lines.append(["GDS (`pnr/final.gds`)", *map(_gds, runs), *nothing])
    lines.append(
        ["OpenROAD, all stages (wall clock)", *(_stages(run.metrics) for run in runs), *nothing]
    )
    ours = [routed_row(run.metrics) for run in runs]
    efficiency = best_first([row for row in (*ours, *PUBLISHED) if row.tops_per_w])
    text = render(
        PAGES / "layouts.md",
        command=command,
        runs=list(zip(titles, runs, strict=True)),
        published=LAYOUTS,
        table=table_markdown(lines),
        efficiency=table_markdown(table(efficiency), LEFT),
        pictures=pictures,
    )
    return text.rstrip() + "\n"


def _titles(runs: Sequence[LayoutRun]) -> list[str]:
    """Titles of the columns: with platforms and clocks where several runs have the same."""
    titles = [run.title for run in runs]
    for more in ("{platform}", "{clock_ns:g} ns", "{target_ns:g} ns"):
        count = Counter(titles)
        titles = [
            f"{title}, {more.format_map(run.metrics.provenance)}" if count[title] > 1 else title
            for title, run in zip(titles, runs, strict=True)
        ]
    return titles


def _thumbnail(source: Path, target: Path) -> None:
    """Write a picture small enough for a page."""
    from PIL import Image

    with Image.open(source) as picture:
        small = picture.convert("RGB")
        small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        # Rare colours, such as those of the legend, keep their place in the palette.
        small.quantize(256, Image.Quantize.MAXCOVERAGE).save(target, "PNG", optimize=True)


def _made(path: Path, build: Path) -> tuple[list[str], list[str]]:
    """Place and route a list's layouts, or what is left of them.

    Returns
    -------
    folders, failed : list of str
        Runs that were routed, and names of the others.
    """
    layouts = read_layouts(path)
    folders, failed = [], []
    # Before the first, which may take hours, so that what is wrong with the last is said at once.
    work = [(layout, layout.design(path.parent), read_platform(layout.platform))
            for layout in layouts]  # fmt: skip
    owners: dict[Path, int] = {}
    for number, (layout, design, platform) in enumerate(work):
        folder = run_folder(build, design.slug, platform, layout.options())
        first = owners.setdefault(folder, number)
        if first != number:
            raise HalutError(
                f"layouts must have folders of their own, not layouts[{first}] and "
                f"layouts[{number}] both {folder} ({path})"
            )
    blocks: dict[tuple[str, str], Path] = {}  # runs with an abstract, by name and platform
    for number, (layout, design, platform) in enumerate(work, 1):
        block = blocks.get((layout.block, layout.platform))
        if layout.block and block is None:
            log.error("error: %s: its block %s was not laid out", layout.name, layout.block)
            failed.append(layout.name)
            continue
        log.info("layout %d/%d: %s", number, len(layouts), layout.name)
        try:
            options = layout.options(block=block)
            folder = measure(design, platform, options, build)[1]
            folders.append(str(folder))
            if layout.as_block:
                blocks[layout.as_block, layout.platform] = folder
        except HalutError as error:
            log.error("error: %s: %s", layout.name, error)
            failed.append(layout.name)
    return folders, failed


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow layouts",
        description="Write placed and routed runs as one table (Markdown), beside the layouts that "
        "Stella Nera's repository published, with pictures. A list of layouts is made first.",
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN",
        help="folder of a run of `python -m flow pnr`, or its metrics beside an earlier page",
    )  # fmt: skip
    parser.add_argument(
        "--list",
        metavar="FILE",
        help="place and route what this file lists (.yaml) first; finished stages of earlier runs "
        "are not done again (default: RUNs only)",
    )
    parser.add_argument(
        "--build", default=str(BUILD), metavar="DIR", help="folder for all products of the list"
    )
    parser.add_argument(
        "-o", "--output", default="build/LAYOUTS.md", metavar="FILE",
        help="page to write; metrics and pictures go to the folder of that name without the ending",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    page = Path(arguments.output)
    if page.suffix != ".md":
        raise HalutError(f"--output must end in .md, not {page.suffix or 'nothing'} ({page})")
    if not arguments.list and not arguments.runs:
        raise HalutError("runs, or a --list of layouts, must be given")
    places: list[str] = []
    failed: list[str] = []
    if arguments.list:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        places, failed = _made(Path(arguments.list), Path(arguments.build))
    runs = [read_layout(place) for place in [*places, *arguments.runs]]
    folder = page.with_suffix("")
    for key, count in Counter(run.key for run in runs).items():
        if count > 1:
            files = ", ".join(str(run.file) for run in runs if run.key == key)
            raise HalutError(
                f"runs must differ in design, platform or clock, not all be {key} ({files})"
            )
    for run in runs:
        run.copy_to(folder)
    given = [*(["--list", arguments.list] if arguments.list else []), *arguments.runs]
    command = f"python -m flow layouts {' '.join(given)} -o {arguments.output}"
    if runs:
        write_text(page, markdown(runs, folder.name, command))
        print(f"wrote {page}")
    if failed:
        print(f"error: not laid out: {', '.join(failed)}", file=sys.stderr)
        return 1
    return 0
