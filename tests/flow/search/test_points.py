"""Records of points, and what is known of a point before and after it was measured."""

import dataclasses

import pytest

from flow.search.model import Estimate
from flow.search.points import Record, Row
from flow.search.space import Space

RECORD = Record(
    key="k",
    status="measured",
    metrics={
        "synth__timing__setup__ws": 0.5,
        "synth__design__instance__area__stdcell": 90.0,
        "halut__energy__per_mac": None,
    },
    reasons={"halut__energy__per_mac": "no simulator"},
    provenance={"platform": "generic"},
    seconds=1.5,
    host="h",
    code="c",
)


def row():
    space = Space(name="s", axes={"rows": [2]}, base={"clock_ns": 4.0})
    return Row(point=space.points(None)[0])


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "a" / "k.json"
    RECORD.write(path)
    assert Record.read(path) == RECORD
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"version": 2, "key": "k", "status": "measured"}',
             '{"version": 1, "key": "k"}', '{"version": 1, "key": "k", "status": "x", "more": 1}']
)  # fmt: skip
def test_what_is_no_record_is_measured_anew(tmp_path, text):
    path = tmp_path / "k.json"
    assert Record.read(path) is None
    path.write_text(text)
    assert Record.read(path) is None


def test_known_before_and_after():
    one = row()
    assert one.estimated == one.measured == {"throughput": one.gmacs_per_s}
    one.estimate = Estimate(
        area_um2=100, energy_pj_per_cycle=8, period_ns=3, area_um2_per_mac_per_cycle=50,
        energy_pj_per_mac=4,
    )  # fmt: skip
    assert one.estimated == one.measured | {"area": 100, "energy": 4, "clock": 3}
    one.take(RECORD)
    assert one.status == "measured" and one.message == ""
    assert one.measured == {"throughput": one.gmacs_per_s, "area": 90, "clock": 3.5}
    one.take(dataclasses.replace(RECORD, status="failed", message="why", metrics={}))
    assert (one.status, one.message) == ("failed", "why")
    assert one.measured == {"throughput": one.gmacs_per_s}
