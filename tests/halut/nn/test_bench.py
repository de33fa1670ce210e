"""The measurement of layers: what is measured is the layer, and its memory stays small."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut.bench import measured_alone  # noqa: E402
from halut.nn import bench  # noqa: E402


def test_memory_is_less_than_four_times_the_convolution() -> None:
    exact, looked_up = (bench.memory_alone("conv2d", name) for name in ("exact", "int8 tables"))
    assert exact > 16  # the output alone, in MB
    assert looked_up < 4 * exact


@pytest.mark.slow
def test_layers() -> None:
    rows = measured_alone("layers", 1, {"repeats": 1})["rows"]
    assert [(row["case"], row["format"]) for row in rows] == [
        (case, name) for case in bench.CASES for name in ("exact", *bench.FORMATS)
    ]
    assert all(row["ms"] > 0 and row["mb"] > 0 for row in rows)
