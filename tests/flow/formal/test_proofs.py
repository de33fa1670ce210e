"""Properties of the units: proved as they are, refuted when something is broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Module

import rtl_gen.units.encoder
from flow.formal.checkers import (
    comparator_check,
    control_check,
    encoder_check,
    output_check,
    tiled_check,
)
from flow.formal.checks import all_checks
from flow.formal.cli import main
from flow.formal.prove import Check, Outcome, Property, prove_check
from flow.formal.still import StillCheck, prove_still
from flow.formal.whole import BoundCheck, prove_bound
from flow.tools import find_abc, find_yosys
from halut.errors import CheckFailed, HalutError
from rtl_gen import AcceleratorConfig
from rtl_gen.units.comparator import Comparator
from rtl_gen.units.encoder import Encoder

pytestmark = pytest.mark.flow
pytest.importorskip("pyosys", reason="needs pyosys (pip install -e .[flow])")

CONFIG = AcceleratorConfig(
    n_codebooks=2, n_prototypes=2, n_outputs=2, input_format="fp8_e4m3", lut_bits=4
)


def prove(check: Check, folder: Path) -> list[Outcome]:
    return prove_check(check, find_yosys(), find_abc(), folder)


@pytest.mark.parametrize(
    "check",
    [
        control_check("tiny", CONFIG),
        output_check("tiny", replace(CONFIG, outputs_per_cycle=1)),
        encoder_check("tiny", CONFIG),
        tiled_check("tiny", {"codebook_tiles": 2}),
    ],
    ids=lambda check: check.name,
)
def test_unit_keeps_its_promises(check: Check, tmp_path: Path) -> None:
    found = prove(check, tmp_path)
    assert [outcome.name for outcome in found] == [prop.name for prop in check.properties]
    assert [outcome.name for outcome in found if not outcome.good] == []


class NotStrict(Comparator):
    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        m.d.comb += self.greater.eq(self.value >= self.threshold)


def test_broken_comparator_is_refuted_by_equal_operands(tmp_path: Path) -> None:
    check = replace(comparator_check(4), unit=lambda: NotStrict(width=4))
    (found,) = prove(check, tmp_path)
    assert not found.proved
    last = dict(word.split("=") for word in found.example.splitlines()[-1].split()[2:])
    assert last["value"] == last["threshold"]


def test_encoder_that_ignores_nan_is_refuted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        rtl_gen.units.encoder,
        "comparison_key",
        lambda m, name, word, _: Cat(word[:7] ^ word[7].replicate(7), word[7]).as_signed(),  # noqa: ARG005
    )
    found = {outcome.name: outcome for outcome in prove(encoder_check("nan", CONFIG), tmp_path)}
    assert not found["special"].proved
    assert "words=" in found["special"].example


def test_twin_that_is_no_twin_is_told(tmp_path: Path) -> None:
    check = comparator_check(3)
    check = replace(check, properties=(Property("greater", "the twin changes nothing", 7),))
    (found,) = prove(check, tmp_path)
    assert found.proved
    assert not found.refuted
    assert not found.good


def test_checker_without_the_output_is_refused(tmp_path: Path) -> None:
    check = replace(comparator_check(3), properties=(Property("nonsense", "nothing", 1),))
    with pytest.raises(HalutError, match="must have an output bad_nonsense"):
        prove(check, tmp_path)


def test_nothing_moves_without_an_enable(tmp_path: Path) -> None:
    check = StillCheck(
        name="still", unit=lambda: Encoder(CONFIG), inputs=("enable", "write_enable")
    )
    (found,) = prove_still(check, find_yosys(), find_abc(), tmp_path)
    assert found.good
    (found,) = prove_still(
        replace(check, inputs=("write_enable",)), find_yosys(), find_abc(), tmp_path
    )
    assert not found.proved


def test_accumulators_hold_every_sum() -> None:
    (found,) = prove_bound(BoundCheck())
    assert found.good


def test_every_property_has_a_twin_and_every_check_a_name() -> None:
    checks = all_checks()
    assert len({check.name for check in checks}) == len(checks) > 50
    for check in checks:
        if isinstance(check, Check):
            assert check.properties
            assert all(0 < prop.twin < 256 for prop in check.properties)


def test_command_proves_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "comparator_2,comparator_3", "-o", str(tmp_path), "-j", "1"]) == 0
    report = json.loads((tmp_path / "formal" / "report.json").read_text())
    assert [row["proved"] for row in report["properties"]] == [True, True]
    assert [row["twin_refuted"] for row in report["properties"]] == [True, True]
    assert "2 of 2 properties of 2 units proved" in capsys.readouterr().out


def test_command_fails_when_a_property_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(comparator_check(2), unit=lambda: NotStrict(width=2))
    monkeypatch.setattr("flow.formal.checks.all_checks", lambda: [broken])
    with pytest.raises(CheckFailed, match="comparator_2 must keep: 1 exactly where"):
        main(["-o", str(tmp_path)])
    assert "greater is broken by:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nonsense"], "--only must be among bound, netlist, control, "),
        (["--jobs", "-1"], "--jobs must be at least 0, not -1"),
        (["--timeout", "0"], "--timeout must be seconds above 0, not 0"),
    ],
)
def test_command_refuses(arguments: list[str], message: str) -> None:
    with pytest.raises(HalutError, match=message):
        main(arguments)


def test_list_proves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "control_g1_double"]) == 0
    assert "offered: no row group begins" in capsys.readouterr().out


OTHERS = {
    "sums": replace(CONFIG, n_prototypes=4, input_format="int3", terms=2, write_word_bits=8),
    "window": replace(CONFIG, n_prototypes=4, input_format="fp8_e4m3", window=3),
    "node": replace(CONFIG, n_prototypes=4, input_format="int3", window=3, splits="node"),
}
"""Encoders that compare sums of words, or words of a window."""


@pytest.mark.parametrize("name", OTHERS)
def test_other_encoders_keep_their_promises(name: str, tmp_path: Path) -> None:
    found = prove(encoder_check(name, OTHERS[name]), tmp_path)
    assert [outcome.name for outcome in found if not outcome.good] == []


def test_an_encoder_that_selects_another_word_is_refuted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    select = rtl_gen.units.encoder.select_word
    monkeypatch.setattr(
        rtl_gen.units.encoder, "select_word", lambda lines, keys: select(lines, keys[::-1])
    )
    (found,) = prove(encoder_check("reversed", OTHERS["node"]), tmp_path)
    assert not found.proved
