"""What is read out of a run's lines, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from halut.errors import CheckFailed
from soc.expected import Layer, check_sum
from soc.report import WAYS, read_ways, table

LAYERS = [
    Layer(name="first", kind="product", look_ups=0),
    Layer(name="second", kind="look up", look_ups=64),
]


def _log(wrong: int = 0) -> str:
    lines, cycle = [], 0
    for number, name in enumerate(WAYS):
        for moment in (1, 2, 3):
            lines.append(
                f"@ {10 * number + moment} {cycle} 0 0 {cycle // 2} {cycle // 4} 0 {number} 6 5"
            )
            cycle += 1000 // (number + 1)
        for mark in (1000, 1001, 1002, 1003):
            lines.append(f"@ {mark} {cycle} 0 0 0 0 0 0 0 0")
            cycle += 10
        lines.append(
            f"way {name} images 3 layers 2 wrong_layers {wrong} wrong_outputs 0 classes 2 "
            f"busy {number}"
        )
    return "\n".join(lines)


def test_figures() -> None:
    plain, software, unit, accelerator = read_ways(_log(), LAYERS, LAYERS)
    assert (plain.cycles, software.cycles, unit.cycles) == (1000, 500, 333)
    assert (accelerator.cycles, accelerator.busy_cycles) == (250, 3)
    assert (plain.read_words, plain.written_words) == (500, 250)
    assert (plain.images, plain.right_classes) == (3, 2)
    assert [(layer.name, layer.cycles) for layer in unit.by_layer] == [
        ("first", 10),
        ("second", 10),
    ]
    rows = {row[0]: row[1:] for row in table([plain, software, unit])}
    assert rows["times faster than (a)"] == ["1.0", "2.0", "3.0"]
    assert rows["layers equal the model"] == ["6", "6", "6"]
    assert rows["data read, bytes"][0] == "2,000"


def test_a_wrong_layer_or_a_missing_way_is_refused() -> None:
    with pytest.raises(CheckFailed, match=r"every layer must equal the model, but 1 layers"):
        read_ways(_log(wrong=1), LAYERS, LAYERS)
    with pytest.raises(CheckFailed, match="must report all ways, not leave out plain"):
        read_ways("", LAYERS, LAYERS)


def test_check_sum_by_hand() -> None:
    # FNV-1a of the bytes 0x01 and 0xff.
    first = (2166136261 ^ 1) * 16777619 % 2**32
    assert check_sum(np.array([1, -1]), "i8") == (first ^ 255) * 16777619 % 2**32
    assert check_sum(np.array([1.0]), "f32") == check_sum(np.array([0, 0, -128, 63]), "i8")
