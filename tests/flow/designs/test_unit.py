"""Single units through the flow: their netlists compute what the model says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flow.cells.platform_file import read_platform
from flow.designs.design import accelerator
from flow.designs.unit import UNITS, unit_design
from flow.figures.metrics import Metrics
from flow.measure import measure
from flow.run.options import RunOptions
from halut.errors import CheckFailed, HalutError
from rtl_gen.config import AcceleratorConfig

SMALL = AcceleratorConfig(
    name="small", n_codebooks=4, n_prototypes=4, n_outputs=4, input_format="int4", lut_bits=4,
    encoder="pipelined", write_word_bits=8,
)  # fmt: skip
CONFIGS = {
    "serial": SMALL,
    "flip-flops": dataclasses.replace(SMALL, memory="ff"),
    "parallel": dataclasses.replace(SMALL, rows=2, parallel_codebooks=2),
    "all codebooks": dataclasses.replace(SMALL, parallel_codebooks=4, rows=2),
    "decoded": dataclasses.replace(SMALL, code_stages=1, decode_in_blocks=True),
    "decoded, parallel": dataclasses.replace(
        SMALL, parallel_codebooks=2, rows=2, code_stages=2, decode_in_blocks=True
    ),
}


def _measure(design, folder: Path) -> Metrics:
    options = RunOptions(simulator="icarus", cycles=16)
    return measure(design, read_platform("generic"), options, folder)[0]


@pytest.mark.flow
@pytest.mark.needs("pyosys", "iverilog")
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", UNITS)
def test_units_compute_what_the_model_says(kind: str, name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    design = unit_design(kind, config)
    metrics = _measure(design, tmp_path)
    assert metrics.values["sim__transfers__checked"] >= 16 // config.n_groups
    assert metrics.values["sim__input_transfers__per_cycle"] == 1
    assert metrics.values["halut__design__macs_per_cycle"] is None
    assert "a unit" in metrics.reasons["halut__design__macs_per_cycle"]
    assert metrics.values["halut__area__gate_equivalents"] > 0


@pytest.mark.flow
@pytest.mark.needs("pyosys", "iverilog")
@pytest.mark.parametrize("kind", UNITS)
def test_a_wrong_unit_has_no_row(kind: str, tmp_path: Path) -> None:
    """One bit of one item differs from what the model was given."""
    design = unit_design(kind, SMALL)

    def spoiled(seed: int, n_transfers: int):
        work = design.workload(seed, n_transfers)
        items = work.outputs.items
        items[-1] = tuple(value ^ 1 for value in items[-1])
        return work

    with pytest.raises(CheckFailed, match="the netlist must compute what the model says"):
        _measure(dataclasses.replace(design, workload=spoiled), tmp_path)


def test_a_unit_is_its_own_top() -> None:
    """So that its layout is a block of the accelerator, whose Verilog has the same module."""
    design = unit_design("decoders", SMALL)
    assert design.top in accelerator(SMALL).verilog
    assert design.verilog.count(f"module {design.top}") == 1


def test_operations_of_a_unit() -> None:
    assert UNITS["decoders"].operations(CONFIGS["parallel"]) == 2 * 2 * 2
    assert UNITS["encoder"].operations(CONFIGS["parallel"]) == 2


def test_what_is_no_unit() -> None:
    with pytest.raises(HalutError, match=r'not .decodr. \(did you mean "decoder"'):
        unit_design("decodr", SMALL)
    with pytest.raises(HalutError, match="memory must be latch or ff"):
        unit_design("decoder", dataclasses.replace(SMALL, memory="lutram"))
