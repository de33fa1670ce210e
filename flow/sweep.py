"""``python -m flow sweep``: learn, estimate, prune and synthesise every point of a space.

Points are independent tasks, run in this process or on a Dask cluster. What a task needs is sent
with it and what it finds is sent back, so that workers share no files with this process. Every
finished point is one small file, named after everything that it depends on: a run that was ended
in any way goes on where it stopped, and spaces share what they have in common. The results of a
space are one Parquet file, made from those files.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import platform as machine
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from flow.design import accelerator
from flow.metrics import METRICS
from flow.model import Estimate, Model, shipped_model
from flow.platform import read_platform
from flow.run import RunOptions, measure
from flow.space import BUILD, Data, Prune, Space, SpacePoint, default_results
from flow.stages import code_hash
from halut import golden
from halut.cli import Parser
from halut.errors import HalutError
from halut.files import atomic_write, locked
from halut.matmul import HalutMatmul
from halut.problems import relative_error
from halut.program import Program
from rtl_gen.config import AcceleratorConfig

__all__ = ["VOLATILE", "Learned", "Row", "Sweep", "connected", "main", "sources_hash"]

log = logging.getLogger(__name__)

VOLATILE = ("provenance__date", "provenance__seconds", "provenance__host")
"""Columns that differ from one run to the next; all others are the same."""

_RECORD_VERSION = 1
_ACTIVITY_ROWS = 1024
"""Test rows that are sent with a point for its simulation, repeated as often as needed."""


@cache
def sources_hash() -> str:
    """Hash of all code that a point's result depends on."""
    digest = hashlib.sha256(code_hash().encode())
    root = Path(__file__).parents[1]
    layout = [f"flow/{name}.py" for name in ("pnr", "openroad", "layout", "gds", "lefdef")]
    for pattern in ("halut/*.py", "rtl_gen/*.py", "sim/*.py", "flow/tcl/*", *layout):
        for path in sorted(root.glob(pattern)):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


# Learning


