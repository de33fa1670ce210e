import shutil

import pytest

from halut.errors import HalutError
from tests.flow.support import LIBRARY, tiny_platform


def test_a_missing_pdk_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HALUT_PDK_DIR", str(tmp_path))
    monkeypatch.setenv("FLOW_HOME", str(tmp_path / "orfs"))
    with pytest.raises(HalutError) as error:
        tiny_platform(tmp_path).liberty_files()
    text = str(error.value)
    assert "\n" not in text
    for part in (str(tmp_path / "tiny"), str(tmp_path / "orfs" / "platforms" / "tiny"),
                 "HALUT_PDK_DIR", "FLOW_HOME", "generic still works"):  # fmt: skip
        assert part in text


def test_the_first_place_with_all_files_wins(tmp_path, monkeypatch):
    for place in ("a", "b/platforms"):
        (tmp_path / place / "tiny").mkdir(parents=True)
        (tmp_path / place / "tiny" / "tiny.lib").write_text(LIBRARY)
    monkeypatch.setenv("HALUT_PDK_DIR", str(tmp_path / "a"))
    monkeypatch.setenv("FLOW_HOME", str(tmp_path / "b"))
    platform = tiny_platform(tmp_path)
    assert platform.liberty_files() == [tmp_path / "a" / "tiny" / "tiny.lib"]
    shutil.rmtree(tmp_path / "a" / "tiny")
    assert platform.liberty_files() == [tmp_path / "b" / "platforms" / "tiny" / "tiny.lib"]
