"""``flow synth`` and ``flow pnr`` as commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.__main__ import main
from halut.cli import run
from rtl_gen.config import AcceleratorConfig

pytestmark = [pytest.mark.flow, pytest.mark.needs("pyosys", "sim")]
SMALL = Path(__file__).parents[2] / "configs" / "small.yaml"


def test_the_command_line(tmp_path, capsys):
    arguments = ["synth", "--config", str(SMALL), "-o", str(tmp_path), "-q"]
    assert run(main, arguments) == 0
    out = capsys.readouterr().out
    assert "small on generic" in out and out.splitlines()[-1].startswith("wrote ")
    rules = tmp_path / "rules.json"
    rules.write_text('{"halut__area__gate_equivalents": {"value": 1, "compare": "<="}}')
    assert run(main, [*arguments, "--rules", str(rules)]) == 1
    captured = capsys.readouterr()
    assert "same numbers as the run before" in captured.out
    assert captured.err.startswith("error: halut__area__gate_equivalents must be <= 1, not")


def test_a_given_program_and_input(tmp_path, capsys):
    from halut.golden import random_program

    config = AcceleratorConfig.from_yaml(SMALL)
    rng = np.random.default_rng(5)
    program = random_program(
        rng,
        n_codebooks=config.n_codebooks,
        n_prototypes=config.n_prototypes,
        n_outputs=config.n_outputs,
        input_format=config.input_format,
        lut_bits=config.lut_bits,
    )
    program.save(tmp_path / "p.npz")
    np.save(tmp_path / "a.npy", rng.integers(-128, 128, (7, program.n_features)).astype(float))
    arguments = ["synth", "--config", str(SMALL), "-o", str(tmp_path), "-q"]
    given = ["--program", str(tmp_path / "p.npz"), "--input", str(tmp_path / "a.npy")]
    assert run(main, [*arguments, *given]) == 0
    assert "given program, given rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synth"], "required: --config"),
        (["synt"], 'did you mean "synth"'),
        (["synth", "--config", "none.yaml"], "none.yaml"),
        (["synth", "--config", str(SMALL), "--platfrom", "x"], 'did you mean "--platform"'),
        (["synth", "--config", str(SMALL), "--platform", "nangat45"], 'mean "nangate45"'),
        (["synth", "--config", str(SMALL), "--clock-ns", "-1"], "--clock-ns must be a positive"),
        (["synth", "--config", str(SMALL), "--clock-ns", "x"], "invalid float value"),
        (["synth", "--config", str(SMALL), "--adder", "riple"], 'did you mean "ripple"'),
        (["synth", "--config", str(SMALL), "--effort", "max"], "effort must be one of"),
        (["synth", "--config", str(SMALL), "--flatten", "a;b"], "patterns of module names"),
        (
            ["synth", "--config", str(SMALL), "--gate-min", "-2"],
            "gate_min must be an integer in [0, 1000000]",
        ),
        (["synth", "--config", str(SMALL), "--yosys", "nosuch"], "not nosuch"),
        (["synth", "--config", str(SMALL), "--input", "a.npy"], "--input must come with"),
        (["synth", "--config", str(SMALL), "--rules", "none.json"], "rules must be readable"),
        (["synth", "--config", str(SMALL), "--baseline", "none.json"], "metrics must be readable"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(tmp_path, capsys, arguments, message):
    if arguments[0] == "synth":
        arguments = [*arguments, "-o", str(tmp_path / "out")]
    assert run(main, arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("metrics.json"))


@pytest.mark.parametrize("arguments", [["--help"], ["synth", "--help"], ["platforms", "--help"]])
def test_help_works(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    assert "usage: python -m flow" in capsys.readouterr().out


def test_platforms_are_listed(capsys):
    assert main(["platforms"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == [
        "asap7", "generic", "nangate45", "osu018", "sky130hd",
    ]  # fmt: skip
