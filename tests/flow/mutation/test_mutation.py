"""Mutants: what is changed where, and a small campaign from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rtl_gen
from flow.mutation import campaign as campaign_module
from flow.mutation.campaign import CONFIGS, argued, summary, table
from flow.mutation.cli import main
from flow.mutation.equivalence import proved_equal
from flow.mutation.operators import apply, mutants, sample
from halut.errors import CheckFailed, HalutError
from sim.runner import available_simulators

UNIT = """\
module halut_control_g4_s5(clk_i, rst_ni, a, q);
  input clk_i;
  input rst_ni;
  input [3:0] a;
  wire [3:0] a;
  wire n;
  output q;
  reg q;
  reg [1:0] count;
  assign n = ~ a[0];
  always @(posedge clk_i)
    if (!rst_ni) count <= 2'h0;
    else if (n) count <= count - a[2:1];
  always @(posedge clk_i)
    q <= a[3] ? count[1] : n;
  halut_leaf_b1 leaf (
    .d(a[0]),
    .y(y)
  );
endmodule
module halut_leaf_b1(d, y);
  input d;
  output y;
  assign y = d;
endmodule
"""


def _after(before: str, operator: str) -> set[str]:
    return {
        mutant.after.strip()
        for mutant in mutants(UNIT)
        if mutant.before.strip().startswith(before) and mutant.operator == operator
    }


def test_operators_by_hand() -> None:
    assert _after("assign n", "negation dropped") == {"assign n =  a[0];"}
    assert _after("assign n", "select moved") == {"assign n = ~ a[1];"}
    assert _after("if", "constant") == {"if (!rst_ni) count <= 2'h1;"}
    assert _after("if", "constant, highest bit") == {"if (!rst_ni) count <= 2'h2;"}
    assert _after("if", "always") == {"if (1'h1) count <= 2'h0;"}
    assert _after("else", "always") == {"else count <= count - a[2:1];"}
    assert _after("else", "never") == {"else if (1'h0) count <= count - a[2:1];"}
    assert _after("else", "inverted condition") == {"else if (!(n)) count <= count - a[2:1];"}
    assert _after("else", "wrong operator") == {"else if (n) count <= count + a[2:1];"}
    assert _after("else", "swapped operands") == {"else if (n) count <= a[2:1] - count;"}
    assert _after("else", "select moved") == {"else if (n) count <= count - a[1:0];"}
    assert _after("q <=", "swapped arms") == {"q <= a[3] ? n : count[1] ;"}
    assert _after(".d", "stuck at 0") == {".d(1'h0),"}
    assert not _after(".y", "stuck at 0"), "an output is driven inside"


def test_sample_is_even_and_repeatable() -> None:
    population = mutants(rtl_gen.generate(CONFIGS["small"]).verilog)
    assert len({mutant.id for mutant in population}) == len(population) > 500
    chosen = sample(population, 40, 1)
    assert chosen == sample(population, 60, 1)[:40] != sample(population, 40, 2)
    kinds = {mutant.kind for mutant in population}
    assert {mutant.kind for mutant in chosen} == kinds
    assert len({mutant.operator for mutant in chosen}) > 8
    assert len(sample(population, 10**6, 1)) == len(population)


def test_apply() -> None:
    mutant = mutants(UNIT)[0]
    changed = apply(UNIT, mutant)
    differ = [k for k, pair in enumerate(zip(UNIT.split("\n"), changed.split("\n"), strict=True))
              if pair[0] != pair[1]]  # fmt: skip
    assert differ == [mutant.line]
    with pytest.raises(ValueError, match="must be"):
        apply(changed, mutant)


def test_equivalence() -> None:
    pytest.importorskip("pyosys")
    same = UNIT.replace("assign n = ~ a[0];", "assign n = a[0] ? 1'h0 : 1'h1;")
    assert proved_equal(UNIT, same, "halut_control_g4_s5")
    for wrong in (
        UNIT.replace("assign n = ~ a[0];", "assign n = a[0];"),
        UNIT.replace("count <= 2'h0", "count <= 2'h1"),
        UNIT.replace(".d(a[0])", ".d(a[1])"),
    ):
        assert wrong != UNIT
        assert not proved_equal(UNIT, wrong, "halut_control_g4_s5")


def test_summary_counts() -> None:
    records = [
        {"configuration": "a", "id": str(k), "status": status, "by": by}
        for k, (status, by) in enumerate(
            [("killed", "x"), ("killed", "y"), ("survived", None), ("survived", None),
             ("proved", None), ("rejected", None)]
        )
    ]  # fmt: skip
    found = summary(records, {"3": "why"})["a"]
    assert found["by"] == {"x": 1, "y": 1}
    assert (found["killed"], found["argued"], found["proved"], found["rejected"]) == (2, 1, 1, 1)
    assert found["survivors"] == ["2"]
    assert found["rate"] == pytest.approx(2 / 3)
    assert "66.7 %" in table({"a": found})


def test_every_argument_is_of_a_mutant() -> None:
    """The committed list has a reason for each, and no mutant that is gone."""
    ids = {m.id for config in CONFIGS.values() for m in mutants(rtl_gen.generate(config).verilog)}
    for mutant, reason in argued().items():
        assert mutant in ids, f"{mutant} is no mutant any more"
        assert len(reason) > 40


@pytest.mark.sim
@pytest.mark.flow
def test_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two mutants from end to end; a second run takes what is there; survivors fail the bar."""
    if "icarus" not in available_simulators():
        pytest.skip("icarus must be installed (apt install iverilog)")
    monkeypatch.chdir(tmp_path)  # builds are there, and nobody else's
    arguments = ["--config", "small", "--count", "2", "--jobs", "2", "-o", str(tmp_path)]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["configurations"]["small"]["killed"] == 2
    assert {record["by"] for record in report["mutants"]} == {"bench_matmul"}
    assert "100.0 %" in capsys.readouterr().out

    def survives(*_: object, **__: object) -> dict[str, object]:
        return {"status": "survived", "by": None, "reason": None, "seconds": 0}

    monkeypatch.setattr(campaign_module, "judge", survives)
    assert main(arguments) == 0, "nothing was judged again"
    with pytest.raises(CheckFailed, match=r"must kill 95 % .* but do not of small"):
        main([*arguments, "--seed", "2"])
    assert capsys.readouterr().out.count("survived: small") > 0


@pytest.mark.sim
def test_benches_must_pass_without_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bench that fails anyway kills every mutant and says nothing."""

    def fails(*_: object) -> None:
        raise CheckFailed("the bench is broken")

    monkeypatch.setattr(campaign_module, "BENCHES", {"broken": fails})
    with pytest.raises(CheckFailed, match="the bench is broken"):
        main(["--config", "small", "--count", "1", "--jobs", "1", "-o", str(tmp_path)])


def test_wrong_arguments() -> None:
    for arguments, message in (
        (["--count", "0"], "--count must be at least 1"),
        (["--bar", "101"], "--bar must be in"),
        (
            ["--config", "big"],
            "config must be one of small, double, bytes, axi, axi_stream, not 'big'",
        ),
    ):
        with pytest.raises(HalutError, match=message):
            main(arguments)
