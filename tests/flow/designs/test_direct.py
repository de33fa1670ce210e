"""The direct engines through the flow: their netlists compute exact products."""

from __future__ import annotations

import dataclasses

import pytest

from flow.cells.platform_file import read_platform
from flow.designs.direct import engine
from flow.measure import measure
from flow.run.options import RunOptions
from halut.errors import CheckFailed
from rtl_gen.direct import DotProductConfig, StoredMatrixConfig, SystolicConfig

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