@dataclass(frozen=True, order=True)
class _Variant:
    """What of a configuration changes the results of what was learned."""

    input_format: str
    lut_bits: int
    lut_format: str
    acc_bits: int | None
    overflow: str | None
    parallel_codebooks: int

    @classmethod
    def of(cls, config: AcceleratorConfig) -> _Variant:
        # Exact sums are the same in any order and width.
        ordered = config.overflow == "saturate" or config.lut_format == "fp16"
        return cls(
            config.input_format,
            config.lut_bits,
            config.lut_format,
            config.acc_bits if config.overflow else None,
            config.overflow,
            config.parallel_codebooks if ordered else 1,
        )


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What learning gave for one configuration's numbers.

    Attributes
    ----------
    program : Program
    error : float
        ``|AB - Y|**2 / |AB|**2`` of the bit-exact model on the test rows.
    accuracy : float or None
        Share of test rows whose largest column is the labelled one; None without labels.
    """

    program: Program
    error: float
    accuracy: float | None

    def save(self, path: Path) -> None:
        """Write ``<path>.npz``, then ``<path>.json``."""
        self.program.save(path.with_suffix(".npz"))
        with atomic_write(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps({"error": self.error, "accuracy": self.accuracy}))

    @classmethod
    def load(cls, path: Path) -> Learned | None:
        """What `save` wrote; None when it is not there, or not whole."""
        try:
            found = json.loads(path.with_suffix(".json").read_text())
            program = Program.load(path.with_suffix(".npz"))
            return cls(program=program, error=found["error"], accuracy=found["accuracy"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class _LearnJob:
    C: int
    K: int
    learning: Mapping[str, Any]
    variants: tuple[_Variant, ...]


def _learn(job: _LearnJob, data: Data) -> dict[_Variant, Learned] | str:
    """Learn once, quantise and judge per variant; or why that failed."""
    try:
        multiplier = HalutMatmul(C=job.C, K=job.K, **job.learning).learn_offline(data.train, data.B)
        exact = data.test.astype(np.float64) @ data.B
        found = {}
        for v in job.variants:
            program = multiplier.program(v.input_format, v.lut_bits, lut_format=v.lut_format)
            sums = golden.matmul(
                program, program.input_words(data.test), v.acc_bits, v.overflow,
                v.parallel_codebooks,
            )  # fmt: skip
            product = golden.dequantize(program, sums)
            accuracy = None
            if data.labels is not None:
                accuracy = float(np.mean(product.argmax(axis=1) == data.labels))
            error = relative_error(product, exact)
            found[v] = Learned(program=program, error=error, accuracy=accuracy)
        return found
    except Exception as error:
        return _words(error)


# Measuring


@dataclass(frozen=True, kw_only=True)
class _Job:
    """All that a worker needs for one point."""

    key: str
    config: AcceleratorConfig
    platform: str
    corner: str | None
    clock_ns: float
    target_ns: float
    layout: str
    seed: int
    program: Program | None
    words: Any
    build: str
    folder: str
    last: bool
    keep: bool


def _words(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, HalutError) else f"{type(error).__name__}: {text}"


def _measure(job: _Job) -> dict[str, Any]:
    """Synthesise, time and power a point; a failure is a result, too."""
    start = time.monotonic()
    record: dict[str, Any] = {"version": _RECORD_VERSION, "key": job.key}
    build = Path(job.build)
    try:
        design = accelerator(job.config, job.program, job.words)
        options = RunOptions(
            clock_ns=job.clock_ns, target_ns=job.target_ns, corner=job.corner, seed=job.seed,
            layout=job.layout,
        )  # fmt: skip
        # Points of one folder share a netlist; they differ in the clock.
        place = build / job.folder
        platform = read_platform(job.platform)
        with locked(place):
            metrics, _ = measure(
                design, platform, options, build, build / "cache", place / platform.name
            )
            if job.last and not job.keep:
                shutil.rmtree(place, ignore_errors=True)
        record |= {
            "status": "measured",
            "metrics": metrics.values,
            "reasons": metrics.reasons,
            "provenance": metrics.provenance,
        }
    except Exception as error:
        log.debug("point %s", job.key, exc_info=True)
        record |= {"status": "failed", "message": _words(error)}
    record["seconds"] = round(time.monotonic() - start, 2)
    record["host"] = machine.node()
    return record


# Where tasks run


@contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[Any]:
    """A Dask client of a running cluster, or of one of `workers` local processes; or None.

    Parameters
    ----------
    scheduler : str or None
        Address of a scheduler.
    workers : int
        Without a scheduler: local processes of one thread each; 0 for no cluster at all.

    Raises
    ------
    HalutError
        When there is no scheduler at the address, its workers have several threads or other code.
    """
    if scheduler is None and not workers:
        yield None
        return
    try:
        import dask

        # Comings and goings of workers are no news; read when distributed is imported.
        dask.config.set({"logging": {"distributed": "error"}})
        from distributed import Client, LocalCluster
    except ImportError:
        raise HalutError(
            "Dask must be installed for --scheduler and --workers: pip install distributed "
            "(or pip install -e .[flow])"
        ) from None
    if scheduler is None:
        # Synthesis and simulation are child processes, whose memory Dask does not count. Workers
        # that were silent because the machine slept are still there.
        settings = {
            "temporary-directory": str(Path("build").resolve()),
            "distributed.scheduler.worker-ttl": None,
        }
        with (
            dask.config.set(settings),
            LocalCluster(
                n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=":0"
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=5)
    except (OSError, ValueError, TypeError):
        raise HalutError(
            f"--scheduler must be the address of a running Dask scheduler, not {scheduler!r}"
        ) from None
    with client:
        found = client.scheduler_info(n_workers=-1)["workers"]
        if not found:
            raise HalutError(f"the scheduler must have workers, not none ({scheduler})")
        threads = max(worker["nthreads"] for worker in found.values())
        if threads > 1:
            raise HalutError(
                f"workers must have one thread each (dask worker --nthreads 1), not {threads} "
                f"({scheduler})"
            )
        for address, theirs in client.run(sources_hash, on_error="return").items():
            if theirs != sources_hash():
                raise HalutError(f"workers must run this version's code, unlike {address}")
        yield client


def _execute(
    task: Callable[..., Any], chains: Iterable[Sequence[Any]], client: Any, *shared: Any
) -> Iterator[tuple[Any, Any]]:
    """Run tasks; jobs of a chain one after the other. Yields (job, result or exception)."""
    if client is None:
        for chain in chains:
            for job in chain:
                yield job, task(job, *shared)
        return
    from distributed import as_completed

    spread = [client.scatter(item, broadcast=True) for item in shared]
    waiting = {}

    def submit(rest: Iterator[Any]) -> list[Any]:
        for job in rest:
            future = client.submit(task, job, *spread, pure=False)
            waiting[future.key] = (job, rest)
            return [future]
        return []

    done = as_completed([future for chain in chains for future in submit(iter(chain))])
    for future in done:
        job, rest = waiting.pop(future.key)
        done.update(submit(rest))
        error = future.exception()
        yield job, error if error is not None else future.result()


def _progress(items: Iterator[Any], total: int, what: str) -> Iterator[Any]:
    """A bar on a terminal; log lines are the caller's elsewhere."""
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, desc=what, unit=what.rstrip("s"))


