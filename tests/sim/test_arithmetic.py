# amaranth: UnusedElaboratable=no
"""Arithmetic units over many random operands, and corners, equal NumPy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from halut.errors import HalutError
from rtl_gen.units.float32 import FloatAdder, HalfToSingle, SingleToHalf
from rtl_gen.units.output_stage import ByteConverter, HalfConverter
from rtl_gen.units.unit import Unit
from sim import runner
from sim.arithmetic import build_bank

UNITS: dict[str, tuple[str, Callable[[], Unit]]] = {
    "half_12": ("half_converter", lambda: HalfConverter(width=12, relu=False)),
    "half_24": ("half_converter", lambda: HalfConverter(width=24, relu=True)),
    "half_32": ("half_converter", lambda: HalfConverter(width=32, relu=False)),
    "adder": ("float_adder", FloatAdder),
    "widening": ("half_to_single", HalfToSingle),
    "rounding": ("single_to_half", lambda: SingleToHalf(relu=False)),
    "rounding_relu": ("single_to_half", lambda: SingleToHalf(relu=True)),
    "byte_11": ("byte_converter", lambda: ByteConverter(width=11, relu=False)),
    "byte_32": ("byte_converter", lambda: ByteConverter(width=32, relu=True)),
}


def _run(name: str, n_cases: int, *, spoil: bool = False) -> None:
    try:
        runner.pick_simulator("verilator")
    except HalutError as error:
        pytest.skip(str(error))
    bench, make = UNITS[name]
    env = {"HALUT_CASES": str(n_cases), "HALUT_SPOIL": str(int(spoil))}
    result = runner.run(
        build_bank(make), "sim.benches.arithmetic", testcase=bench, env=env, timeout_s=600
    )
    assert len(result.tests) == 1


@pytest.mark.sim
@pytest.mark.parametrize("name", ["half_12", "adder", "widening", "rounding"])
def test_unit_equals_numpy(name: str) -> None:
    _run(name, 100_000)


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize("name", UNITS)
def test_unit_equals_numpy_on_millions(name: str) -> None:
    _run(name, 2_000_000)


@pytest.mark.sim
@pytest.mark.parametrize("name", ["half_12", "adder"])
def test_one_wrong_bit_is_caught(name: str) -> None:
    with pytest.raises(runner.SimulationFailed, match="result must be"):
        _run(name, 1000, spoil=True)
