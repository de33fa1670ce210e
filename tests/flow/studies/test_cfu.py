"""The custom function unit in the flow: its workloads, the processor beside it, the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.designs.cfu import cfu, without_arrays
from flow.figures.metrics import METRICS, Metrics
from flow.studies.cfu import Row, markdown, processor_file
from halut.errors import HalutError
from rtl_gen.cfu import CfuConfig
from rtl_gen.cfu.config import ADD, READ, START, THRESHOLDS, WALK

PROCESSOR = """\
module Core (
  input               clk,
  output     [3:0]    sum
);
  Cache cache_1 (
    .clk (clk)  //i
  );
endmodule

module Cache (
  input               clk
);
  (* ram_style = "block" *) reg [7:0] bank [0:15];
  always @(posedge clk) begin
    if(write) begin
      bank[address] <= value[7 : 0];
    end
    if(read) begin
      found <= bank[place];
      other <= value;
    end
  end
endmodule
"""


def test_arrays_become_ports() -> None:
    text = without_arrays(PROCESSOR, ("Cache", "Absent"))
    assert "bank [0:15]" not in text
    assert text.startswith(
        "module Core (\n  input [7:0] Cache_array_bank__q,\n"
        "  output [3:0] Cache_array_bank__read,\n  output [11:0] Cache_array_bank__write,\n"
    )
    assert ".array_bank__q(Cache_array_bank__q),\n" in text
    assert "array_bank__write <= {address, value[7 : 0]};" in text
    assert "found <= array_bank__q;\n      array_bank__read <= place;" in text
    assert "other <= value;" in text and "output reg [11:0] array_bank__write," in text
    with pytest.raises(HalutError, match="must begin with a module"):
        without_arrays("wire x;", ())


@pytest.mark.parametrize(("work", "functions"), [("add", {START, ADD, READ}),
                                                 ("encode", {THRESHOLDS, WALK})])  # fmt: skip
def test_workloads(work: str, functions: set[int]) -> None:
    design = cfu(CfuConfig(n_sums=16), work)
    items = design.workload(1, 500)
    assert len(items.inputs.items) == len(items.outputs.items) >= 500
    assert {function & 7 for function, _, _ in items.inputs.items} == functions
    # 24 codebooks to 16 sums, two entries' words each, 16 sums read; 8 + 16 * 2 per codebook.
    wanted = {"add": 24 * 16 / (24 * 2 + 16), "encode": 16 / (8 + 32)}[work]
    assert items.look_ups == design.look_ups_per_cycle == wanted
    assert any(answer for (answer,) in items.outputs.items)


def test_table() -> None:
    whole, part = Metrics(), Metrics()
    for name in METRICS:
        whole.set(name, 200.0)
        part.set(name, 25.0)
    rows = [
        Row(name="processor", metrics=whole),
        Row(name="unit", metrics=part, look_ups_per_cycle=8, energy=1.5, energy_per_code=12.25),
    ]
    processor, unit = markdown(rows).splitlines()[2:]
    assert processor.startswith("| processor | 200 |") and "| 100.0 | – | – | – |" in processor
    assert unit.endswith("| 12.5 | 8 | 1.50 | 12.25 |")


def test_processor_is_found_or_named(tmp_path: Path) -> None:
    (tmp_path / "VexRiscv_Full.v").write_text("module VexRiscv;\nendmodule\n")
    assert processor_file("VexRiscv_Full", str(tmp_path)) == tmp_path / "VexRiscv_Full.v"
    with pytest.raises(HalutError, match=r"--processor must be a folder with VexRiscv_FullCfu\.v"):
        processor_file("VexRiscv_FullCfu", str(tmp_path))