# The sweep


@dataclass(kw_only=True)
class Row:
    """A point and all that is known of it.

    Attributes
    ----------
    point : SpacePoint
    key : str
        Of its record; empty for an invalid combination.
    learned : Learned or None
    estimate : Estimate or None
        None where no model was fitted to such a point.
    model : Model or None
        Behind the estimate.
    status : str
        ``skipped`` (invalid), ``pruned``, ``pending``, ``measured`` or ``failed``.
    message : str
        Why it was skipped, or failed.
    record : dict
        What `_measure` returned.
    """

    point: SpacePoint
    key: str = ""
    learned: Learned | None = None
    estimate: Estimate | None = None
    model: Model | None = None
    status: str = "pending"
    message: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gmacs_per_s(self) -> float | None:
        """Multiply-accumulates replaced per ns at the point's clock."""
        config = self.point.config
        return None if config is None else config.macs_per_cycle / self.point.clock_ns


_MODELLED = {"area": "area_um2", "energy": "energy_pj_per_cycle"}
"""Objectives that are estimated, and the target of the model whose error they have."""


def _costs(row: Row, objectives: Sequence[str]) -> list[float] | None:
    """Value of each objective, smaller is better; None when one is not known."""
    costs = {"throughput": -(row.gmacs_per_s or 0.0)}
    if row.learned is not None:
        costs["error"] = row.learned.error
    if row.estimate is not None:
        costs["area"] = row.estimate.area_um2
        costs["energy"] = row.estimate.energy_pj_per_mac
    if any(name not in costs for name in objectives):
        return None
    return [costs[name] for name in objectives]


def prune(rows: Sequence[Row], rule: Prune, with_error: bool) -> None:
    """Mark pending rows as pruned by `Prune`'s rule.

    Rows that are measured already count with their estimates, too: a sweep that goes on prunes
    what it would have pruned at first.
    """
    objectives = [name for name in rule.objectives if with_error or name != "error"]
    groups: dict[tuple[Any, ...], list[tuple[Row, Estimate, list[float]]]] = {}
    for row in rows:
        p, known = row.point, _costs(row, objectives)
        if row.estimate is not None and known is not None:
            key = (p.platform, p.corner, p.clock_ns, p.target_ns, p.layout)
            groups.setdefault(key, []).append((row, row.estimate, known))
    for members in groups.values():
        model = members[0][0].model
        assert model is not None
        allowed = {
            target: float(error[rule.margin] if isinstance(rule.margin, str) else rule.margin)
            for target, error in model.errors.items()
        }
        margins = np.array([allowed[_MODELLED[o]] if o in _MODELLED else 0.0 for o in objectives])
        costs = np.array([known for _, _, known in members])
        # Pessimistic for what prunes, optimistic for what is pruned.
        high, low = costs * (1 + margins), costs * (1 - margins)
        periods = np.array([estimate.period_ns for _, estimate, _ in members])
        meets = periods * (1 + allowed["period_ns"]) <= members[0][0].point.clock_ns
        for i, (row, _, _) in enumerate(members):
            better = (high <= low[i]).all(axis=1) & (costs < costs[i]).any(axis=1) & meets
            if row.status == "pending" and better.any():
                row.status = "pruned"


