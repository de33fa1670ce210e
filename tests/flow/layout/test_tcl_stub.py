"""The stand-in for OpenROAD catches what a release does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow.tcl_stub import RELEASES, StubError, interpreters, run_stub

pytestmark = pytest.mark.needs("tcl")


@pytest.mark.parametrize("interpreter", interpreters())
@pytest.mark.parametrize("release", RELEASES)
def test_calls_are_recorded(release: str, interpreter: str, tmp_path: Path) -> None:
    script = tmp_path / "with {odd} name.tcl"
    script.write_text('global_placement -density $density -timing_driven\nset name "é {x} [get_n]"')
    calls = run_stub(
        ["set density 0.6; proc get_n {} { get_name y }", script, "utl::metric a $name; exit 3",],
        release,
        returns={"get_name": "a\nb"},
        interpreter=interpreter,
    )  # fmt: skip
    assert calls == [
        ["global_placement", "-density", "0.6", "-timing_driven"],
        ["get_name", "y"],
        ["utl::metric", "a", "é {x} a\nb"],
    ]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("global_placment", "global_placment must be a command of OpenROAD 25Q4"),
        ("proc f {} { nothing -x }\nf", "nothing must be a command"),
        ("global_placement -densty 0.6", "global_placement must have flags it knows, not -densty"),
        # OpenROAD would take the beginning of a flag.
        ("global_placement -timing", "not -timing "),
        ("global_placement -density", "-density must have a value"),
        ("global_placement 0.6", "must have 0 to 0 words, not 1"),
        ("read_spef", "must have 1 to 1 words, not 0"),
        ("puts $no_such_variable", "no_such_variable"),
    ],
)
def test_mistakes_are_caught(script: str, message: str) -> None:
    with pytest.raises(StubError, match=message):
        run_stub(script, "25Q4")


@pytest.mark.parametrize(
    ("script", "only"),
    [
        ("global_placement -force_center_initial_place", "26Q3"),
        ("repair_timing -phases x", "26Q3"),
        ("report_power -format json", "26Q3"),
        ("report_checks -corner x", "25Q4"),
        ("report_checks -scenes x", "26Q3"),
        ("define_scene x -liberty y", "26Q3"),
    ],
)
def test_releases_differ(script: str, only: str) -> None:
    assert len(run_stub(script, only)) == 1
    (other,) = set(RELEASES) - {only}
    with pytest.raises(StubError, match=f"OpenROAD {other}"):
        run_stub(script, other)


def test_release_can_be_tested_for() -> None:
    script = """
    if {[catch {report_power -format json}]} { report_power }
    if {[llength [info commands set_scene]]} { set_scene fast }
    """
    assert [call[0] for call in run_stub(script, "26Q3")] == ["report_power", "set_scene"]
    assert [call[0] for call in run_stub(script, "25Q4")] == ["report_power", "report_power"]


def test_files_are_left(tmp_path: Path) -> None:
    calls = run_stub(
        f"write_db {tmp_path}/a.odb; report_checks -digits 4 > {tmp_path}/b.rpt\n"
        f"report_checks >>{tmp_path}/c.rpt",
        "25Q4",
    )
    assert len(calls) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.odb", "b.rpt", "c.rpt"]


def test_objects() -> None:
    calls = run_stub("set_load 1 [get_ports -quiet clk]; set_propagated_clock [all_clocks]", "25Q4")
    assert calls[1] == ["set_load", "1", "clk"]
    assert calls[3] == ["set_propagated_clock", "all_clocks"]
