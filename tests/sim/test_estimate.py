"""What does not fit this machine is refused before a build starts, with an estimate."""

from __future__ import annotations

import pytest

import halut.memory
import rtl_gen
from halut.errors import HalutError
from rtl_gen import AcceleratorConfig
from sim import hierarchy, runner
from sim.estimate import check_size, needed_bytes

UNIT = "module unit(a);\n" + "  // logic\n" * 98 + "endmodule\n"
TOP = "module top(a);\n" + "  unit u (\n  );\n" * 10 + "endmodule\n"


def test_every_instance_counts_and_a_block_once():
    assert hierarchy.lines_written_out(UNIT, "unit") == 99
    assert hierarchy.lines_written_out(UNIT + TOP, "top") == 10 * 99 + 21
    assert hierarchy.lines_written_out(UNIT + TOP, "top", ["unit"]) == 99 + 10 + 21


def test_an_accelerator_is_larger_with_more_outputs():
    small, large = (
        rtl_gen.generate(AcceleratorConfig(n_codebooks=2, n_outputs=m)).verilog for m in (2, 8)
    )
    ratio = hierarchy.lines_written_out(large, "halut_matmul") / hierarchy.lines_written_out(
        small, "halut_matmul"
    )
    assert 2 < ratio < 4


@pytest.mark.parametrize(("thousand_lines", "gigabytes"), [(2, 0.30), (70, 0.31), (254, 0.67)])
def test_estimates_are_within_a_factor_of_two_of_what_was_measured(thousand_lines, gigabytes):
    assert 0.5 < needed_bytes(1000 * thousand_lines) / 1e9 / gigabytes < 2


def test_what_does_not_fit_is_refused_before_anything_is_built(monkeypatch, tmp_path):
    monkeypatch.setattr(halut.memory, "available_bytes", lambda: 10**8)
    monkeypatch.setattr(runner, "_build", lambda *_: pytest.fail("it began"))
    message = (
        r"memory must be about 0\.202 GB to build its simulation, not 0\.1 GB \(top: 1011 lines"
    )
    with pytest.raises(HalutError, match=message):
        runner.build(UNIT + TOP, "top", root=tmp_path)


@pytest.mark.needs("verilator")
def test_blocks_count_once_but_with_waves(monkeypatch, tmp_path):
    """Every instance is translated where signals are recorded, so every one counts."""
    monkeypatch.setattr(hierarchy, "blocks", lambda *_: ["unit"])
    monkeypatch.setattr(runner, "_build", lambda *_: None)
    counted = []
    monkeypatch.setattr(runner, "check_size", lambda *arguments: counted.append(list(arguments[3])))
    for waves in (False, True):
        runner.build(UNIT + TOP, "top", simulator="verilator", waves=waves, root=tmp_path)
    assert counted == [["unit"], []]


def test_where_memory_is_not_known_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(halut.memory, "available_bytes", lambda: None)
    check_size(UNIT + TOP, "top", "build its simulation")
