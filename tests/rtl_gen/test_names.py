# amaranth: UnusedElaboratable=no
"""Names in the emitted Verilog: modules by their content, signals as in the source, prefixes."""

from __future__ import annotations

import re

import pytest

from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from rtl_gen.direct.config import DotProductConfig, StoredMatrixConfig, SystolicConfig
from rtl_gen.direct.generate import engine_unit
from rtl_gen.front_end import FrontEndConfig, HalutConvolution
from rtl_gen.generate import generate
from rtl_gen.tiled import HalutTiled
from rtl_gen.tiled_config import TiledConfig
from rtl_gen.top import HalutMatmul
from rtl_gen.verilog import unit_verilog

# Named by what they are, so that users find them; see `--prefix` for two in one design.
TOPS = {"halut_matmul", "halut_tiled", "halut_convolution", "halut_front_end",
        "halut_dot_product_array", "halut_systolic_array", "halut_stored_matrix"}  # fmt: skip
BASE = {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2}
# Every option, one or two at a time, on one base.
OPTIONS = [
    {}, {"n_codebooks": 6}, {"n_prototypes": 8}, {"n_prototypes": 2}, {"n_outputs": 4},
    {"rows": 2}, {"rows": 2, "outputs_per_cycle": 4}, {"parallel_codebooks": 2},
    {"parallel_codebooks": 4}, {"parallel_codebooks": 4, "rows": 2}, {"outputs_per_cycle": 2},
    {"encoder": "pipelined"}, {"encoder": "pipelined", "tree_levels_per_stage": 2},
    {"input_format": "int8"}, {"input_format": "int16"}, {"input_format": "bf16"},
    {"input_format": "fp8_e4m3"}, {"input_format": "fp8_e5m2"}, {"lut_bits": 4}, {"acc_bits": 16},
    {"acc_bits": 9, "overflow": "wrap"}, {"acc_bits": 9, "overflow": "saturate"},
    {"acc_bits": 9, "overflow": "saturate", "parallel_codebooks": 2},
    {"lut_bits": 16, "lut_format": "fp16"}, {"lut_bits": 16, "acc_bits": 32},
    {"lut_bits": 16, "lut_format": "fp16", "output_format": "fp16", "relu": True},
    {"output_format": "fp16"}, {"output_format": "int8"}, {"relu": True},
    {"output_format": "int8", "relu": True}, {"output_format": "int8", "write_word_bits": 16},
    {"output_format": "int8", "double_buffer": True}, {"output_format": "fp16", "memory": "ff"},
    {"memory": "ff"}, {"memory": "lutram"}, {"memory": "lutram", "parallel_codebooks": 4},
    {"memory": "lutram", "double_buffer": True}, {"write_word_bits": 16},
    {"write_word_bits": 32, "output_format": "int8"}, {"double_buffer": True},
    {"memory": "sram"}, {"memory": "sram", "parallel_codebooks": 4, "double_buffer": True},
    {"double_buffer": True, "parallel_codebooks": 2}, {"skid_buffer": True},
    {"code_stages": 1}, {"code_stages": 2, "memory": "sram"},
    {"code_stages": 1, "decode_in_blocks": True, "parallel_codebooks": 4},
    {"double_buffer": True, "parallel_codebooks": 4}, {"look_up_adder_levels": 0},
    {"look_up_adder_levels": 0, "parallel_codebooks": 4},
    {"adder_levels_per_stage": 1, "parallel_codebooks": 4, "look_up_adder_levels": 0},
    {"n_codebooks": 8, "parallel_codebooks": 2}, {"n_codebooks": 2, "double_buffer": True},
    {"n_codebooks": 8, "parallel_codebooks": 2, "encoder": "pipelined"},
    {"n_codebooks": 8, "encoder": "addressed", "memory": "sram"},
    *({"n_codebooks": 8, "encoder": "addressed", "memory": "lutram", **more}
      for more in ({}, {"input_format": "int8"}, {"parallel_codebooks": 8}, {"rows": 2})),
]  # fmt: skip


