"""The command and the files that it writes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from halut.errors import HalutError
from rtl_gen.__main__ import main
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.registers import registers

CONFIG = """\
version: 1
name: tiny
n_codebooks: 2
n_prototypes: 2
n_outputs: 1
input_format: int2
encoder: pipelined
"""
IPXACT = "{http://www.accellera.org/XMLSchema/IPXACT/1685-2014}"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("axi")
    (folder / "tiny.yaml").write_text(CONFIG)
    arguments = ["--config", str(folder / "tiny.yaml"), "--prefix", "left_"]
    assert main(["axi", *arguments, "-o", str(folder / "a.v")]) == 0
    return folder


def test_files(written: Path) -> None:
    """The manifest lists the Verilog's ports; every module has the prefix."""
    text = (written / "a.v").read_text()
    manifest = json.loads((written / "a.json").read_text())
    assert manifest["kind"] == "halut-axi-manifest"
    modules = re.findall(r"^module (\w+)", text, re.M)
    assert len(modules) > 10 and all(name.startswith("left_") for name in modules)
    top = re.search(r"^module left_halut_axi\((.*?)\);", text, re.M)
    assert top and [p["name"] for p in manifest["ports"]] == top[1].split(", ")
    config = AxiConfig.from_dict(manifest["configuration"])
    assert manifest["sha256"]["configuration"] == config.hash
    assert manifest["memory"]["item_bytes"] == config.item_bytes
    found = manifest["interface"]["registers"]
    assert found == {r.name: r.offset for r in registers(config)}
    for ending in ("rdl", "h", "py", "md", "xml", "core", "sdc"):
        assert (written / f"a.{ending}").stat().st_size > 100


def test_ip_xact(written: Path) -> None:
    """Every port, every register, and a bus interface that maps all of its ports."""
    root = ElementTree.parse(written / "a.xml").getroot()
    manifest = json.loads((written / "a.json").read_text())
    ports = {p["name"]: p["bits"] for p in manifest["ports"]}
    found = {}
    for port in root.iter(f"{IPXACT}port"):
        left = port.find(f".//{IPXACT}left")
        found[port.findtext(f"{IPXACT}name")] = 1 if left is None else int(left.text or "") + 1
    assert found == ports
    mapped = [e.findtext(f"{IPXACT}name") for e in root.iter(f"{IPXACT}physicalPort")]
    assert sorted(map(str, mapped)) == sorted(p for p in ports if p[:2] in ("s_", "m_"))
    config = AxiConfig.from_dict(manifest["configuration"])
    offsets = {}
    for register in root.iter(f"{IPXACT}register"):
        offset = register.findtext(f"{IPXACT}addressOffset") or ""
        offsets[register.findtext(f"{IPXACT}name")] = int(offset, 16)
    assert offsets == {r.name: r.offset for r in registers(config)}


def test_ip_xact_is_read_by_others(written: Path) -> None:
    """PeakRDL finds every register at its place in it."""
    systemrdl = pytest.importorskip("systemrdl")
    peakrdl = pytest.importorskip("peakrdl_ipxact")
    compiler = systemrdl.RDLCompiler()
    peakrdl.IPXACTImporter(compiler).import_file(str(written / "a.xml"))
    nodes = compiler.elaborate().top.descendants(skip_not_present=False)
    found = {n.inst_name: n.absolute_address for n in nodes if hasattr(n, "fields")}
    manifest = json.loads((written / "a.json").read_text())
    assert found == manifest["interface"]["registers"]


def test_fusesoc(written: Path) -> None:
    first, _, rest = (written / "a.core").read_text().partition("\n")
    core = yaml.safe_load(rest)
    assert first == "CAPI=2:" and core["filesets"]["rtl"]["files"] == ["a.v"]
    assert core["targets"]["default"]["toplevel"] == "left_halut_axi"


def test_same_bytes(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(written / "tiny.yaml"), "--prefix", "left_"]
    assert main(["axi", *arguments, "-o", "-"]) == 0
    assert capsys.readouterr().out == (written / "a.v").read_text()


def test_front_end_is_whole(written: Path) -> None:
    arguments = ["axi", "--config", str(written / "tiny.yaml"), "--height", "4", "--width", "4"]
    with pytest.raises(HalutError, match="--channels must be given for a front end"):
        main(arguments)
