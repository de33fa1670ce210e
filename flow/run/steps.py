"""A step of a run: what it needs, what it leaves, and doing a list of them in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from flow.run.context import Run
from flow.run.sources import sources_hash
from flow.run.step_cache import StepCache

__all__ = ["Done", "Results", "Step", "run_steps"]

Result = TypeVar("Result")


class Results:
    """Results by step."""

    def __init__(self, of: dict[str, Any] | None = None):
        self._of = {} if of is None else of

    def __contains__(self, step: Step[Any]) -> bool:
        return step.name in self._of

    def __getitem__(self, step: Step[Result]) -> Result:
        return self._of[step.name]

    def get(self, step: Step[Result]) -> Result | None:
        """The result of a step; None when it was left out."""
        return self._of.get(step.name)

    def put(self, step: Step[Result], result: Result) -> None:
        self._of[step.name] = result

    def only(self, steps: Sequence[Step[Any]]) -> Results:
        """Those of some steps: another one is a KeyError."""
        return Results({step.name: self._of[step.name] for step in steps if step in self})


def _always(_: Run) -> bool:
    return True


def _nothing(*_: Any) -> list[Any]:
    return []


@dataclass(frozen=True, kw_only=True)
class Step(Generic[Result]):
    """A named step of a run."""

    name: str
    result: type[Result]  #: Frozen dataclass.
    #: ``work(run, results)`` does it; `results` has those of `needs` and `takes` only.
    work: Callable[[Run, Results], Result]
    needs: tuple[Step[Any], ...] = ()  #: Without their results it is left out.
    takes: tuple[Step[Any], ...] = ()  #: Whose results it takes when they are there.
    #: ``wanted(run)`` is whether the run's options, platform and tools ask for it.
    wanted: Callable[[Run], bool] = _always
    #: ``inputs(run, results)`` is the JSON value that it depends on besides earlier steps.
    inputs: Callable[[Run, Results], Any] = _nothing
    #: ``files(run)`` are the files that it leaves and later steps read.
    files: Callable[[Run], list[Path]] = _nothing
    #: Whether the result is kept on disk and the step not done again while nothing that it depends
    #: on has changed. Otherwise it is done every time (and may keep parts on its own).
    kept: bool = True
    #: ``depends_on(run)`` are the files that decide whether it is done again, in place of all
    #: earlier steps. No later step depends on it then.
    depends_on: Callable[[Run], list[Path]] | None = None

    @property
    def in_chain(self) -> bool:
        """Whether later steps depend on it."""
        return self.kept and self.depends_on is None


@dataclass(frozen=True)
class Done:
    """What came of a list of steps."""

    results: Results
    worked: list[str]  #: Kept steps that were done now, not taken from an earlier run.
    seconds: dict[str, float]  #: What each step of the chain took.


def run_steps(run: Run, steps: Sequence[Step[Any]]) -> Done:
    """Do steps in order, those that the run wants and whose needs were met."""
    names: list[str] = []
    for step in steps:
        met = all(need.name in names for need in step.needs)
        if step.in_chain and met and step.wanted(run):
            names.append(step.name)
    chain = StepCache(run.folder, names, run.options.force)
    worked: list[str] = []
    results = Results()
    for step in steps:
        if not all(need in results for need in step.needs) or not step.wanted(run):
            continue
        given = results.only([*step.needs, *step.takes])
        work = partial(step.work, run, given)
        if not step.kept:
            results.put(step, work())
            continue
        cache = chain
        if step.depends_on is not None:
            cache = StepCache(
                run.folder, [step.name], run.options.force, _key(step.depends_on(run))
            )
        results.put(
            step,
            cache.run(step.name, step.result, step.inputs(run, given), step.files(run), work),
        )
        if step.name in cache.worked:
            worked.append(step.name)
    return Done(results, worked, chain.seconds)


def _key(files: Sequence[Path]) -> str:
    key = hashlib.sha256(sources_hash().encode())
    for path in files:
        key.update(path.read_bytes())
    return key.hexdigest()
