"""``python -m flow sweep``: learn, estimate, prune and synthesise every point of a space.

Points are independent tasks, run in this process or on a Dask cluster. What a task needs is sent
with it and what it finds is sent back, so that workers share no files with this process. Every
finished point is one small file, named after everything that it depends on: a run that was ended
in any way goes on where it stopped, and spaces share what they have in common. The results of a
space are one Parquet file, made from those files.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flow.cells.platform import Platform
from flow.cells.platform_file import read_platform
from flow.run.sources import sources_hash
from flow.search.cluster import (
    add_cluster,
    check_cluster,
    connected,
    execute,
    in_words,
    progress,
)
from flow.search.keys import learned_key, netlist_key, point_key
from flow.search.learning import learn_all
from flow.search.model import shipped_model
from flow.search.points import Job, Record, Row, measure_job
from flow.search.prune import prune
from flow.search.results import model_errors, results_table, write_results
from flow.search.space import BUILD, Data, Space, default_results
from halut.cli import Parser
from halut.errors import HalutError

__all__ = ["Sweep", "main", "quiet_flow"]

log = logging.getLogger(__name__)

_ACTIVITY_ROWS = 1024
"""Test rows that are sent with a point for its simulation, repeated as often as needed."""


class Sweep:
    """A space, its data, and the folder of finished points.

    Parameters
    ----------
    build : Path
        Folder of all products.
    data : Data, optional
        Instead of the space's own.
    """

    def __init__(self, space: Space, build: Path, data: Data | None = None):
        self.space = space
        self.build = build
        self.data = space.load_data() if data is None else data
        self.rows = [
            Row(point=point, status="skipped" if point.config is None else "pending",
                message=point.skipped)
            for point in space.points(self.data)
        ]  # fmt: skip
        self._platforms = {
            name: read_platform(name) for name in dict.fromkeys(r.point.platform for r in self.rows)
        }
        for row in self.rows:
            platform = self._platform(row)
            if row.point.corner is not None and row.status == "pending":
                if platform.has_library:
                    platform.corner(row.point.corner)
                else:
                    raise HalutError(
                        f"corner must be absent on {platform.name}, not {row.point.corner!r}"
                    )

    def _platform(self, row: Row) -> Platform:
        return self._platforms[row.point.platform]

    def prepare(self, client: Any = None) -> None:
        """Learn, estimate, and find what is finished already."""
        valid = [(row, row.point.config) for row in self.rows if row.point.config is not None]
        learning = self.space.learning
        found = {}
        if self.data is not None:
            configs = [config for _, config in valid]
            found = learn_all(configs, self.data, learning, self.build / "learned", client)
        for row, config in valid:
            learned = None
            if self.data is not None:
                learned = learned_key(config, self.data, learning)
                result = found[learned]
                if isinstance(result, str):
                    row.status, row.message = "failed", result
                else:
                    row.learned = result
            self._estimate(row)
            row.key = point_key(row.point, self._platform(row), self.space.seed, learned)
            record = Record.read(self._record_path(row.key))
            if record is not None and row.status == "pending":
                row.take(record)

    def _estimate(self, row: Row) -> None:
        platform = self._platform(row)
        model = shipped_model(platform.name)
        corner = row.point.corner or platform.default_corner
        if model is None or model.conditions.get("corner") != corner or row.point.config is None:
            return
        try:
            row.estimate, row.model = model.estimate(row.point.config), model
        except HalutError as error:
            log.debug("no estimate: %s", error)

    def _record_path(self, key: str) -> Path:
        return self.build / "points" / f"{key}.json"

    def prune(self) -> None:
        """Mark points that are not worth their synthesis, as the space says."""
        if self.space.prune is not None:
            prune(self.rows, self.space.prune, self.data is not None)

    def run(
        self, client: Any = None, keep: bool = False, rows: Sequence[Row] | None = None
    ) -> None:
        """Measure what is pending, and try again what failed in the flow.

        Parameters
        ----------
        client : distributed.Client or None
            None: in this process.
        keep : bool
            Keep the netlists and logs of measured points.
        rows : sequence of Row
            Only these; all when None.
        """
        chains: dict[str, dict[str, list[Row]]] = {}
        for row in self.rows if rows is None else rows:
            if row.status == "pending" or (row.status == "failed" and row.record):
                folder = f"work/{netlist_key(row.point, self._platform(row))}"
                chains.setdefault(folder, {}).setdefault(row.key, []).append(row)
        total = sum(len(chain) for chain in chains.values())
        done = execute(measure_job, [self._jobs(*item, keep) for item in chains.items()], client)
        start = time.monotonic()
        for number, (job, found) in enumerate(progress(done, total, "points"), 1):
            if isinstance(found, BaseException):
                found = Record(key=job.key, status="failed", message=in_words(found))
            record = replace(found, code=sources_hash())
            record.write(self._record_path(job.key))
            for row in chains[job.folder][job.key]:
                row.take(record)
            if not sys.stderr.isatty() or record.status == "failed":
                log.info(
                    "[%d/%d, %.0f s] %s, %s %g ns: %s",
                    number, total, time.monotonic() - start, job.point.config.slug,
                    job.point.platform, job.point.clock_ns,
                    record.message or record.status,
                )  # fmt: skip

    def _jobs(self, folder: str, chain: Mapping[str, Sequence[Row]], keep: bool) -> list[Job]:
        jobs = []
        for number, (key, (row, *_)) in enumerate(chain.items(), 1):
            program = words = None
            if row.learned is not None and self.data is not None:
                program = row.learned.program
                words = program.input_words(self.data.test[:_ACTIVITY_ROWS])
            jobs.append(
                Job(key=key, point=row.point, seed=self.space.seed, program=program, words=words,
                    build=str(self.build), folder=folder, last=number == len(chain), keep=keep)
            )  # fmt: skip
        return jobs

    @property
    def counts(self) -> dict[str, int]:
        """Points by status."""
        return dict(sorted(Counter(row.status for row in self.rows).items()))

    def table(self) -> Any:
        """All rows but pending ones as a `pyarrow.Table`, in the order of the space."""
        return results_table(self.rows, self.space, self.data, self._platforms)

    def write(self, path: Path) -> None:
        """Write `table` as Parquet."""
        write_results(self.table(), path)


def quiet_flow(verbose: bool) -> None:
    """Log lines of points, and those of the flow's steps only when asked for."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if verbose:
        logging.getLogger("flow").setLevel(logging.DEBUG)
        return
    for name in ("flow.run", "halut.matmul", "distributed"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow sweep",
        description="Learn, estimate and synthesise every combination of a space; results in one "
        "Parquet file. Points that the analytic model finds hopeless are pruned. What is finished "
        "is never done again; what failed is tried again.",
        epilog="Exit status: 0 done, 1 some points failed, 2 wrong input or something missing.",
    )
    add = parser.add_argument
    add("space", metavar="SPACE", help="space to search (.yaml)")
    add_cluster(parser)
    add("--collect", action="store_true", help="measure nothing: write what is finished")
    add("--no-prune", action="store_true", help="measure every valid point")
    add("--keep", action="store_true", help="keep netlists and logs of measured points")
    add("--build", default=str(BUILD), metavar="DIR", help="folder of all products")
    add("-o", "--output", metavar="FILE",
        help="results (default: <build>/<name of the space>/results.parquet)")  # fmt: skip
    add("-v", "--verbose", action="store_true", help="say more")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m flow sweep``; returns the exit status."""
    arguments = _parser().parse_args(argv)
    check_cluster(arguments)
    if arguments.collect and (arguments.scheduler is not None or arguments.workers):
        raise HalutError("--collect must not be given with --scheduler or --workers")
    space = Space.from_yaml(arguments.space)
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise HalutError(
            "pyarrow must be installed for the results: pip install -e .[flow]"
        ) from None
    quiet_flow(arguments.verbose)
    build = Path(arguments.build)
    path = Path(arguments.output) if arguments.output else default_results(space, build)
    start = time.monotonic()
    sweep = Sweep(space, build)
    with connected(arguments.scheduler, arguments.workers) as client:
        sweep.prepare(client)
        if not arguments.no_prune:
            sweep.prune()
        log.info("%s: %s", space.name, _in_words(sweep.counts))
        if not arguments.collect:
            sweep.run(client, arguments.keep)
    sweep.write(path)
    print(f"{space.name}: {len(sweep.rows)} points: {_in_words(sweep.counts)}; "
          f"{time.monotonic() - start:.0f} s")  # fmt: skip
    off = model_errors(sweep.rows)
    if off:
        print(off)
    failed = [row for row in sweep.rows if row.status == "failed"]
    for row in failed:
        assert row.point.config is not None
        print(f"error: {row.point.config.slug}: {row.message}", file=sys.stderr)
    print(f"wrote {path}")
    return 1 if failed else 0


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())
