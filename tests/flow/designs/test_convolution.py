"""An accelerator behind a front end through the flow: the netlist convolves as the model does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flow.__main__ import main
from flow.cells.platform_file import read_platform
from flow.designs.convolution import convolution
from flow.figures.metrics import Metrics
from flow.measure import measure
from flow.report.html import runs
from flow.run.options import RunOptions
from halut.cli import run
from halut.errors import CheckFailed
from rtl_gen.config import AcceleratorConfig
from rtl_gen.front_end import FrontEndConfig

SMALL = AcceleratorConfig(
    name="small", n_codebooks=2, n_prototypes=4, n_outputs=2, input_format="int4", lut_bits=4,
    encoder="pipelined", memory="ff",
)  # fmt: skip
CONFIGS = {
    "channel": FrontEndConfig(
        accelerator=dataclasses.replace(SMALL, rows=2), height=2, width=3, channels=2
    ),
    "any": FrontEndConfig(accelerator=SMALL, height=3, width=2, channels=1, gather="any"),
    "window": FrontEndConfig(
        accelerator=dataclasses.replace(SMALL, window=9), height=2, width=2, channels=2
    ),
}


def _measure(design, folder: Path) -> Metrics:
    options = RunOptions(simulator="icarus", cycles=16)
    return measure(design, read_platform("generic"), options, folder)[0]


@pytest.mark.flow
@pytest.mark.needs("pyosys", "iverilog")
@pytest.mark.parametrize("name", CONFIGS)
def test_the_netlist_convolves_as_the_model_does(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    a = config.accelerator
    metrics = _measure(convolution(config), tmp_path)
    values, pixels = metrics.values, config.height * config.width
    # At least the window's image and those before it, in whole images.
    assert values["sim__transfers__checked"] % (pixels // a.rows * a.n_beats) == 0
    assert values["sim__transfers__checked"] >= 3 * pixels // a.rows * a.n_beats
    assert values["sim__input_transfers__per_cycle"] == pixels / config.image_cycles
    # The pixel that completes a row group, the front end's cycle, the group's transfers.
    assert values["sim__latency__cycles"] == 1 + a.n_groups - 1 + a.latency_cycles
    macs = pixels * 9 * config.channels * a.n_outputs
    assert values["halut__design__macs_per_cycle"] == macs / config.image_cycles
    assert "front end" in {row["unit"] for row in metrics.breakdown}
    assert FrontEndConfig.from_dict(metrics.provenance["configuration"]) == config
    assert runs.read_run(next(tmp_path.glob("*/generic/*ns")), set()).config is None


@pytest.mark.flow
@pytest.mark.needs("pyosys", "iverilog")
def test_a_wrong_sum_is_found(tmp_path: Path) -> None:
    design = convolution(CONFIGS["channel"])

    def spoiled(seed: int, n_transfers: int):
        work = design.workload(seed, n_transfers)
        items = work.outputs.items
        items[-1] = (items[-1][0] ^ 1, *items[-1][1:])
        return work

    with pytest.raises(CheckFailed, match="the netlist must compute what the model says"):
        _measure(dataclasses.replace(design, workload=spoiled), tmp_path)


@pytest.mark.parametrize(("flags", "message"), [
    (["--height", "8"], "--height, --width and --channels must come together, not --height"),
    (["--height", "8", "--width", "8", "--channels", "4", "--program", "p.npz"],
     "--program must not be given with a front end"),
    (["--height", "8", "--width", "8", "--channels", "3"],
     "channels must be the accelerator's 4 codebooks"),
])  # fmt: skip
def test_flags(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(main, ["synth", "--config", "configs/small.yaml", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
