"""Layers of a network in words as programs of an accelerator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from halut import golden
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from soc.accelerator import bus_block, in_range


def _look_up(thresholds: np.ndarray, table: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Sums of one row after the other, by the definition of the tree."""
    sums = np.zeros((len(words), table.shape[2]), np.int64)
    for row, levels in enumerate(words):
        for c, values in enumerate(levels):
            node = 0
            for value in values:
                node = 2 * node + 1 + int(value > thresholds[c, node])
            sums[row] += table[c, node - thresholds.shape[1]]
    return sums


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_nodes_that_send_every_word_to_the_right(share: float) -> None:
    """Thresholds of 8 bits give the same sums as those below, at any level."""
    rng = np.random.default_rng(int(10 * share))
    thresholds = rng.integers(-128, 128, (5, 15))
    thresholds[rng.random((5, 15)) < share] = -129
    table = rng.integers(-128, 128, (5, 16, 3))
    words = rng.integers(-128, 128, (60, 5, 4))
    nodes, entries = in_range(thresholds, table)
    assert nodes.min() >= -128
    expected = _look_up(thresholds, table, words)
    np.testing.assert_array_equal(_look_up(nodes, entries, words), expected)
    assert len(np.unique(expected)) > 10 or share == 1


def test_a_layer_is_one_program_a_group() -> None:
    pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
    from halut.nn.c_export.steps import LookUp, Sums, Value, Window
    from soc.accelerator import layer_programs

    rng = np.random.default_rng(3)
    source, output = Value("source", (1, 1, 8), "i8"), Value("sums", (1, 1, 10), "i32")
    step = LookUp(
        inputs=[source], output=output, window=Window(), tap=np.zeros((2, 3, 4), np.int64),
        channel=rng.integers(0, 4, (2, 3, 4)), thresholds=rng.integers(-129, 128, (2, 3, 15)),
        pad=None, table=rng.integers(-128, 128, (2, 3, 16, 5)), lut_bits=8, stage=Sums(),
    )  # fmt: skip
    words = rng.integers(-128, 128, (20, 3, 4))
    programs = layer_programs(step)
    assert len(programs) == 2
    for group, program in enumerate(programs):
        expected = _look_up(step.thresholds[group], step.table[group], words)
        np.testing.assert_array_equal(golden.matmul(program, words.astype(np.int16)), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_prototypes": 8}, "n_prototypes must be 16"),
        ({"input_format": "fp16"}, "input_format must be int8"),
        ({"output_format": "int8"}, "output_format must be raw"),
        ({"rows": 2}, "rows must be 1, or parallel_codebooks n_codebooks"),
    ],
)
def test_accelerators_that_the_firmware_cannot_use(change: dict, message: str) -> None:
    config = AcceleratorConfig(
        **{"n_codebooks": 8, "n_outputs": 8, "input_format": "int8", **change}
    )
    with pytest.raises(HalutError, match=message):
        bus_block(config)


def test_the_default_fits_the_bus() -> None:
    path = Path(__file__).parents[2] / "configs" / "options" / "soc.yaml"
    block = bus_block(AcceleratorConfig.from_yaml(path))
    assert block.data_bits == 32
