import pytest

from flow.cells.boolean import parse
from flow.formal.abc import differ
from flow.formal.blif import blif
from flow.tools import Tool, find_abc
from halut.errors import CheckFailed
from tests.flow.support import stub

pytest.importorskip("pyosys", reason="needs pyosys (pip install -e .[flow])")


def circuits(folder, first, second):
    for name, text in (("a", first), ("b", second)):
        gates = [(2, (parse(text), {"p": 0, "q": 1}))]
        leaves = [(0, "a", "i0"), (1, "a", "i1")]
        (folder / f"{name}.blif").write_text(blif(name, ["i0", "i1"], leaves, gates, [2]))


def test_equal_circuits_have_no_difference(tmp_path):
    circuits(tmp_path, "!(p & q)", "!p | !q")
    assert differ(find_abc(), "a.blif", "b.blif", tmp_path, "cec", 60) == ""


def test_a_difference_is_in_the_log(tmp_path):
    circuits(tmp_path, "!(p & q)", "!p & !q")
    log = differ(find_abc(), "a.blif", "b.blif", tmp_path, "cec", 60)
    assert "NOT EQUIVALENT" in log and log == (tmp_path / "cec.log").read_text()


def test_no_decision_is_no_proof(tmp_path):
    tool = Tool("abc", (str(stub(tmp_path, "abc", "echo Networks are UNDECIDED")),), "0")
    with pytest.raises(CheckFailed, match=r"ABC must decide within 5 s whether a and b are equal"):
        differ(tool, "a", "b", tmp_path, "cec", 5)
