"""``python -m rtl_gen schedule``: what it prints is what the schedule holds."""

from __future__ import annotations

import json

import pytest

from halut.cli import run
from halut.schedule import schedule
from rtl_gen.__main__ import main
from rtl_gen.machine import machine
from rtl_gen.tiled_config import load_config


def test_json_holds_both_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    path = "configs/four_units.yaml"
    command = ["schedule", "--config", path, "--shape", "1000", "290", "70", "--row-block", "96"]
    assert run(main, [*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    config = load_config(path)
    assert found["n_codebooks"] == 33 and found["tiles"] == {"codebooks": 3, "outputs": 3}
    cycles = {}
    for order, given in found["orders"].items():
        plan = schedule(1000, 33, 70, machine(config), order=order, row_block=96)
        cycles[order] = plan.cycles
        for key, value in {
            "cycles": plan.cycles, "loads": plan.n_loads, "load_cycles": plan.load_cycles,
            "row_groups": plan.row_groups, "utilisation": plan.utilisation,
            "partial_sums": plan.partial_sums, "row_block": plan.row_block,
        }.items():  # fmt: skip
            assert given[key] == value
        assert given["steps"] == [vars(step) for step in plan.steps]
    assert set(cycles) == {"tables", "rows"} and cycles["tables"] < cycles["rows"]
    assert found["fewest_cycles"] == "tables"

    assert run(main, command) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("cycles in all"))
    assert line.split()[3:] == [f"{cycles['tables']:,}", f"{cycles['rows']:,}"]
    assert "33 codebooks, in 3 x 3 tiles" in text and text.endswith("fewest cycles: tables\n")


def test_codebook_width(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["schedule", "--config", "configs/small.yaml", "--shape", "10", "64", "2"]
    for width, codebooks in ((None, 8), (16, 4), (4, 16)):
        flags = [] if width is None else ["--codebook-width", str(width)]
        assert run(main, [*command, *flags, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["n_codebooks"] == codebooks


@pytest.mark.parametrize(("flags", "message"), [
    (["--shape", "0", "9", "1"], "--shape must be of integers of at least 1, not 0"),
    (["--shape", "9", "9", "1", "--row-block", "0"], "--row-block must be of integers"),
    (["--shape", "1000000000", "900", "100", "--row-block", "1"], "--shape must give at most"),
    (["--shape", "1", "x", "1"], "invalid int value: 'x'"),
])  # fmt: skip
def test_refuses(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(main, ["schedule", "--config", "configs/small.yaml", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
