"""The custom function unit: its rules, its Verilog, and its C header, which is a model of it."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from halut.errors import HalutError
from rtl_gen.__main__ import main
from rtl_gen.cfu import CfuConfig, generate, write
from rtl_gen.cfu.pcpi import PcpiPort
from sim.cfu import job
from tests.rtl_gen.support import simulate


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_prototypes": 12}, "n_prototypes must be a power of two from 2 to 64, not 12"),
        ({"n_prototypes": 128}, "n_prototypes must be .*64.*, not 128"),
        ({"lut_bits": 5}, "lut_bits must be .*, not 5"),
        ({"n_sums": 12}, "n_sums must be a multiple of 8, the entries of one instruction, not 12"),
        ({"lut_bits": 4, "n_sums": 8}, "n_sums must be a multiple of 16"),
        ({"acc_bits": 7}, "acc_bits must be .*8.*32.*, not 7"),
        ({"port": "avalon"}, "port must be .*cfu.*pcpi"),
        ({"name": "a b"}, "name must be letters"),
    ],
)
def test_rules(fields: dict, message: str) -> None:
    with pytest.raises(HalutError, match=message):
        CfuConfig(**fields)


def test_commands_by_hand() -> None:
    c = CfuConfig(n_prototypes=4)
    assert c.set_thresholds([1, -1, 2]) == [(0b000, 1, 0xFFFFFFFF), (0b1000, 2, 0)]
    assert c.walk([-128, 3]) == [(0b001, 0xFFFFFF80, 3)]
    assert c.add([-128, 127, 0]) == [(0b011, 0x8080FF00, 0x80808080)]
    assert c.add([1] * 9, start=True)[1] == (0b1010, 0x80808081, 0x80808080)
    assert c.read(5) == (5 << 3 | 0b100, 0, 0)
    assert (c.lanes, c.banks, c.most_codebooks) == (8, 4, 256)


def test_same_bytes_and_names() -> None:
    first, again = generate(CfuConfig(name="a")), generate(CfuConfig(name="a"))
    assert first == again
    assert generate(CfuConfig(name="b")).manifest["sha256"] != first.manifest["sha256"]
    assert "module Cfu(clk, reset, cmd_valid" in first.verilog
    prefixed = generate(CfuConfig(), prefix="my_").verilog
    assert "module my_Cfu(" in prefixed and "module my_halut_cfu(" in prefixed


def test_command_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cfu", "--n-sums", "48", "--lut-bits", "4"]) == 0
    folder = tmp_path / "build" / "cfu_k16_lut4_s48_acc16" / "rtl"
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "halut_cfu.h", "halut_cfu.json", "halut_cfu.sdc", "halut_cfu.v",
    ]  # fmt: skip
    manifest = json.loads((folder / "halut_cfu.json").read_text())
    assert manifest["configuration"]["n_sums"] == 48
    assert "adds     16 entries of 4 bits per instruction to 48 sums" in capsys.readouterr().out
    with pytest.raises(HalutError, match="output must be a Verilog file"):
        main(["cfu", "-o", "unit.h"])


def _instruction(command: tuple[int, int, int], opcode: int = 0b0001011) -> int:
    """An instruction word with rd = x10 and any source registers."""
    function = command[0]
    return function >> 3 << 25 | 7 << 20 | 9 << 15 | (function & 7) << 12 | 10 << 7 | opcode


def test_picorv32s_interface() -> None:
    """Every instruction is answered a cycle later; others are left alone."""
    config = CfuConfig(n_prototypes=4, n_sums=8, port="pcpi")
    unit = PcpiPort(config)
    exchanges = job(config, np.random.default_rng(2), n_outputs=9).exchanges
    answers = []

    async def run(ctx):
        for command, _ in exchanges:
            ctx.set(unit.pcpi_insn, _instruction(command))
            ctx.set(unit.pcpi_rs1, command[1])
            ctx.set(unit.pcpi_rs2, command[2])
            ctx.set(unit.pcpi_valid, 1)
            assert ctx.get(unit.pcpi_wait) and not ctx.get(unit.pcpi_ready)
            await ctx.tick()
            assert ctx.get(unit.pcpi_ready) and ctx.get(unit.pcpi_wr)
            answers.append(ctx.get(unit.pcpi_rd))
            await ctx.tick()
            ctx.set(unit.pcpi_valid, 0)
            assert not ctx.get(unit.pcpi_ready)
            await ctx.tick()
        ctx.set(unit.pcpi_insn, _instruction((1, 0, 0), opcode=0b0101011))
        ctx.set(unit.pcpi_valid, 1)
        for _ in range(4):
            await ctx.tick()
            assert not ctx.get(unit.pcpi_wait) and not ctx.get(unit.pcpi_ready)

    simulate(unit, run)
    assert answers == [answer for _, answer in exchanges] and any(answers)
    assert "module halut_pcpi(clk_i, rst_ni, pcpi_valid" in generate(config).verilog


_PROGRAM = """
#include <stdio.h>
#define HALUT_CFU_MODEL
#include "halut_cfu.h"
int main(void)
{
    unsigned function, first, second;
    while (scanf("%u %u %u", &function, &first, &second) == 3)
        printf("%u\\n", (unsigned)HALUT_CFU((int)(function & 7U), (int)(function >> 3), first, second));
    return 0;
}
"""  # noqa: E501


@pytest.mark.needs("cc")
@pytest.mark.parametrize(
    "config",
    [CfuConfig(), CfuConfig(lut_bits=4, n_sums=32), CfuConfig(n_prototypes=8, n_sums=8)],
    ids=lambda config: config.slug,
)
def test_model_in_c_answers_what_golden_says(tmp_path, config: CfuConfig) -> None:
    write(config, tmp_path / "halut_cfu.v")
    (tmp_path / "main.c").write_text(_PROGRAM)
    command = [shutil.which("cc") or "cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
               "-o", str(tmp_path / "main"), str(tmp_path / "main.c")]  # fmt: skip
    subprocess.run(command, check=True, timeout=60)
    exchanges = job(config, np.random.default_rng(1), 5, 4, config.n_sums + 3).exchanges
    text = "\n".join(" ".join(map(str, command)) for command, _ in exchanges)
    done = subprocess.run(
        [tmp_path / "main"], input=text, capture_output=True, text=True, check=True, timeout=60
    )
    assert [int(line) for line in done.stdout.split()] == [answer for _, answer in exchanges]
    assert any(answer for _, answer in exchanges)
