"""Flags that several commands share: all of them end in the run's options."""

from __future__ import annotations

import argparse

import pytest

from flow.__main__ import main
from flow.run.flags import add_run_arguments, among, run_options
from flow.run.options import RunOptions
from halut.errors import HalutError

GIVEN = {
    "clock_ns": 3.0, "target_ns": 2.0, "yosys": "y", "sta": "s", "simulator": "icarus",
    "seed": 7, "cycles": 99, "force": True,
}  # fmt: skip
FLAGS = [
    word
    for name, value in GIVEN.items()
    for word in (f"--{name.replace('_', '-')}", *([] if value is True else [str(value)]))
]


def test_every_flag_is_an_option():
    parser = argparse.ArgumentParser()
    add_run_arguments(parser, platform="generic")
    options = run_options(parser.parse_args([*FLAGS, "--corner", "slow"]), power=False)
    assert options == RunOptions(**GIVEN, corner="slow", power=False)
    defaults = run_options(parser.parse_args([]))
    assert defaults == RunOptions()
    assert run_options(parser.parse_args(FLAGS), target_ns=5.0).target_ns == 5.0


@pytest.mark.parametrize("command", ["synth", "pnr", "bench", "units", "tables"])
def test_every_command_takes_them(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    listed = {word.strip(",") for word in capsys.readouterr().out.split()}
    assert {word for word in FLAGS if word.startswith("--")} <= listed


def test_only_a_command_of_one_platform_takes_a_corner():
    parser = argparse.ArgumentParser()
    defaults = RunOptions(clock_ns=1.6, target_ns=1.1, cycles=8)
    add_run_arguments(parser, platform=None, defaults=defaults)
    names = vars(parser.parse_args([]))
    assert {"platform", "corner"}.isdisjoint(names)
    assert run_options(parser.parse_args([])) == defaults


@pytest.mark.parametrize("flag", ["--clock-ns", "--target-ns"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e6"])
def test_a_period_is_positive(flag, value):
    parser = argparse.ArgumentParser()
    add_run_arguments(parser, platform="generic")
    with pytest.raises(HalutError, match=f"{flag} must be a positive number of ns, not "):
        run_options(parser.parse_args([f"{flag}={value}"]))


def test_names_are_known():
    assert among("--rows", " a,b ,", ("a", "b", "c")) == ["a", "b"]
    assert among("--rows", "", "abc") == []
    with pytest.raises(HalutError, match=r"--rows must be among dense, small, not 'smal' \(did"):
        among("--rows", "dense,smal", ("dense", "small"))
