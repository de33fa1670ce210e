"""Designs for OpenROAD-flow-scripts: what make makes of config.mk, what STA makes of the SDC."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flow.cells.platform_file import read_platform
from flow.designs.design import Design, accelerator
from flow.layout.orfs import OrfsOptions, constraint_sdc, main, rules, write_design
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from tests.flow.support import PLATFORM
from tests.flow.tcl_stub import RELEASES, run_stub

# Variables of ORFS' scripts/variables.yaml that a design may set.
KNOWN = {
    "ABC_AREA",
    "ABC_CLOCK_PERIOD_IN_PS",
    "ADDER_MAP_FILE",
    "CORE_ASPECT_RATIO",
    "CORE_MARGIN",
    "CORE_UTILIZATION",
    "DESIGN_NAME",
    "DESIGN_NICKNAME",
    "INFER_CLKGATES",
    "PLACE_DENSITY",
    "PLACE_DENSITY_LB_ADDON",
    "PLATFORM",
    "POS_CLKGATE_AND_PORTS",
    "RULES_JSON",
    "SDC_FILE",
    "SYNTH_HIERARCHICAL",
    "TNS_END_PERCENT",
    "VERILOG_FILES",
}
# Metrics that ORFS' own designs have rules for.
METRICS = {
    "constraints__clocks__count",
    "detailedplace__design__violations",
    "detailedroute__antenna__violating__nets",
    "detailedroute__route__drc_errors",
    "finish__timing__hold__ws",
    "finish__timing__setup__ws",
}
CONFIG = Path(__file__).parents[3] / "configs" / "small.yaml"
OPTIONS = OrfsOptions(clock_ns=2.5, utilisation=45)


@pytest.fixture(scope="module")
def design() -> Design:
    return accelerator(AcceleratorConfig.from_yaml(CONFIG))


def _variables(path: Path) -> dict[str, str]:
    """What make makes of a config.mk: exported variables, expanded."""
    before = "include config.mk\n"
    names = re.findall(r"^export (\w+)", path.read_text(), re.M)
    lines = "".join(f"\t@echo '{name}=$({name})'\n" for name in names)
    done = subprocess.run(
        ["make", "-s", "-f", "-", "show"],
        input=f"{before}show:\n{lines}",
        capture_output=True,
        text=True,
        cwd=path.parent,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("platform", ["nangate45", "asap7", "sky130hd"])
@pytest.mark.needs("make")
def test_folder(design: Design, platform: str, tmp_path: Path) -> None:
    path = write_design(design, read_platform(platform), OPTIONS, tmp_path)
    assert path == tmp_path / design.slug / "orfs" / platform / "config.mk"
    variables = _variables(path)
    assert set(variables) <= KNOWN
    assert variables["PLATFORM"] == platform
    assert variables["DESIGN_NAME"] == "halut_matmul"
    assert variables["DESIGN_NICKNAME"] == design.slug
    assert variables["CORE_UTILIZATION"] == "45"
    assert variables["ABC_CLOCK_PERIOD_IN_PS"] == "2500"
    files = [*variables["VERILOG_FILES"].split(), variables["SDC_FILE"]]
    assert all(Path(name).is_file() and Path(name).is_absolute() for name in files)
    # No path of this machine: the folder can be moved.
    assert str(tmp_path) not in "".join(file.read_text() for file in path.parent.iterdir())
    moved = shutil.move(path.parent, tmp_path / "moved")
    assert str(moved) in _variables(Path(moved) / "config.mk")["SDC_FILE"]


def test_every_module_once(design: Design, tmp_path: Path) -> None:
    folder = write_design(design, read_platform("asap7"), OPTIONS, tmp_path).parent
    text = "".join((folder / name).read_text() for name in ("halut_matmul.v", "cells.v"))
    modules = re.findall(r"^module (\w+)", text, re.M)
    assert sorted(modules) == sorted(set(modules))
    assert sorted(modules) == sorted(re.findall(r"^module (\w+)", design.verilog, re.M))
    gate = (folder / "cells.v").read_text()
    assert "ICGx1_ASAP7_75t_R gate" in gate and ".SE(1'b0)" in gate
    assert "enable_q" not in text.split("module halut_clock_gate")[1]


def test_units(design: Design) -> None:
    def period(platform: str) -> str:
        text = constraint_sdc(design, read_platform(platform), OPTIONS)
        # The very line that ORFS looks for.
        (found,) = re.findall(r"^set\s+clk_period\s+(\S+)", text, re.M)
        return found

    assert period("nangate45") == "2.5"
    assert period("asap7") == "2500"
    assert "set_load 0.02 " in constraint_sdc(design, read_platform("sky130hd"), OPTIONS)


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("release", RELEASES)
def test_constraints_in_both_releases(design: Design, release: str) -> None:
    text = constraint_sdc(design, read_platform("nangate45"), OPTIONS)
    calls = {call[0]: call[1:] for call in run_stub(text, release)}
    assert calls["create_clock"] == ["-name", "clk", "-period", "2.5", "clk_i"]
    assert calls["set_input_delay"] == ["0.5", "-clock", "clk", "all_inputs"]
    assert calls["set_disable_timing"] == ["-from", "D", "-to", "Q", "*/DLH_X*"]


def test_rules() -> None:
    found = json.loads(rules())
    assert set(found) <= METRICS
    for rule in found.values():
        assert set(rule) == {"value", "compare"}
        assert rule["compare"] in ("<", ">", "<=", ">=", "==", "!=")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(CONFIG), "--clock-ns", "3", "-o"]
    assert main([*arguments, str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    (path,) = (tmp_path / "a").glob("*/orfs/nangate45/config.mk")
    assert f"DESIGN_CONFIG={path}" in printed
    assert main([*arguments, str(tmp_path / "b")]) == 0
    for file in path.parent.iterdir():
        again = tmp_path / "b" / file.relative_to(tmp_path / "a")
        assert file.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--platform", "generic"], "one of OpenROAD-flow-scripts' asap7, nangate45, sky130hd"),
        (["--platform", "osu018"], "not osu018"),
        (["--clock-ns", "0"], "--clock-ns must be a positive number"),
        (["--clock-ns", "nan"], "--clock-ns must be a positive number"),
        (["--utilisation", "0"], "--utilisation must be a percentage"),
        (["--utilisation", "101"], "--utilisation must be a percentage"),
        (["--config", "none.yaml"], "none.yaml"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(HalutError, match=message):
        main(["--config", str(CONFIG), "-o", str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


def test_own_platform_of_a_known_one(design: Design, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(PLATFORM.replace("folder: tiny", "folder: nangate45"))
    path = write_design(design, read_platform(mine), OPTIONS, tmp_path)
    assert "export PLATFORM = nangate45\n" in path.read_text()
    assert "GATE gate" in (path.parent / "cells.v").read_text()
