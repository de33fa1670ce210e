"""The custom function unit's Verilog answers what the exact model says."""

from __future__ import annotations

import json

import pytest

from rtl_gen.cfu import CfuConfig, generate
from sim import runner
from tests.sim.support import QUICK

CONFIGS = {
    "default": CfuConfig(),
    "nibbles": CfuConfig(lut_bits=4, n_sums=32, acc_bits=12),
    # An odd number of levels, one bank, sums as wide as an answer.
    "odd": CfuConfig(n_prototypes=8, n_sums=8, acc_bits=32),
    "stump": CfuConfig(n_prototypes=2, n_sums=24, acc_bits=20),
    "deep": CfuConfig(n_prototypes=64, n_sums=8, acc_bits=10),
}
QUICKLY = ("nibbles", "odd")


def _run(name: str, simulator: str | None) -> runner.RunResult:
    config = CONFIGS[name]
    built = runner.build(generate(config).verilog, "halut_cfu", simulator=simulator)
    env = {"HALUT_CFU": json.dumps(config.to_dict())}
    return runner.run(built, "sim.benches.cfu", env=env, timeout_s=300)


@pytest.mark.sim
@pytest.mark.parametrize(
    "name",
    [name if name in QUICKLY else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS],
)
def test_unit_equals_model(name: str) -> None:
    assert {test.partition("/")[0] for test in _run(name, QUICK).tests} == {
        "layers_under_stalls", "latency_and_rate", "extremes", "reset_amid_work",
        "a_wrong_bit_is_caught",
    }  # fmt: skip


@pytest.mark.sim
@pytest.mark.needs("verilator")
def test_unit_equals_model_in_verilator() -> None:
    _run("default", "verilator")
