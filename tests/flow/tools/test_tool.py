import pytest

from flow.tools import Tool, ToolFailed, plain_path, run_tool
from halut.errors import HalutError
from sim.simulators import is_plain
from tests.flow.support import stub


def test_a_tool_that_fails_shows_the_end_of_its_log(tmp_path):
    path = stub(tmp_path, "yosys", "for i in $(seq 40); do echo line $i; done; exit 3")
    with pytest.raises(ToolFailed, match=r"yosys must succeed, not end with 3 .log: ") as error:
        run_tool(Tool("yosys", (str(path),), "0"), [], tmp_path / "y.log", tmp_path)
    assert "\n" not in str(error.value)
    assert error.value.tail.splitlines()[-1] == "line 40"
    assert len(error.value.tail.splitlines()) == 12
    assert len((tmp_path / "y.log").read_text().splitlines()) == 40


def test_a_tool_that_hangs_is_ended(tmp_path):
    path = stub(tmp_path, "sta", "exec sleep 30")
    with pytest.raises(HalutError, match=r"sta must end within 0\.2 s"):
        run_tool(Tool("sta", (str(path),), "0"), [], tmp_path / "s.log", tmp_path, timeout=0.2)


def test_a_plain_path_leads_to_the_file(tmp_path):
    (tmp_path / "a {b").mkdir()
    path = tmp_path / "a {b" / "c.v"
    path.write_text("module c; endmodule")
    plain = plain_path(path)
    assert is_plain(plain) and plain.read_text() == path.read_text()
