import contextlib
from pathlib import Path

from flow.run.stages import Stages


def _run(folder: Path, calls: list[str], first=1, second=1, force=False) -> Stages:
    stages = Stages(folder, ["a", "b"], force)

    def work(name: str):
        def done() -> dict:
            calls.append(name)
            (folder / name).write_text("")
            return {"name": name}

        return done

    assert stages.run("a", first, [folder / "a"], work("a")) == {"name": "a"}
    assert stages.run("b", second, [folder / "b"], work("b")) == {"name": "b"}
    return stages


def test_only_what_changed_is_done_again(tmp_path):
    calls: list[str] = []
    _run(tmp_path, calls)
    assert calls == ["a", "b"]
    _run(tmp_path, calls)
    assert calls == ["a", "b"]
    _run(tmp_path, calls, second=2)
    assert calls == ["a", "b", "b"]
    # What an earlier stage depends on counts for the later ones.
    _run(tmp_path, calls, first=2, second=2)
    assert calls == ["a", "b", "b", "a", "b"]
    (tmp_path / "b").unlink()
    _run(tmp_path, calls, first=2, second=2)
    assert calls == ["a", "b", "b", "a", "b", "b"]
    _run(tmp_path, calls, first=2, second=2, force=True)
    assert calls[-2:] == ["a", "b"]


def test_a_stage_that_failed_is_not_taken_for_done(tmp_path):
    calls: list[str] = []
    _run(tmp_path, calls)
    stages = Stages(tmp_path, ["a", "b"])

    def fails() -> dict:
        raise RuntimeError

    with contextlib.suppress(RuntimeError):
        stages.run("a", 2, [], fails)
    _run(tmp_path, calls)
    assert calls == ["a", "b", "a"]
