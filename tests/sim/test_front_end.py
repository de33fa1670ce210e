"""A convolution from raw pixels on the Verilog."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from halut import golden
from halut.errors import CheckFailed
from rtl_gen.convolution import generate_convolution
from sim import runner
from tests.rtl_gen.test_front_end import _case, _config, _words


@pytest.mark.sim
@pytest.mark.parametrize("name", ["rows", "window"])
def test_convolution_equals_model(name: str, tmp_path: Path) -> None:
    config = _config(name)
    program, images = _case(config, 3)
    expected = golden.matmul(program, _words(program, images))
    (tmp_path / "job.json").write_text(json.dumps(config.to_dict()))
    program.save(tmp_path / "program.npz")
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "expected.npy", expected)
    text = generate_convolution(config).verilog
    env = {"HALUT_JOB": str(tmp_path)}
    built = runner.build(text, "halut_convolution")
    assert len(runner.run(built, "sim.benches.convolution", env=env).tests) == 4
    # A wrong tap of one level is noticed.
    which = "places" if config.accelerator.window else "split_dims"
    taps = getattr(program, which).copy()
    taps[0, 0] = taps[0, 0] // 9 * 9 + (taps[0, 0] + 1) % 9
    dataclasses.replace(program, **{which: taps}).save(tmp_path / "program.npz")
    with pytest.raises(CheckFailed):
        runner.run(built, "sim.benches.convolution", env=env)


def test_manifest() -> None:
    config = _config("any")
    generated = generate_convolution(config)
    manifest = generated.manifest
    module = re.search(r"^module halut_convolution\((.*?)\);", generated.verilog, re.M)
    assert module
    assert [p["name"] for p in manifest["ports"]] == module[1].split(", ")
    assert type(config).from_dict(manifest["configuration"]) == config
    assert generate_convolution(config).manifest_text == generated.manifest_text
