"""The direct engines through the flow: their netlists compute exact products."""

from __future__ import annotations

import dataclasses

import pytest

from flow.cells.platform_file import read_platform
from flow.designs.design import LOADING_WARM_UP
from flow.designs.direct import engine
from flow.measure import measure
from flow.run.options import RunOptions
from flow.studies.direct_cost import engine_of
from halut.errors import CheckFailed, HalutError
from rtl_gen.direct import DotProductConfig, EngineConfig, StoredMatrixConfig, SystolicConfig

SMALL = {
    "dot-product": DotProductConfig(length=2, columns=2, max_vectors=3, recode="weights"),
    "dot-product-latch": DotProductConfig(length=2, columns=2, max_vectors=2, weights="latch"),
    "systolic": SystolicConfig(rows=2, columns=2),
    "stored": StoredMatrixConfig(n_groups=2, group_features=2, n_outputs=2),
}


def _measure(design, folder):
    options = RunOptions(simulator="icarus", cycles=16)
    return measure(design, read_platform("generic"), options, folder)[0]


@pytest.mark.flow
@pytest.mark.needs("pyosys", "iverilog")
@pytest.mark.parametrize("name", SMALL)
def test_engines_go_through_the_flow(name, tmp_path):
    design = engine(SMALL[name])
    metrics = _measure(design, tmp_path)
    assert metrics.values["sim__transfers__checked"] > 0
    assert metrics.values["sim__latency__cycles"] == design.latency_cycles
    assert metrics.values["halut__design__macs_per_cycle"] == SMALL[name].macs_per_cycle
    assert metrics.values["sim__input_transfers__per_cycle"] == 1


@pytest.mark.parametrize("name", SMALL)
def test_loading_writes_matrices_over_one_another(name):
    config = SMALL[name]
    design = engine(config)
    assert EngineConfig.from_dict(dict(design.configuration)) == config
    if not config.program_words:
        assert design.loading is None
        return
    work, words = design.loading(1)
    assert words >= 256 and words % config.program_words == 0
    assert len(work.inputs.items) == LOADING_WARM_UP + words + 4
    assert work.inputs.valid == "program_valid" and work.macs == 0
    assert [stream.valid for stream in work.setup] == ["program_valid", "i_valid"]
    assert work.outputs.items
    assert len(set(work.inputs.items)) > words // 2  # random


@pytest.mark.flow
@pytest.mark.needs("pyosys", "iverilog")
def test_loading_is_measured(tmp_path):
    platform = read_platform("nangate45")
    try:
        platform.liberty_files()
    except HalutError:
        pytest.skip("the library nangate45 is not there (make doctor says how to get it)")
    options = RunOptions(simulator="icarus", cycles=16)
    metrics, _ = measure(engine(SMALL["dot-product-latch"]), platform, options, tmp_path)
    leakage = metrics.values["synth__power__leakage__total"] * options.clock_ns
    assert metrics.values["halut__energy__per_program_word"] > leakage > 0
    assert metrics.notes["loading"].endswith("256 words in 256 cycles")
    assert engine_of(metrics) == SMALL["dot-product-latch"]
    assert metrics.provenance["io_share"] == options.io_share


@pytest.mark.flow
@pytest.mark.needs("pyosys", "iverilog")
def test_a_wrong_adder_is_no_row(tmp_path):
    design = engine(SMALL["stored"])
    start = design.verilog.index("module halut_full_adder")
    end = design.verilog.index("endmodule", start)
    broken = (
        "module halut_full_adder(a, b, c, carry, sum);\n  input a, b, c;\n"
        "  output carry, sum;\n  assign sum = a ^ b ^ c;\n  assign carry = a & b;\n"
    )
    verilog = design.verilog[:start] + broken + design.verilog[end:]
    # The flow takes the full adder for what its name says, so the module is renamed as well.
    verilog = verilog.replace("halut_full_adder", "halut_wrong_adder")
    with pytest.raises(CheckFailed, match="the netlist must compute what the model says"):
        _measure(dataclasses.replace(design, verilog=verilog), tmp_path)
