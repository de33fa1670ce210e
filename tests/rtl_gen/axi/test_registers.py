"""The registers say the same in every language."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.descriptor import FIELDS
from rtl_gen.axi.generate import register_files
from rtl_gen.axi.markdown import descriptor_table, register_table
from rtl_gen.axi.registers import SPACE_BYTES, registers
from rtl_gen.tiled_config import load_config
from tests.rtl_gen.axi.support import CONFIGS

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", CONFIGS)
def test_places(name: str) -> None:
    """Registers are apart and fields do not overlap; values fit."""
    described = registers(CONFIGS[name])
    offsets = [register.offset for register in described]
    assert offsets == sorted(set(offsets)) and max(offsets) < SPACE_BYTES
    assert len({register.name for register in described}) == len(described)
    for register in described:
        used = 0
        for field in register.fields:
            mask = ((1 << field.bits) - 1) << field.low
            assert not used & mask and mask < 1 << 32, (register.name, field.name)
            assert 0 <= field.value < 1 << field.bits
            used |= mask
    used = 0
    for place in FIELDS:
        mask = ((1 << place.bits) - 1) << place.first
        assert not used & mask
        used |= mask
    assert used == (1 << 256) - 1


@pytest.mark.parametrize("name", ["small", "odd"])
def test_system_rdl(name: str, tmp_path: Path) -> None:
    """A compiler of SystemRDL finds the table's registers, fields, access and values."""
    systemrdl = pytest.importorskip("systemrdl")
    from systemrdl.node import FieldNode, RegNode

    config = CONFIGS[name]
    file = tmp_path / "halut_axi.rdl"
    file.write_text(register_files(config)[".rdl"])
    compiler = systemrdl.RDLCompiler()
    compiler.compile_file(str(file))
    found = {}
    for node in compiler.elaborate().top.descendants():
        if isinstance(node, RegNode):
            found[node.inst_name] = (node.absolute_address, node.get_property("desc"))
        if isinstance(node, FieldNode):
            key = f"{node.parent.inst_name}.{node.inst_name}"
            reset = node.get_property("reset")
            found[key] = (node.low, node.width, node.is_sw_readable, node.is_sw_writable, reset)
    wanted: dict[str, tuple] = {}
    for register in registers(config):
        wanted[register.name] = (register.offset, register.text)
        for field in register.fields:
            readable, writable = field.access != "command", field.access in (
                "setting", "event", "command",
            )  # fmt: skip
            reset = None if field.access in ("status", "command") else field.value
            wanted[f"{register.name}.{field.name}"] = (
                field.low, field.bits, readable, writable, reset,
            )  # fmt: skip
    assert found == wanted


def test_c_header(tmp_path: Path) -> None:
    """A compiler takes the header alone, and it has the table's numbers."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (apt install gcc)")
    config = CONFIGS["odd"]
    (tmp_path / "registers.h").write_text(register_files(config)[".h"])
    checks = []
    for register in registers(config):
        checks.append((f"{register.name}_OFFSET", register.offset))
        for field in register.fields:
            if field.bits < 32:
                name = f"{register.name}_{field.name.upper()}"
                checks.append((f"{name}_LSB", field.low))
                checks.append((f"{name}_MASK", ((1 << field.bits) - 1) << field.low))
    assert len(checks) > 50
    lines = [f'_Static_assert(HALUT_AXI_{n} == 0x{v:x}u, "{n}");' for n, v in checks]
    (tmp_path / "a.c").write_text('#include "registers.h"\n' + "\n".join(lines) + "\n")
    flags = ["-std=c11", "-ffreestanding", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([compiler, *flags, "-c", "a.c"], cwd=tmp_path, check=True)


def test_python_map() -> None:
    scope: dict = {}
    config = CONFIGS["odd"]
    exec(register_files(config)[".py"], scope)
    assert scope["OFFSETS"] == {r.name: r.offset for r in registers(config)}
    assert scope["CONFIG_HASH"] == tuple(int(config.core_hash[k : k + 8], 16) for k in (0, 8))
    fields = {f"{r.name}.{f.name}": (f.low, f.bits) for r in registers(config) for f in r.fields}
    assert scope["FIELDS"] == fields


def test_documentation() -> None:
    """The tables in the documentation are those of the configuration that it names."""
    page = (ROOT / "docs" / "axi.md").read_text()
    config = AxiConfig(core=load_config(ROOT / "configs" / "small.yaml"))
    for name, table in (("registers", register_table(config)), ("descriptors", descriptor_table())):
        found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", page, re.S)
        assert found and found[1] == table, f"write the table of {name} anew"