class Sweep:
    """A space, its data, and the folder of finished points.

    Parameters
    ----------
    space : Space
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
            platform = self._platforms[row.point.platform]
            if row.point.corner is not None and row.status == "pending":
                if platform.has_library:
                    platform.corner(row.point.corner)
                else:
                    raise HalutError(
                        f"corner must be absent on {platform.name}, not {row.point.corner!r}"
                    )

    # Before synthesis

    def prepare(self, client: Any = None) -> None:
        """Learn, estimate, and find what is finished already."""
        if self.data is not None:
            self._learn(client)
        for row in self.rows:
            if row.point.config is None:
                continue
            self._estimate(row)
            row.key = self._point_key(row)
            self._read(row)

    def _learned_path(self, config: AcceleratorConfig) -> Path:
        assert self.data is not None
        key = _key(
            self.data.digest, config.n_codebooks, config.n_prototypes, dict(self.space.learning),
            dataclasses.astuple(_Variant.of(config)), sources_hash(),
        )  # fmt: skip
        return self.build / "learned" / key

    def _learn(self, client: Any) -> None:
        rows = [row for row in self.rows if row.point.config is not None]
        found: dict[tuple[int, int, _Variant], Learned] = {}
        wanted: dict[tuple[int, int], set[_Variant]] = {}
        for row in rows:
            config = row.point.config
            assert config is not None
            C, K, variant = config.n_codebooks, config.n_prototypes, _Variant.of(config)
            if (C, K, variant) in found or variant in wanted.get((C, K), ()):
                continue
            kept = Learned.load(self._learned_path(config))
            if kept is not None:
                found[C, K, variant] = kept
            else:
                wanted.setdefault((C, K), set()).add(variant)
        failures: dict[tuple[int, int], str] = {}
        jobs = [
            _LearnJob(C, K, dict(self.space.learning), tuple(sorted(variants, key=repr)))
            for (C, K), variants in wanted.items()
        ]
        if jobs:
            log.info("learning %d pairs of C and K", len(jobs))
        done = _execute(_learn, [[job] for job in jobs], client, self.data)
        for job, result in _progress(done, len(jobs), "products"):
            if isinstance(result, dict):
                found |= {(job.C, job.K, v): learned for v, learned in result.items()}
            else:
                failures[job.C, job.K] = result if isinstance(result, str) else _words(result)
        saved = set()
        for row in rows:
            config = row.point.config
            assert config is not None
            C, K = config.n_codebooks, config.n_prototypes
            row.learned = found.get((C, K, _Variant.of(config)))
            if row.learned is None:
                row.status, row.message = "failed", failures[C, K]
            elif _Variant.of(config) in wanted.get((C, K), ()):
                path = self._learned_path(config)
                if path not in saved:
                    row.learned.save(path)
                    saved.add(path)

    def _estimate(self, row: Row) -> None:
        platform = self._platforms[row.point.platform]
        model = shipped_model(platform.name)
        corner = row.point.corner or platform.default_corner
        if model is None or model.conditions.get("corner") != corner or row.point.config is None:
            return
        try:
            row.estimate, row.model = model.estimate(row.point.config), model
        except HalutError as error:
            log.debug("no estimate: %s", error)

    def _netlist_parts(self, row: Row) -> list[Any]:
        """What a point's netlist depends on."""
        assert row.point.config is not None
        platform = self._platforms[row.point.platform]
        # The name is that of the space, and changes no hardware.
        config = {k: v for k, v in row.point.config.to_dict().items() if k != "name"}
        return [
            config, platform.source.read_text(), row.point.corner,
            row.point.target_ns, sources_hash(),
        ]  # fmt: skip

    def _point_key(self, row: Row) -> str:
        assert row.point.config is not None
        data = self._learned_path(row.point.config).name if self.data is not None else None
        point = row.point
        return _key(self._netlist_parts(row), point.clock_ns, point.layout, self.space.seed, data)

    def _record_path(self, key: str) -> Path:
        return self.build / "points" / f"{key}.json"

    def _read(self, row: Row) -> None:
        try:
            record = json.loads(self._record_path(row.key).read_text())
        except (OSError, ValueError):
            return
        if record.get("version") == _RECORD_VERSION and row.status == "pending":
            self._set(row, record)

    @staticmethod
    def _set(row: Row, record: Mapping[str, Any]) -> None:
        row.record = record
        row.status, row.message = record["status"], record.get("message", "")

    def prune(self) -> None:
        """Mark points that are not worth their synthesis, as the space says."""
        if self.space.prune is not None:
            prune(self.rows, self.space.prune, self.data is not None)

    # Synthesis

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
                folder = f"work/{_key(self._netlist_parts(row))}"
                chains.setdefault(folder, {}).setdefault(row.key, []).append(row)
        total = sum(len(chain) for chain in chains.values())
        done = _execute(_measure, [self._jobs(*item, keep) for item in chains.items()], client)
        start = time.monotonic()
        for number, (job, found) in enumerate(_progress(done, total, "points"), 1):
            record = found
            if isinstance(found, BaseException):
                record = {"version": _RECORD_VERSION, "key": job.key, "status": "failed",
                          "message": _words(found), "seconds": None, "host": None}  # fmt: skip
            record["code"] = sources_hash()
            path = self._record_path(job.key)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(record, sort_keys=True) + "\n")
            for row in chains[job.folder][job.key]:
                self._set(row, record)
            if not sys.stderr.isatty() or record["status"] == "failed":
                log.info(
                    "[%d/%d, %.0f s] %s, %s %g ns: %s",
                    number, total, time.monotonic() - start, job.config.slug, job.platform,
                    job.clock_ns, record.get("message") or record["status"],
                )  # fmt: skip

    def _jobs(self, folder: str, chain: Mapping[str, Sequence[Row]], keep: bool) -> list[_Job]:
        jobs = []
        for number, (key, (row, *_)) in enumerate(chain.items(), 1):
            config, program, words = row.point.config, None, None
            assert config is not None
            if row.learned is not None and self.data is not None:
                program = row.learned.program
                words = program.input_words(self.data.test[:_ACTIVITY_ROWS])
            jobs.append(
                _Job(
                    key=key,
                    config=config,
                    platform=row.point.platform,
                    corner=row.point.corner,
                    clock_ns=row.point.clock_ns,
                    target_ns=row.point.target_ns,
                    layout=row.point.layout,
                    seed=self.space.seed,
                    program=program,
                    words=words,
                    build=str(self.build),
                    folder=folder,
                    last=number == len(chain),
                    keep=keep,
                )
            )
        return jobs

    # Results

    @property
    def counts(self) -> dict[str, int]:
        """Points by status."""
        return dict(sorted(Counter(row.status for row in self.rows).items()))

    def table(self) -> Any:
        """All rows but pending ones as a `pyarrow.Table`, in the order of the space."""
        import pyarrow as pa

        columns = _columns()
        rows = [self._values(row) for row in self.rows if row.status != "pending"]
        fields, arrays = [], []
        for name, (kind, unit) in columns.items():
            metadata = {"unit": unit} if unit else None
            fields.append(pa.field(name, _arrow(kind), metadata=metadata))
            arrays.append(pa.array([_typed(row.get(name), kind) for row in rows], _arrow(kind)))
        about = {
            "kind": "halut-sweep",
            "version": "1",
            "space": self.space.name,
            "axes": json.dumps({name: list(values) for name, values in self.space.axes.items()}),
            "volatile": ",".join(VOLATILE),
        }
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=about))

    def write(self, path: Path) -> None:
        """Write `table` as Parquet."""
        import pyarrow.parquet as parquet

        table = self.table()
        with atomic_write(path) as temporary:
            parquet.write_table(table, temporary)

    def _values(self, row: Row) -> dict[str, Any]:
        point, config, record = row.point, row.point.config, row.record
        values: dict[str, Any] = {
            "status": row.status,
            "message": row.message or None,
            "point": row.key or None,
            "space": self.space.name,
            "platform": point.platform,
            "corner": point.corner or self._platforms[point.platform].default_corner or None,
            "clock_ns": point.clock_ns,
            "target_ns": point.target_ns,
            "layout": point.layout,
            **(point.values if config is None else {**config.to_dict(), "slug": config.slug}),
            "throughput__gmacs_per_s": row.gmacs_per_s,
            "provenance__code": sources_hash(),
        }
        if self.data is not None:
            values |= {"provenance__data": self.data.digest, "data": self.data.name}
        if row.learned is not None:
            values |= {
                "learn__relative_error": row.learned.error,
                "learn__accuracy": row.learned.accuracy,
            }
        if row.estimate is not None and row.model is not None:
            estimate = dataclasses.asdict(row.estimate)
            values |= {f"estimate__{name}": value for name, value in estimate.items()}
            values["provenance__model"] = json.dumps(dict(row.model.conditions), sort_keys=True)
        if record:
            provenance = record.get("provenance", {})
            values |= {
                **record.get("metrics", {}),
                "reasons": json.dumps(record.get("reasons", {}), sort_keys=True),
                "provenance__code": record["code"],
                "provenance__seconds": record["seconds"],
                "provenance__host": record["host"],
            }
            for name in ("halut_stack", "commit", "dirty", "python", "date", "seed"):
                values[f"provenance__{name}"] = provenance.get(name)
            if "tools" in provenance:
                values["provenance__tools"] = json.dumps(provenance["tools"], sort_keys=True)
        return values


