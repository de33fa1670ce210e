"""Emitted Verilog and manifest: same bytes, clean lint, readable by every tool."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from rtl_gen.generate import generate, write
from tests.rtl_gen.support import lint

SMALL = {
    "pipelined": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "encoder": "pipelined"},
    "interleaved": {"n_codebooks": 4, "n_prototypes": 8, "n_outputs": 6, "rows": 2,
                    "write_word_bits": 16},
    "dense": {"n_codebooks": 8, "n_prototypes": 16, "n_outputs": 2, "rows": 2,
              "parallel_codebooks": 8, "encoder": "pipelined", "input_format": "int8"},
    "threes": {"n_codebooks": 9, "n_prototypes": 4, "n_outputs": 3, "parallel_codebooks": 3,
               "memory": "ff", "input_format": "int5"},
    "lutram": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "parallel_codebooks": 2,
               "memory": "lutram"},
    "sram": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 4, "parallel_codebooks": 2,
             "rows": 2, "memory": "sram", "write_word_bits": 16, "double_buffer": True},
    "two-levels": {"n_codebooks": 4, "n_prototypes": 32, "n_outputs": 2, "rows": 2,
                   "encoder": "pipelined", "tree_levels_per_stage": 2},
    "flash": {"n_codebooks": 2, "n_prototypes": 16, "n_outputs": 2, "parallel_codebooks": 2,
              "encoder": "pipelined", "tree_levels_per_stage": 4, "look_up_adder_levels": 0},
    "to-fp16": {"n_codebooks": 2, "n_prototypes": 4, "n_outputs": 6, "outputs_per_cycle": 2,
                "output_format": "fp16", "write_word_bits": 32},
    "to-int8": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                "parallel_codebooks": 4, "output_format": "int8", "relu": True, "memory": "ff"},
    "lut-fp16": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "parallel_codebooks": 3,
                 "lut_format": "fp16", "lut_bits": 16},
    "saturate": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "parallel_codebooks": 3,
                 "acc_bits": 8, "overflow": "saturate"},
    "wrap": {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 2, "acc_bits": 8,
             "overflow": "wrap"},
    "relu": {"n_codebooks": 2, "n_prototypes": 4, "n_outputs": 3, "relu": True},
    "smallest": {"n_codebooks": 1, "n_prototypes": 2, "n_outputs": 1, "encoder": "pipelined"},
}  # fmt: skip


@pytest.fixture(
    scope="module",
    # Yosys takes seconds for its trees: `make test-slow`.
    params=[pytest.param(n, marks=[pytest.mark.slow] if n == "two-levels" else []) for n in SMALL],
)
def generated(request):
    return AcceleratorConfig(**SMALL[request.param])


def _run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_same_configuration_same_bytes(generated):
    first, second = generate(generated), generate(generated)
    assert first.verilog == second.verilog
    assert first.manifest_text == second.manifest_text


def test_lint_is_clean(generated, tmp_path):
    path = write(generated, tmp_path / "halut_matmul.v")
    assert lint(path, "halut_matmul") == (0, "")


def test_lint_can_fail(tmp_path):
    text = generate(AcceleratorConfig(**SMALL["pipelined"])).verilog
    path = tmp_path / "broken.v"
    path.write_text(text.replace("wire [1:0] program_address", "wire program_address", 1))
    path.write_text(re.sub(r"assign i_ready = [^;]*;", "assign i_ready = undefined_net;", text))
    assert lint(path, "halut_matmul")[0] != 0


@pytest.mark.needs("iverilog")
def test_icarus_reads_it(generated, tmp_path):
    path = write(generated, tmp_path / "halut_matmul.v")
    done = _run(
        "iverilog", "-g2005", "-Wall", "-s", "halut_matmul", "-o", str(tmp_path / "a"),
        str(path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr


def test_no_register_has_an_initial_value(generated):
    text = generate(generated).verilog
    assert not re.search(r"^\s*reg .*=", text, re.M)
    assert "initial" not in text


def test_latches_and_clock_gates_are_named_cells(generated):
    text = generate(generated).verilog
    modules = re.findall(r"^module (\w+)", text, re.M)
    assert len(modules) == len(set(modules))
    assert ("halut_latch" in modules) == (generated.constants_memory == "latch")
    assert ("halut_clock_gate" in modules) == (generated.constants_memory == "latch")
    assert ("halut_sram" in modules) == (generated.memory == "sram")


def test_manifest_ports_are_the_modules_ports(generated):
    result = generate(generated)
    body = re.search(r"^module halut_matmul\((.*?)\);(.*?)^endmodule", result.verilog, re.M | re.S)
    assert body
    declared = {}
    for direction, msb, name in re.findall(
        r"^\s*(input|output) (?:\[(\d+):0\] )?(\w+);", body[2], re.M
    ):
        declared[name] = (direction, int(msb or 0) + 1)
    manifest = {p["name"]: (p["direction"], p["bits"]) for p in result.manifest["ports"]}
    assert manifest == declared
    assert [name.strip() for name in body[1].split(",")] == list(manifest)


def test_manifest_layouts_fill_their_ports(generated):
    manifest = generate(generated).manifest
    ports = {p["name"]: p for p in manifest["ports"]}
    for name in ("i_data", "o_data"):
        layout = ports[name]["layout"]
        sizes = [d["size"] for d in layout["dimensions"]]
        product = layout["element_bits"]
        for size in sizes:
            product *= size
        assert product == ports[name]["bits"]
        outer = layout["dimensions"][0]
        assert outer["size"] * outer["stride_bits"] == ports[name]["bits"]


def test_manifest_says_what_overflow_does():
    def accumulator(**values):
        return generate(AcceleratorConfig(n_codebooks=4, n_outputs=1, **values)).manifest[
            "accumulator"
        ]

    proven = accumulator()
    assert proven["overflow"] == "impossible"
    assert proven["proof"] == "4 entries of 8 bits sum to [-512, 508], within [-512, 511]"
    wrapping = accumulator(acc_bits=9, overflow="wrap")
    assert (wrapping["overflow"], "proof" in wrapping) == ("wrap", False)
    assert wrapping["warning"] == "4 entries of 8 bits sum to [-512, 508], beyond [-256, 255]"
    saturating = accumulator(acc_bits=9, overflow="saturate", parallel_codebooks=2)
    assert saturating["order"].startswith("codebooks g * 2 and up pairwise")
    assert accumulator(lut_format="fp16", lut_bits=16)["overflow"] == "to infinity"


def test_write_leaves_an_equal_file_alone(tmp_path):
    config = AcceleratorConfig(**SMALL["smallest"])
    path = write(config, tmp_path / "a.v")
    before = path.stat().st_mtime_ns
    assert write(config, path).stat().st_mtime_ns == before
    assert json.loads(path.with_suffix(".json").read_text())["configuration"] == config.to_dict()


def test_output_must_not_be_the_manifest(tmp_path):
    with pytest.raises(HalutError, match="must be a Verilog file"):
        write(AcceleratorConfig(**SMALL["smallest"]), tmp_path / "a.json")


def test_output_must_not_be_a_device_or_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in ("/dev/null", "/dev/full", pipe):
        with pytest.raises(HalutError, match="must be a file, others lie beside it, not a dev"):
            write(AcceleratorConfig(**SMALL["smallest"]), place)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_command_line(tmp_path):
    flags = [
        "--num-c",
        "2",
        "--num-k",
        "4",
        "--num-m",
        "2",
        "--encoder",
        "pipelined",
        "--input",
        "int8",
    ]
    target = tmp_path / "deep" / "a.v"
    done = _run(sys.executable, "-m", "rtl_gen", *flags, "-o", str(target))
    assert done.returncode == 0, done.stderr
    others = f"{target.with_suffix('.json')} and {target.with_suffix('.sdc')}"
    assert done.stdout.splitlines()[-1] == f"wrote {target}, {others}"
    piped = _run(sys.executable, "-m", "rtl_gen", *flags, "-o", "-")
    assert piped.stdout == target.read_text()


def test_flags_override_the_file(tmp_path):
    done = _run(
        sys.executable, "-m", "rtl_gen", "--config", "configs/small.yaml", "--num-m", "3",
        "-o", str(tmp_path / "a.v"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "a.json").read_text())
    assert manifest["configuration"]["n_outputs"] == 3
    assert manifest["configuration"]["input_format"] == "int8"
