"""The bus of `halut_axi`: proved as it is, refuted when something is broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Module

from flow.formal.axi import lite_check
from flow.formal.prove import prove_check
from flow.tools import find_abc, find_yosys
from rtl_gen.axi.lite import AxiLiteSlave

pytestmark = pytest.mark.flow
pytest.importorskip("pyosys", reason="needs pyosys (pip install -e .[flow])")


def test_slave_keeps_its_promises(tmp_path: Path) -> None:
    check = lite_check()
    found = prove_check(check, find_yosys(), find_abc(), tmp_path)
    assert [outcome.name for outcome in found] == [prop.name for prop in check.properties]
    assert [outcome.name for outcome in found if not outcome.good] == []


class Eager(AxiLiteSlave):
    """Answers writes that nobody asked for."""

    def build(self, m: Module, platform: object) -> None:
        super().build(m, platform)
        m.d.comb += self.bvalid.eq(1)


def test_answer_that_nobody_asked_for_is_refuted(tmp_path: Path) -> None:
    check = lite_check()
    asked = tuple(prop for prop in check.properties if prop.name == "b_asked")
    check = replace(check, unit=Eager, properties=asked)
    (found,) = prove_check(check, find_yosys(), find_abc(), tmp_path)
    assert not found.proved