def _columns() -> dict[str, tuple[type, str]]:
    """Columns of the results: type and unit."""
    columns: dict[str, tuple[type, str]] = {
        name: (str, "") for name in ("status", "message", "point", "space", "data", "platform",
                                     "corner", "layout")
    }  # fmt: skip
    columns |= {"clock_ns": (float, "ns"), "target_ns": (float, "ns")}
    for f in dataclasses.fields(AcceleratorConfig):
        if f.name != "name":
            texts = isinstance(f.default, str) or f.name == "overflow"
            columns[f.name] = (bool if isinstance(f.default, bool) else str if texts else int, "")
    columns["slug"] = (str, "")
    columns |= {
        "learn__relative_error": (float, "1"),
        "learn__accuracy": (float, "1"),
        "throughput__gmacs_per_s": (float, "GMAC/s"),
        "estimate__area_um2": (float, "um2"),
        "estimate__energy_pj_per_cycle": (float, "pJ"),
        "estimate__period_ns": (float, "ns"),
        "estimate__area_um2_per_mac_per_cycle": (float, "um2"),
        "estimate__energy_pj_per_mac": (float, "pJ"),
    }
    columns |= {name: (float, unit) for name, (unit, _) in METRICS.items()}
    columns["reasons"] = (str, "")
    for name in ("halut_stack", "commit", "code", "data", "model", "python", "tools"):
        columns[f"provenance__{name}"] = (str, "")
    columns |= {
        "provenance__dirty": (bool, ""),
        "provenance__seed": (int, ""),
        "provenance__date": (str, ""),
        "provenance__seconds": (float, "s"),
        "provenance__host": (str, ""),
    }
    return columns


