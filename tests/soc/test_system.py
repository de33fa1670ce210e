"""The whole system: small networks on VexRiscv in Verilator, every layer compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut.errors import HalutError
from rtl_gen.cfu import CfuConfig
from rtl_gen.config import AcceleratorConfig
from sim.runner import SimulationFailed
from soc.__main__ import main
from soc.accelerator import bus_block
from soc.system import build_system
from tests.soc.support import LITEX, tiny_network


@pytest.mark.slow
@pytest.mark.needs("verilator", "riscv64-unknown-elf-gcc", "litex")
def test_four_ways_give_every_layer_of_the_model(tmp_path: Path, capsys) -> None:
    network = tiny_network(tmp_path / "net")
    folder = tmp_path / "soc"
    arguments = [
        "--network", str(network), "--litex", LITEX, "-o", str(folder),
        "--images", "3", "--software-images", "2", "--plain-images", "2",
    ]  # fmt: skip
    assert main(arguments) == 0
    result = json.loads((folder / "soc.json").read_text())
    plain, software, unit, accelerator = result["ways"]
    assert [way["images"] for way in result["ways"]] == [2, 2, 3, 3]
    assert all(way["wrong_layers"] == way["wrong_outputs"] == 0 for way in result["ways"])
    assert unit["custom_instructions"] > 0 == software["custom_instructions"]
    assert 0 < accelerator["busy_cycles"] < accelerator["cycles"] < software["cycles"]
    assert accelerator["master_read_words"] > accelerator["master_written_words"] > 0
    assert unit["cycles"] < software["cycles"] < plain["cycles"]
    assert "layers equal the model" in capsys.readouterr().out
    # The run can fail: one bit of a constant, and one of what a layer must give.
    words = (folder / "firmware" / "rom.init").read_text().split()
    expected = (folder / "firmware" / "expected.h").read_text()
    found = re.search(r"looked_up_sums\[\d+\] = \{(\d+)U", expected)
    assert found
    block = bus_block(AcceleratorConfig.from_yaml("configs/options/soc.yaml"))
    system = build_system(Path(LITEX), CfuConfig(), block, folder / CfuConfig().slug)
    for place, message in (
        (len(words) // 2, "check sum|wrong|error"),
        (words.index(f"{int(found[1]):08x}"), "failed"),
    ):
        spoiled = tmp_path / "spoiled.init"
        changed = f"{int(words[place], 16) ^ 1:08x}"
        spoiled.write_text("\n".join([*words[:place], changed, *words[place + 1 :]]) + "\n")
        with pytest.raises(SimulationFailed, match=message):
            system.run(spoiled, 100_000_000, 600)


def test_what_is_missing_is_one_line(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HalutError, match=r"apt install .*gcc-riscv64-unknown-elf"):
        main(["--check"])
