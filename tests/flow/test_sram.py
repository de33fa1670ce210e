"""Tables in SRAM macros through the whole flow."""

import dataclasses
import re

import pytest

from flow.cells.platform_file import read_platform
from flow.designs.design import accelerator
from flow.measure import measure
from flow.run import mapping
from flow.run.options import RunOptions
from halut.errors import CheckFailed, HalutError
from rtl_gen.config import AcceleratorConfig
from rtl_gen.tiled_config import TiledConfig
from tests.flow.sram_support import CELL, platform_with_macro
from tests.flow.support import openroad_stand_in

pytestmark = [pytest.mark.flow, pytest.mark.needs("pyosys", "sim")]

# Tables of 24 words of 16 bits, read by two rows: four macros of 16 x 8 each.
CONFIG = AcceleratorConfig(
    n_codebooks=6, n_prototypes=4, n_outputs=2, rows=2, encoder="pipelined", input_format="int8",
    memory="sram", write_word_bits=16,
)  # fmt: skip
OPTIONS = RunOptions(clock_ns=4.0, layout="none")


@pytest.fixture
def platform(tmp_path, monkeypatch):
    try:
        read_platform("nangate45").liberty_files()
    except HalutError:
        pytest.skip("the library nangate45 is not there (make doctor says how to get it)")
    monkeypatch.setenv("FLOW_HOME", str(tmp_path / "home"))
    return platform_with_macro(tmp_path / "home")


def test_sizes_of_srams():
    assert accelerator(CONFIG).srams == [(24, 16)]
    several = TiledConfig(unit=CONFIG, codebook_tiles=2)
    assert accelerator(several).srams == [(24, 16)]
    assert accelerator(dataclasses.replace(CONFIG, memory="latch")).srams == []


def test_tables_in_macros(platform, tmp_path):
    """Two macros across and two deep, for each row; the netlist gives the model's results."""
    metrics, folder = measure(accelerator(CONFIG), platform, OPTIONS, tmp_path)
    values = metrics.values
    assert values["synth__design__instance__count__macros"] == 2 * 4
    assert values["synth__design__instance__area__macros"] == 8 * 200
    assert values["sim__latency__cycles"] == CONFIG.latency_cycles
    assert values["sim__transfers__checked"] > 10
    text = (folder / "netlist.v").read_text()
    assert len(re.findall(rf"^  {CELL} \w+ \(.*\.Q\({{", text, re.M)) == 8
    # A macro's clock alone takes 400 fJ in a cycle of 4 ns; four of the eight are read in each.
    sram = next(row for row in metrics.breakdown if row["unit"] == "SRAM")
    assert 4 * 0.09 < sram["internal_mw"] < 7 * 0.1
    assert metrics.notes["sram"].startswith("8 macros, 1,600 um2 of the area: 24 words of 16 bits")


def test_a_layout_with_macros(platform, tmp_path, monkeypatch):
    """With a stand-in for OpenROAD, whose layout is the netlist as it came."""
    openroad_stand_in(monkeypatch)
    options = dataclasses.replace(OPTIONS, layout="routed")
    metrics, folder = measure(accelerator(CONFIG), platform, options, tmp_path / "build")
    values = metrics.values
    assert values["halut__routed__transfers_checked"] == values["sim__transfers__checked"] > 10
    assert values["detailedplace__design__instance__area__stdcell"] == 3000  # macros with it
    # Other corners have no macros.
    assert set(metrics.notes["corners"]) == {"typ"}
    assert (folder / metrics.notes["gds"]["file"]).stat().st_size > 1000
    settings = (folder / "pnr" / "floorplan.settings.tcl").read_text()
    assert re.search(rf"^  macros \{{{CELL}\}}$", settings, re.M)
    assert f"lef/{CELL}.lef" in settings
    without = dataclasses.replace(platform, sram=dataclasses.replace(platform.sram, lef=""))
    with pytest.raises(HalutError, match=r"platform nangate45 has no sram\.lef"):
        measure(accelerator(CONFIG), without, options, tmp_path / "build")


def test_a_wrong_bit_of_a_macro_is_caught(platform, tmp_path, monkeypatch):
    """A data pin of the arrangement is wired to another one's bit."""
    right = mapping.sram_modules

    def wrong(*arguments):
        text = right(*arguments)
        assert "data[7:0]" in text
        return text.replace("data[7:0]", "{data[7:1], data[8]}")

    monkeypatch.setattr(mapping, "sram_modules", wrong)
    with pytest.raises(CheckFailed, match="must be"):
        measure(accelerator(CONFIG), platform, OPTIONS, tmp_path)


def test_what_macros_cannot_do(platform, tmp_path):
    design = accelerator(CONFIG)
    with pytest.raises(HalutError, match="prove must be off for tables in SRAM"):
        measure(design, platform, dataclasses.replace(OPTIONS, prove=True), tmp_path)
    with pytest.raises(HalutError, match="must list macros"):
        measure(design, read_platform("generic"), OPTIONS, tmp_path)
