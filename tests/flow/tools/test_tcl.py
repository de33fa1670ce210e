import pytest

from flow.tools.tcl import quote, settings
from halut.errors import HalutError
from tests.flow.tcl_stub import RELEASES, run_stub


@pytest.mark.needs("tcl")
def test_tcl_reads_what_was_written():
    values = {"path": "/a b/[c] $d", "list": ["x", ["y z", 1.5]], "on": True, "empty": []}
    text = settings(values, "given")
    calls = run_stub(
        [text, "foreach {k v} [array get given] { utl::metric $k $v }"], RELEASES[0]
    )  # fmt: skip
    found = {name: value for _, name, value in calls}
    assert found == {"path": "/a b/[c] $d", "list": "x {{y z} 1.5}", "on": "1", "empty": ""}


@pytest.mark.parametrize("name", ["a{b", "a\\b"])
def test_what_tcl_would_misread_is_refused(name):
    with pytest.raises(HalutError, match="balanced braces and no backslash"):
        quote(name)
