import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flow.run.step_cache import StepCache


@dataclass(frozen=True)
class Part:
    name: str
    value: float = 0.0


@dataclass(frozen=True)
class Whole:
    name: str
    one: Part | None = None
    parts: tuple[Part, ...] = ()
    names: list[str] = field(default_factory=list)
    sums: dict[str, list[float]] = field(default_factory=dict)


def _run(folder: Path, first=1, second=1, force=False) -> list[str]:
    """Two steps; those that were done now."""
    cache = StepCache(folder, ["a", "b"], force)

    def work(name: str):
        def done() -> Part:
            (folder / name).write_text("")
            return Part(name)

        return done

    assert cache.run("a", Part, first, [folder / "a"], work("a")) == Part("a")
    assert cache.run("b", Part, second, [folder / "b"], work("b")) == Part("b")
    assert set(cache.seconds) == {"a", "b"}
    return cache.worked


def test_only_what_changed_is_done_again(tmp_path):
    assert _run(tmp_path) == ["a", "b"]
    assert _run(tmp_path) == []
    assert _run(tmp_path, second=2) == ["b"]
    # What an earlier step depends on counts for the later ones.
    assert _run(tmp_path, first=2, second=2) == ["a", "b"]
    (tmp_path / "b").unlink()
    assert _run(tmp_path, first=2, second=2) == ["b"]
    assert _run(tmp_path, first=2, second=2, force=True) == ["a", "b"]


def test_a_step_that_failed_is_not_taken_for_done(tmp_path):
    _run(tmp_path)
    cache = StepCache(tmp_path, ["a", "b"])

    def fails() -> Part:
        raise RuntimeError

    with contextlib.suppress(RuntimeError):
        cache.run("a", Part, 2, [], fails)
    assert cache.worked == []
    assert _run(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "result",
    [
        Whole("plain"),
        Whole("full", Part("p", 0.1), (Part("q", 1 / 3), Part("r")), ["x", "y"], {"u": [1.0, 2.5]}),
        Whole("not a number", Part("p", float("inf"))),
    ],
    ids=["plain", "full", "infinite"],
)
def test_a_kept_result_is_the_result(tmp_path, result):
    for _ in range(2):
        cache = StepCache(tmp_path, ["a"])
        assert cache.run("a", Whole, [], [], lambda: result) == result
    assert cache.worked == []


def test_a_broken_record_is_no_record(tmp_path):
    _run(tmp_path)
    (tmp_path / ".b.json").write_text(json.dumps({"key": "other"})[:-3])
    assert _run(tmp_path) == ["b"]
