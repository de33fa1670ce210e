"""Layers that the custom function unit looks up, with the unit as C on this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
from halut import golden
from halut.nn.c_export.emit import emit_network
from halut.nn.c_export.reference import compute
from halut.nn.c_export.schedule import schedule
from halut.nn.c_export.steps import (
    LookUp,
    Network,
    Quantise,
    Scaled,
    Value,
    Window,
    Words,
)
from rtl_gen.axi.generate import register_files
from rtl_gen.cfu import CfuConfig, write
from rtl_gen.config import AcceleratorConfig
from soc import firmware
from soc.accelerator import bus_block, taken, write_image

RUNTIME = Path(emit_network.__code__.co_filename).with_name("runtime")

MAIN = """
#include <stdio.h>
#include "firmware.h"
#include "network.h"
#include "halut_cfu.h"
int main(void)
{
    static network_workspace workspace;
    static float input[NETWORK_INPUTS], output[NETWORK_OUTPUTS];
    while (fread(input, sizeof input, 1, stdin) == 1)
        for (int way = 0; way < 2; ++way) {
            look_ups_by = way == 0 ? SOFTWARE : UNIT;
            if (network_run(&workspace, input, output) != 0)
                return 1;
            fwrite(output, sizeof output, 1, stdout);
        }
    return 0;
}
"""


def _words(rng: np.random.Generator, n: int) -> Words:
    return Words(
        multiplier=rng.integers(1 << 14, 1 << 15, n),
        shift=np.full(n, 17),
        addend=rng.integers(-(1 << 20), 1 << 20, n),
        low=np.full(n, -128),
    )


def _look_up(
    rng: np.random.Generator,
    source: Value,
    output: Value,
    window: Window,
    groups: int,
    codebooks: int,
    lut_bits: int,
) -> LookUp:
    shape = (groups, codebooks)
    area = window.kernel[0] * window.kernel[1]
    per_group = source.shape[2] // groups
    first = np.arange(groups)[:, None, None] * per_group
    half = 1 << (lut_bits - 1)
    thresholds = np.sort(rng.integers(-129, 128, (*shape, 15)))
    thresholds[0, 0, :2] = -129, 127  # every value goes right, none does
    return LookUp(
        inputs=[source],
        output=output,
        window=window,
        tap=rng.integers(0, area, (*shape, 4)),
        channel=first + rng.integers(0, per_group, (*shape, 4)),
        thresholds=thresholds,
        pad=rng.integers(-128, 128, source.shape[2]),
        table=rng.integers(-half, half, (*shape, 16, output.shape[2] // groups)),
        lut_bits=lut_bits,
        stage=_words(rng, output.shape[2]),
    )


def _network(rng: np.random.Generator, lut_bits: int) -> Network:
    """Padding, strides, dilation and groups; outputs that are no whole number of banks."""
    outputs = {8: (44, 24, 20), 4: (104, 48, 24)}[lut_bits]
    image = Value("image", (7, 6, 3))
    words = Value("words", (7, 6, 3), "i8")
    first, second = (
        Value("first", (7, 6, outputs[0]), "i8"),
        Value("second", (3, 3, outputs[1]), "i8"),
    )
    last = Value("last", (1, 1, outputs[2]))
    steps = [
        Quantise(inputs=[image], output=words, inverse=np.float32(32), zero=3),
        _look_up(rng, words, first, Window(kernel=(3, 3), padding=(1, 1)), 1, 7, lut_bits),
        _look_up(
            rng, first, second,
            Window(kernel=(3, 2), stride=(2, 2), dilation=(1, 2), padding=(0, 1)), 2, 11,
            lut_bits,
        ),
        _look_up(rng, second, last, Window(kernel=(3, 3)), 1, 13, lut_bits),
    ]  # fmt: skip
    assert isinstance(steps[-1], LookUp)
    steps[-1].stage = Scaled(np.ones(outputs[2], np.float32), np.zeros(outputs[2], np.float32))
    return Network(image, steps)


def _build(folder: Path, network: Network, config: CfuConfig) -> Path:
    source = emit_network(network, schedule(network), "layers")
    for name, text in {
        "network.h": source.header,
        "network.c": source.code,
        "main.c": MAIN,
    }.items():
        (folder / name).write_text(text)
    write(config, folder / "halut_cfu.v")
    block = bus_block(
        AcceleratorConfig(n_codebooks=16, n_outputs=8, input_format="int8", output_format="int8")
    )
    (folder / "halut_axi.h").write_text(register_files(block)[".h"])
    (folder / "system.h").write_text("#define ACCELERATOR 0U\n#define TABLES 0U\n")
    write_image(block, taken(network.steps, config.lut_bits), folder, 1 << 20)
    program = folder / "layers"
    command = [
        shutil.which("cc") or "cc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror",
        "-DHALUT_CFU_MODEL", "-ffp-contract=off", "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all", f"-I{folder}", f"-I{RUNTIME}", f"-I{firmware.SOURCES}",
        f"-I{firmware.DRIVER}",
        *(str(folder / name) for name in ("main.c", "network.c")),
        str(firmware.SOURCES / "layers.c"), str(firmware.DRIVER / "halut_driver.c"),
        "-o", str(program),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=120)
    return program


@pytest.mark.needs("cc")
@pytest.mark.parametrize(("lut_bits", "n_sums"), [(8, 8), (8, 16), (8, 32), (4, 16), (4, 64)])
def test_unit_and_software_give_the_bits_of_the_model(
    tmp_path: Path, lut_bits: int, n_sums: int
) -> None:
    rng = np.random.default_rng(n_sums)
    network = _network(rng, lut_bits)
    inputs = rng.standard_normal((5, 7, 6, 3)).astype(np.float32) * 2
    expected = compute(network, inputs)
    program = _build(tmp_path, network, CfuConfig(n_sums=n_sums, lut_bits=lut_bits))
    done = subprocess.run(
        [program], input=inputs.tobytes(), capture_output=True, check=True, timeout=60
    )
    got = np.frombuffer(done.stdout, np.float32).reshape(5, 2, -1)
    np.testing.assert_array_equal(got[:, 0].view(np.uint32), expected.view(np.uint32))
    np.testing.assert_array_equal(got[:, 1].view(np.uint32), expected.view(np.uint32))
    assert len(np.unique(expected)) > 20


def test_the_model_of_a_layer_is_golden() -> None:
    """`compute` and the accelerator's model say the same of a layer of words."""
    rng = np.random.default_rng(5)
    program = golden.random_program(rng, 6, 16, 8, "int8", 8)
    words = golden.random_words(rng, program, 9)
    image = Value("image", (1, 1, 24))
    as_words, sums = Value("words", (1, 1, 24), "i8"), Value("sums", (1, 1, 8))
    step = LookUp(
        inputs=[as_words], output=sums, window=Window(), tap=np.zeros((1, 6, 4), np.int64),
        channel=np.arange(24).reshape(1, 6, 4), thresholds=program.thresholds[None].astype(int),
        pad=None, table=program.lut.transpose(1, 2, 0)[None].astype(int), lut_bits=8,
        stage=Scaled(np.ones(8, np.float32), np.zeros(8, np.float32)),
    )  # fmt: skip
    quantise = Quantise(inputs=[image], output=as_words, inverse=np.float32(1), zero=0)
    got = compute(Network(image, [quantise, step]), words.reshape(9, 1, 1, 24).astype(np.float32))
    np.testing.assert_array_equal(got, golden.matmul(program, words))
