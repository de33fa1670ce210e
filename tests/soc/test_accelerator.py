"""Layers of a network in words as programs of an accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halut import golden
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from soc.accelerator import bus_block, in_range, places, taken, with_stage


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


def _words(rng: np.random.Generator, n: int, **given: int) -> Any:
    from halut.nn.c_export.steps import Words

    fields = {
        "multiplier": rng.integers(1 << 14, 1 << 15, n), "shift": rng.integers(16, 20, n),
        "addend": rng.integers(-(1 << 22), 1 << 22, n), "low": np.full(n, -128),
    }  # fmt: skip
    return Words(**{name: np.full(n, given[name]) if name in given else array
                    for name, array in fields.items()})  # fmt: skip


def test_a_layer_is_one_program_a_group() -> None:
    pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
    from halut.nn.c_export.reference import compute
    from halut.nn.c_export.steps import LookUp, Network, Value, Window
    from soc.accelerator import layer_programs

    rng = np.random.default_rng(3)
    source, output = Value("source", (1, 1, 8), "i8"), Value("words", (1, 1, 10), "i8")
    stage = _words(rng, 10)
    stage.multiplier[::3] *= -1
    stage.multiplier[1::3] = 1 << 16  # one bit more than the accelerator has
    step = LookUp(
        inputs=[source], output=output, window=Window(), tap=np.zeros((2, 3, 4), np.int64),
        channel=np.add(rng.integers(0, 4, (2, 3, 4)), [[[0]], [[4]]]),
        thresholds=rng.integers(-129, 128, (2, 3, 15)),
        pad=None, table=rng.integers(-128, 128, (2, 3, 16, 5)), lut_bits=8, stage=stage,
    )  # fmt: skip
    words = rng.integers(-128, 128, (40, 8))
    expected = compute(Network(source, [step]), words.reshape(40, 1, 1, 8))
    programs = layer_programs(step)
    assert len(programs) == 2
    for group, program in enumerate(programs):
        gathered = words[:, step.channel[group]].astype(np.int16)
        got = golden.results(program, gathered)
        np.testing.assert_array_equal(got, expected[:, 5 * group : 5 * group + 5])
        assert len(np.unique(got)) > 20


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"multiplier": (1 << 16) + 1}, "words must have multipliers of 16 bits"),
        ({"multiplier": 1 << 18}, r"multiplier must be in \[0, 65535\]"),
        ({"low": 0}, "words must have .* -128 as the lowest"),
        ({"addend": 1 << 50}, "addend must be in"),
        ({"shift": 48}, r"shift must be in \[0, 47\]"),
    ],
)
def test_words_that_the_accelerator_does_not_make(given: dict[str, int], message: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
    words = _words(np.random.default_rng(1), 3, **given)
    with pytest.raises(HalutError, match=message):
        with_stage(words, 4, np.zeros((4, 16, 3), np.int64))


@pytest.mark.parametrize(("encoder", "n_taken"), [("tree", 1), ("sums", 0), ("node", 0)])
def test_layers_that_compare_no_single_values_per_level_are_left_to_software(
    encoder: str, n_taken: int
) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
    from halut.nn import HalutConv2d, LayerConfig
    from halut.nn.c_export.beside import channels_last
    from halut.nn.c_export.int8 import in_words
    from halut.nn.c_export.trace import trace

    torch.manual_seed(1)
    config = LayerConfig(encoder=encoder, input_format="int8", n_prototypes=16)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 1), HalutConv2d(4, 4, 3, config=config), torch.nn.Conv2d(4, 2, 1)
    ).eval()
    images = torch.randn(8, 2, 5, 5)
    words = in_words(trace(model, images[:1])[0], channels_last(images))
    assert len(taken(words.steps, 8)) == n_taken


def test_places_of_an_image_with_padding() -> None:
    pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
    from halut.nn.c_export.steps import LookUp, Value, Window

    rng = np.random.default_rng(4)
    window = Window(kernel=(3, 2), stride=(2, 1), dilation=(1, 2), padding=(1, 1))
    source, output = Value("source", (5, 6, 3), "i8"), Value("words", (2, 5, 4), "i8")
    step = LookUp(
        inputs=[source], output=output, window=window, tap=rng.integers(0, 6, (1, 7, 4)),
        channel=rng.integers(0, 3, (1, 7, 4)), thresholds=np.zeros((1, 7, 15), np.int64), pad=None,
        table=np.zeros((1, 7, 16, 4), np.int64), lut_bits=8, stage=_words(rng, 4),
    )  # fmt: skip
    image = np.pad(rng.integers(1, 99, (5, 6, 3)), ((1, 0), (1, 0), (0, 0)))
    down, across = np.divmod(step.tap, 2)
    for y, x in ((0, 0), (0, 2), (2, 1)):
        wanted = image[y + down, x + 2 * across, step.channel]
        first = (y * image.shape[1] + x) * 3
        np.testing.assert_array_equal(image.ravel()[first + places(step)], wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_prototypes": 8}, "n_prototypes must be 16"),
        ({"input_format": "fp16"}, "input_format must be int8"),
        ({"output_format": "raw"}, "output_format must be int8"),
        ({"relu": True}, "relu must be false"),
        ({"terms": 2}, "terms must be 1"),
        ({"double_buffer": True}, "double_buffer must be false"),
        ({"rows": 2}, "rows must be 1, or parallel_codebooks n_codebooks"),
    ],
)
def test_accelerators_that_the_firmware_cannot_use(change: dict, message: str) -> None:
    config = AcceleratorConfig(
        **{
            "n_codebooks": 8, "n_outputs": 8, "input_format": "int8", "output_format": "int8",
            **change,
        }
    )  # fmt: skip
    with pytest.raises(HalutError, match=message):
        bus_block(config)


def test_the_default_fits_the_bus() -> None:
    path = Path(__file__).parents[2] / "configs" / "options" / "soc.yaml"
    block = bus_block(AcceleratorConfig.from_yaml(path))
    assert block.data_bits == 32