def _units():
    for options in OPTIONS:
        yield HalutMatmul(AcceleratorConfig(**{**BASE, **options}))
    for options in ({}, {"output_format": "int8"}, {"lut_format": "fp16", "lut_bits": 16}):
        unit = AcceleratorConfig(**BASE, **options)
        yield HalutTiled(TiledConfig(unit=unit, row_tiles=2, codebook_tiles=2))
    for gather in ("channel", "any"):
        accelerator = AcceleratorConfig(**BASE, input_format="int8")
        yield HalutConvolution(
            FrontEndConfig(accelerator=accelerator, height=3, width=4, channels=4, gather=gather)
        )
    for weights, recode in (("latch", "weights"), ("ff", "inputs"), ("ports", "inputs")):
        yield engine_unit(DotProductConfig(length=4, columns=2, weights=weights, recode=recode))
    yield engine_unit(SystolicConfig(rows=2, columns=2))
    yield engine_unit(StoredMatrixConfig(n_groups=3, group_features=3, n_outputs=2, rows=2))


@pytest.fixture(scope="module")
def emitted():
    """A few of them, each kind of top among them."""
    picked = [unit for i, unit in enumerate(_units()) if i in (0, 5, 27, 39) or i >= len(OPTIONS)]
    return [unit_verilog(unit) for unit in picked[:6] + picked[-3:]]


def _modules(text):
    """{name: text}; comments before a module are not part of it."""
    found = re.finditer(r"^module (\w+).*?^endmodule$", text, re.M | re.S)
    return {match[1]: match[0] for match in found}


def _compare(texts):
    """How many modules were met again."""
    known: dict[str, str] = {}
    compared = 0
    for text in texts:
        for name, module in _modules(text).items():
            if name in TOPS:
                continue
            compared += name in known
            assert known.setdefault(name, module) == module, name
    return compared


def test_modules_of_one_name_have_the_same_text(emitted):
    assert _compare(emitted) > 10


@pytest.mark.slow
def test_modules_of_one_name_have_the_same_text_for_every_option():
    assert _compare(unit_verilog(unit) for unit in _units()) > 200


def test_no_identifier_is_escaped(emitted):
    for text in emitted:
        assert "\\" not in text


def test_signals_have_the_names_of_the_source(emitted):
    control = next(m for n, m in _modules(emitted[0]).items() if n.startswith("halut_control"))
    for name in ("advance", "at_group_start", "at_last_group", "input_taken", "input_waits",
                 "pipeline_empty", "program_taken", "settling", "sums_finished"):  # fmt: skip
        assert re.search(rf"^  (wire|reg) {name};$", control, re.M), name
    assert "program_word <= program_data" in _modules(emitted[0])["halut_matmul"]


def test_default_nettype_is_none_and_restored(emitted):
    for text in emitted:
        assert text.startswith("`default_nettype none\n")
        assert text.endswith("\n`default_nettype wire\n")


def test_waivers_are_around_single_lines(emitted):
    """Each is taken back in the same module, before any other."""
    for text in emitted:
        waivers = re.findall(r"verilator lint_(on|off) (\w+)", text)
        assert waivers
        assert [w[0] for w in waivers] == ["off", "on"] * (len(waivers) // 2)
        assert all(a[1] == b[1] for a, b in zip(waivers[::2], waivers[1::2], strict=True))
        # No more than the declarations and sums that need one.
        for rule, lines in re.findall(
            r"lint_off (UNUSEDSIGNAL|WIDTHEXPAND) \*/\n(.*?)/\* verilator lint_on", text, re.S
        ):
            start = "  assign " if rule == "WIDTHEXPAND" else ("  wire ", "  reg ", "  input ")
            assert all(line.startswith(start) for line in lines.splitlines()), lines


@pytest.mark.parametrize("options", [{}, {"memory": "ff", "output_format": "int8"}])
def test_a_prefix_is_on_every_module(options):
    config = AcceleratorConfig(**BASE, **options)
    plain, named = generate(config), generate(config, prefix="first_")
    modules = _modules(named.verilog)
    assert set(modules) == {f"first_{name}" for name in _modules(plain.verilog)}
    assert re.sub(r"\bfirst_", "", named.verilog) == plain.verilog
    assert not re.search(r"(?<!first_)\bhalut_(?!stack)\w", re.sub("//.*", "", named.verilog))
    assert (named.manifest["module"], named.manifest["prefix"]) == ("first_halut_matmul", "first_")
    assert (plain.manifest["module"], plain.manifest["prefix"]) == ("halut_matmul", "")


@pytest.mark.parametrize("prefix", ["1st_", "a-b", "a b", "_x", "é", "a" * 65, "a\n"])
def test_what_a_prefix_must_be(prefix):
    with pytest.raises(HalutError, match="prefix must be at most 64 letters, digits and _"):
        generate(AcceleratorConfig(**BASE), prefix=prefix)
