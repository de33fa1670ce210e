"""A point of a space, what is known of it, and the task that measures it."""

from __future__ import annotations

import json
import logging
import platform as machine
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow.cells.platform_file import read_platform
from flow.designs.design import accelerator
from flow.measure import measure
from flow.run.options import RunOptions
from flow.search.cluster import in_words
from flow.search.learning import Learned
from flow.search.model import Estimate, Model
from flow.search.space import SpacePoint
from halut.files import atomic_write, locked
from halut.program import Program

__all__ = ["Job", "Row", "failed_record", "measure_job", "read_record", "write_record"]

log = logging.getLogger(__name__)

RECORD_VERSION = 1


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
        What `measure_job` returned.
    """

    point: SpacePoint
    key: str = ""
    learned: Learned | None = None
    estimate: Estimate | None = None
    model: Model | None = None
    status: str = "pending"
    message: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)

    def take(self, record: Mapping[str, Any]) -> None:
        """Take what `measure_job` returned."""
        self.record = record
        self.status, self.message = record["status"], record.get("message", "")

    @property
    def gmacs_per_s(self) -> float | None:
        """Multiply-accumulates replaced per ns at the point's clock."""
        config = self.point.config
        return None if config is None else config.macs_per_cycle / self.point.clock_ns


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a worker needs for one point."""

    key: str
    point: SpacePoint
    seed: int
    program: Program | None
    words: Any
    build: str
    folder: str
    last: bool
    keep: bool


def measure_job(job: Job) -> dict[str, Any]:
    """Synthesise, time and power a point; a failure is a result, too."""
    start = time.monotonic()
    record: dict[str, Any] = {"version": RECORD_VERSION, "key": job.key}
    build, point = Path(job.build), job.point
    try:
        assert point.config is not None
        design = accelerator(point.config, job.program, job.words)
        options = RunOptions(
            clock_ns=point.clock_ns, target_ns=point.target_ns, corner=point.corner,
            layout=point.layout, seed=job.seed,
        )  # fmt: skip
        # Points of one folder share a netlist; they differ in the clock.
        place = build / job.folder
        platform = read_platform(point.platform)
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
        record |= {"status": "failed", "message": in_words(error)}
    record["seconds"] = round(time.monotonic() - start, 2)
    record["host"] = machine.node()
    return record


def failed_record(key: str, error: BaseException) -> dict[str, Any]:
    """The record of a job that did not come back."""
    return {"version": RECORD_VERSION, "key": key, "status": "failed",
            "message": in_words(error), "seconds": None, "host": None}  # fmt: skip


def read_record(path: Path) -> dict[str, Any] | None:
    """A record that `write_record` wrote; None when it is not there, or of another version."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if record.get("version") == RECORD_VERSION else None


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(record, sort_keys=True) + "\n")
