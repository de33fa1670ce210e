"""Stages of a run: progress, time, and not doing again what is already done."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flow.run.sources import sources_hash
from halut.files import atomic_write

__all__ = ["Stages"]

log = logging.getLogger(__name__)


class Stages:
    """Runs named stages in order; each is keyed by its inputs and those of the ones before.

    Parameters
    ----------
    folder : Path
        Where a stage's record (``.<name>.json``) is kept.
    names : list of str
        All stages, for "step i/n".
    force : bool
        Do everything again.
    key : str, optional
        What the first stage depends on besides its inputs; all of the project's code by default.
    """

    def __init__(self, folder: Path, names: list[str], force: bool = False, key: str | None = None):
        self.folder = folder
        self.names = names
        self.force = force
        self.seconds: dict[str, float] = {}
        self._key = sources_hash() if key is None else key

    def run(
        self,
        name: str,
        inputs: Any,
        outputs: list[Path],
        work: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """The stage's result: from its record when nothing it depends on has changed.

        Parameters
        ----------
        name : str
        inputs : JSON value
            What the stage depends on besides earlier stages.
        outputs : list of Path
            Files that it leaves; when one is missing it runs again.
        work : callable
            Does it and returns a JSON object.
        """
        text = json.dumps([self._key, name, inputs], sort_keys=True, default=str)
        self._key = hashlib.sha256(text.encode()).hexdigest()
        record = self.folder / f".{name}.json"
        step = f"[{self.names.index(name) + 1}/{len(self.names)}] {name}"
        if not self.force and record.is_file() and all(path.exists() for path in outputs):
            try:
                data = json.loads(record.read_text())
            except ValueError:
                data = {}
            if data.get("key") == self._key:
                self.seconds[name] = data["seconds"]
                log.info("%-18s unchanged (%.1f s before)", step, data["seconds"])
                return data["result"]
        log.info("%-18s ...", step)
        record.unlink(missing_ok=True)
        start = time.monotonic()
        result = work()
        self.seconds[name] = round(time.monotonic() - start, 2)
        log.info("%-18s %.1f s", step, self.seconds[name])
        with atomic_write(record) as temporary:
            temporary.write_text(
                json.dumps({"key": self._key, "seconds": self.seconds[name], "result": result})
            )
        return result
