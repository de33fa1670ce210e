from dataclasses import dataclass
from pathlib import Path

import pytest

import flow.run.sources
from flow.run.sources import sources_hash
from flow.run.step_cache import StepCache
from halut.sources import folder_hash


@dataclass(frozen=True)
class Nothing:
    pass


def _tree(folder: Path) -> Path:
    root = folder / "package"
    for name in ("a.py", "nested/deep/b.py", "nested/rules.tcl"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


@pytest.mark.parametrize("name", ["a.py", "nested/deep/b.py", "nested/rules.tcl"])
def test_an_edit_at_any_depth_changes_the_hash(tmp_path, name):
    root = _tree(tmp_path)
    before = folder_hash([root])
    assert folder_hash([root]) == before
    (root / name).write_text("edited")
    assert folder_hash([root]) != before


def test_new_moved_and_compiled_files(tmp_path):
    root = _tree(tmp_path)
    before = folder_hash([root])
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "a.cpython-311.pyc").write_text("compiled")
    (root / ".hidden").write_text("an editor's")
    assert folder_hash([root]) == before
    (root / "a.py").rename(root / "nested" / "a.py")
    moved = folder_hash([root])
    assert moved != before
    (root / "empty.py").write_text("")
    assert folder_hash([root]) != moved


@pytest.mark.parametrize("nested", ["rtl_gen/direct/dot_product.py", "flow/report/html/page.py"])
def test_a_step_runs_again_after_an_edit_anywhere_in_the_code(tmp_path, monkeypatch, nested):
    # The project's own files, by links, with one of them edited.
    for package in flow.run.sources.PACKAGES:
        for source in (flow.run.sources.ROOT / package).rglob("*.py"):
            link = tmp_path / source.relative_to(flow.run.sources.ROOT)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
    monkeypatch.setattr(flow.run.sources, "ROOT", tmp_path)
    calls: list[int] = []

    def run() -> None:
        sources_hash.cache_clear()
        StepCache(tmp_path, ["a"]).run("a", Nothing, 1, [], lambda: calls.append(1) or Nothing())

    try:
        run()
        run()
        assert len(calls) == 1
        text = (tmp_path / nested).read_text()
        (tmp_path / nested).unlink()
        (tmp_path / nested).write_text(text + "\n# edited\n")
        run()
        assert len(calls) == 2
    finally:
        sources_hash.cache_clear()
