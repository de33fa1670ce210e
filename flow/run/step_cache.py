"""Steps that are done once: progress, time, and results that are kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from flow.run.sources import sources_hash
from halut.files import write_text

__all__ = ["StepCache"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def _restored(kind: Any, data: Any) -> Any:
    """A value of a type, from what `json` made of its `dataclasses.asdict`."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: _restored(hints[name], value) for name, value in data.items()})
    kinds = get_args(kind)
    if NoneType in kinds:
        (other,) = set(kinds) - {NoneType}
        return None if data is None else _restored(other, data)
    if get_origin(kind) in (list, tuple):
        return get_origin(kind)(_restored(kinds[0], item) for item in data)
    return data


class StepCache:
    """Does named steps in order; each is keyed by its inputs and those of the ones before.

    Parameters
    ----------
    folder : Path
        Where a step's record (``.<name>.json``) is kept.
    names : sequence of str
        All steps, for "[i/n]".
    force : bool
        Do everything again.
    key : str, optional
        What the first step depends on besides its inputs; all of the project's code by default.

    Attributes
    ----------
    seconds : dict of str to float
        What each step took, now or when it was done.
    worked : list of str
        The steps that were done now.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], force: bool = False, key: str | None = None
    ):
        self.folder = folder
        self.names = names
        self.force = force
        self.seconds: dict[str, float] = {}
        self.worked: list[str] = []
        self._key = sources_hash() if key is None else key

    def run(
        self,
        name: str,
        kind: type[Result],
        inputs: Any,
        outputs: Sequence[Path],
        work: Callable[[], Result],
    ) -> Result:
        """The step's result: from its record when nothing it depends on has changed.

        Parameters
        ----------
        kind : type
            A dataclass of JSON values, or of such dataclasses.
        inputs : JSON value
            What the step depends on besides earlier steps.
        outputs : sequence of Path
            Files that it leaves; when one is missing it runs again.
        work : callable
            Does it and returns a `kind`.
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
                return _restored(kind, data["result"])
        log.info("%-18s ...", step)
        record.unlink(missing_ok=True)
        start = time.monotonic()
        result: Any = work()
        self.seconds[name] = round(time.monotonic() - start, 2)
        self.worked.append(name)
        log.info("%-18s %.1f s", step, self.seconds[name])
        done = {
            "key": self._key,
            "seconds": self.seconds[name],
            "result": dataclasses.asdict(result),
        }
        write_text(record, json.dumps(done))
        return result
