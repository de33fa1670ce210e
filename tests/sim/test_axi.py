"""`halut_axi` on its Verilog: every test of the bench, on one accelerator of every kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from halut.errors import CheckFailed, HalutError
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.generate import register_files
from sim import runner
from sim.axi import build_axi, main, write_job
from tests.rtl_gen.axi.support import CONFIGS
from tests.sim.axi_examples import example
from tests.sim.support import QUICK

pytest.importorskip(
    "cocotbext.axi", reason="cocotbext-axi is not installed (pip install -e .[dev])"
)
pytestmark = pytest.mark.sim
N_TESTS = {"master": 13, "stream": 10}
QUICK_TESTS = {
    "master": ("registers_are_as_described", "runs_under_stalls", "bus_errors"),
    "stream": ("runs_under_stalls", "bad_packets"),
}
"""Of the bench; the slow tests run all."""


def _bench(config: AxiConfig) -> str:
    return "sim.benches.axi_stream" if config.bus == "stream" else "sim.benches.axi"


def _job(folder: Path, config: AxiConfig, *, wrong_bit: bool = False) -> dict[str, str]:
    program, words, expected = example(config)
    if wrong_bit:
        expected = expected.copy()
        expected.view(f"u{expected.itemsize}").flat[-1] ^= 1
    header = register_files(config)[".h"]
    write_job(folder, config, program, words, expected, **{"registers.h": header})
    return {"HALUT_JOB": str(folder)}


@pytest.mark.parametrize("name", ["small", "stream", "sums"])
def test_bench(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    built = build_axi(config, simulator=QUICK)
    tests = QUICK_TESTS[config.bus]
    done = runner.run(built, _bench(config), testcase=tests, env=_job(tmp_path, config))
    assert len(done.tests) == len(tests) + 3  # runs_under_stalls is four
    # A wrong bit of one result is noticed.
    job = _job(tmp_path, config, wrong_bit=True)
    with pytest.raises(CheckFailed, match="results must equal the model: 1 of"):
        runner.run(built, _bench(config), testcase="runs_under_stalls", env=job)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_every_kind(name: str, simulator: str, tmp_path: Path) -> None:
    if simulator not in runner.available_simulators():
        pytest.skip(f"{simulator} is not installed")
    config = CONFIGS[name]
    built = build_axi(config, simulator=simulator)
    done = runner.run(built, _bench(config), env=_job(tmp_path, config), seed=7)
    assert len(done.tests) == N_TESTS[config.bus]


@pytest.mark.slow
def test_measure(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows stream within 1.2 times the accelerator's own cycles; a command costs under 100."""
    config = Path(__file__).parents[2] / "configs" / "small.yaml"
    assert main(["--config", str(config)]) == 0
    printed = capsys.readouterr().out
    found = re.search(
        r"(\d+) row groups in (\d+) cycles.*accelerator (\d+).*doorbell (\d+)", printed
    )
    assert found, printed
    groups, cycles, each, doorbell = map(int, found.groups())
    assert groups >= 256 and groups * each <= cycles <= 1.2 * groups * each
    assert 0 < doorbell < 100
    with pytest.raises(HalutError, match="--bus must be master to measure, not stream"):
        main(["--config", str(config), "--bus", "stream"])
