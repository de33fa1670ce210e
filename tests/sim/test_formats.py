"""Every number format on the Verilog, in the two shapes of an accelerator, under every stall."""

from __future__ import annotations

import json

import pytest

from halut.errors import HalutError
from sim import runner
from sim.simulation import build_accelerator
from tests.sim.support import FORMATS, SHAPES, accelerator

# One of each kind; `make test-slow` runs all.
FAST = {("inputs_bf16", "p1q1"), ("inputs_fp8_e4m3", "p2q4"),
        ("to_int8_relu", "p2q4"), ("saturate", "p1q1"), ("lut_to_fp16", "p2q4")}  # fmt: skip


@pytest.mark.sim
@pytest.mark.parametrize(
    ("formats", "shape"),
    [
        pytest.param(formats, shape, marks=[] if (formats, shape) in FAST else [pytest.mark.slow])
        for formats in FORMATS
        for shape in SHAPES
    ],
)
def test_format_equals_model(formats: str, shape: str) -> None:
    try:
        runner.pick_simulator("verilator")
    except HalutError as error:
        pytest.skip(str(error))
    config = accelerator(formats, shape)
    built = build_accelerator(config, simulator="verilator")
    env = {"HALUT_CONFIG": json.dumps(config.to_dict())}
    result = runner.run(built, "sim.benches.matmul", env=env)
    assert len(result.tests) == 16