def _arrow(kind: type) -> Any:
    import pyarrow as pa

    return {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}[kind]


def _typed(value: Any, kind: type) -> Any:
    """A value of a column; None where an invalid combination has something of another kind."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if type(value) is kind else None


def _modelled(rows: Sequence[Row]) -> str:
    """How far estimates were off on the measured points."""
    ratios: dict[str, list[float]] = {"area": [], "energy per MAC": []}
    for row in rows:
        metrics = row.record.get("metrics", {})
        if row.status != "measured" or row.estimate is None:
            continue
        for name, estimated, metric in (
            ("area", row.estimate.area_um2, "synth__design__instance__area__stdcell"),
            ("energy per MAC", row.estimate.energy_pj_per_mac, "halut__energy__per_mac"),
        ):
            if metrics.get(metric):
                ratios[name].append(abs(estimated / metrics[metric] - 1))
    found = [
        f"{name} {np.mean(values):.0%} (largest {max(values):.0%})"
        for name, values in ratios.items()
        if values
    ]
    return f"estimates were off by: {', '.join(found)}" if found else ""


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the options of where points are measured."""
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="measure on the Dask cluster of this scheduler (default: on this machine)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N",
        help="processes on this machine; 0 for this one only (default: %(default)s)",
    )  # fmt: skip


def check_cluster(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if arguments.scheduler is not None and arguments.workers:
        raise HalutError("--workers must not be given with --scheduler")
    if not 0 <= arguments.workers <= 1024:
        raise HalutError(f"--workers must be an integer in [0, 1024], not {arguments.workers}")


def quiet_flow(verbose: bool) -> None:
    """Log lines of points, and those of the flow's stages only when asked for."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if verbose:
        logging.getLogger("flow").setLevel(logging.DEBUG)
        return
    for name in ("flow.stages", "flow.run", "halut.matmul", "distributed"):
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
    add("--collect", action="store_true",
        help="measure nothing: write what is finished")  # fmt: skip
    add("--no-prune", action="store_true", help="measure every valid point")
    add("--keep", action="store_true", help="keep netlists and logs of measured points")
    add("--build", default=str(BUILD), metavar="DIR",
        help="folder of all products (default: %(default)s)")  # fmt: skip
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
        log.info("%s: %s", space.name, _told(sweep.counts))
        if not arguments.collect:
            sweep.run(client, arguments.keep)
    sweep.write(path)
    print(f"{space.name}: {len(sweep.rows)} points: {_told(sweep.counts)}; "
          f"{time.monotonic() - start:.0f} s")  # fmt: skip
    off = _modelled(sweep.rows)
    if off:
        print(off)
    failed = [row for row in sweep.rows if row.status == "failed"]
    for row in failed:
        assert row.point.config is not None
        print(f"error: {row.point.config.slug}: {row.message}", file=sys.stderr)
    print(f"wrote {path}")
    return 1 if failed else 0


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())
