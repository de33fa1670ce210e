"""A point of a space, what is known of it, and the task that measures it."""

from __future__ import annotations

import json
import logging
import platform as machine
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
from halut.files import locked, write_text
from halut.program import Program

__all__ = ["Job", "Record", "Row", "measure_job"]

log = logging.getLogger(__name__)

RECORD_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """What came of measuring a point; one small file."""

    key: str
    status: str  #: ``measured`` or ``failed``.
    message: str = ""  #: Why it failed.
    #: As in metrics.json.
    metrics: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    #: How long it took, and where; None when it did not come back.
    seconds: float | None = None
    host: str | None = None
    code: str = ""  #: `sources_hash` of the code that wrote it.

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """What `write` wrote; None when it is not there, or of another version."""
        try:
            found = json.loads(path.read_text())
            return cls(**found) if found.pop("version") == RECORD_VERSION else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, path: Path) -> None:
        text = json.dumps({"version": RECORD_VERSION, **asdict(self)}, sort_keys=True)
        write_text(path, text + "\n")


@dataclass(kw_only=True)
class Row:
    """A point and all that is known of it."""

    point: SpacePoint
    key: str = ""  #: Of its record; empty for an invalid combination.
    learned: Learned | None = None
    estimate: Estimate | None = None  #: None where no model was fitted to such a point.
    model: Model | None = None  #: Behind the estimate.
    #: ``skipped`` (invalid), ``pruned``, ``pending``, ``measured`` or ``failed``.
    status: str = "pending"
    message: str = ""  #: Why it was skipped, or failed.
    record: Record | None = None  #: What `measure_job` returned.

    def take(self, record: Record) -> None:
        """Take what `measure_job` returned."""
        self.record = record
        self.status, self.message = record.status, record.message

    @property
    def gmacs_per_s(self) -> float | None:
        """Multiply-accumulates replaced per ns at the point's clock."""
        config = self.point.config
        return None if config is None else config.macs_per_cycle / self.point.clock_ns

    @property
    def estimated(self) -> dict[str, float]:
        """What is known before synthesis; area, clock and energy are modelled."""
        values = self._known
        if self.estimate is not None:
            values |= {
                "area": self.estimate.area_um2,
                "energy": self.estimate.energy_pj_per_mac,
                "clock": self.estimate.period_ns,
            }
        return values

    @property
    def measured(self) -> dict[str, float]:
        """What was measured; `clock` is the period less the slack."""
        values = self._known
        metrics = self.record.metrics if self.record else {}
        slack = metrics.get("synth__timing__setup__ws")
        found = {
            "area": metrics.get("synth__design__instance__area__stdcell"),
            "energy": metrics.get("halut__energy__per_mac"),
            "clock": None if slack is None else self.point.clock_ns - slack,
        }
        return values | {name: value for name, value in found.items() if value is not None}

    @property
    def _known(self) -> dict[str, float]:
        values = {"throughput": self.gmacs_per_s or 0.0}
        if self.learned is not None:
            values["error"] = self.learned.error
        return values


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


def measure_job(job: Job) -> Record:
    """Synthesise, time and power a point; a failure is a result, too."""
    start = time.monotonic()
    build, point = Path(job.build), job.point
    found: dict[str, Any]
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
        found = {
            "status": "measured",
            "metrics": metrics.values,
            "reasons": metrics.reasons,
            "provenance": metrics.provenance,
        }
    except Exception as error:
        log.debug("point %s", job.key, exc_info=True)
        found = {"status": "failed", "message": in_words(error)}
    seconds = round(time.monotonic() - start, 2)
    return Record(key=job.key, seconds=seconds, host=machine.node(), **found)
