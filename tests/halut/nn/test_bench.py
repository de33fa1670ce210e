"""The measurement of layers: what is measured is the layer, and its memory stays small."""

from __future__ import annotations

from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut.bench import measured_alone  # noqa: E402
from halut.nn import bench  # noqa: E402
from halut.nn.forward_bench import medians  # noqa: E402


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forward", "networks"])
def test_forward(name: str) -> None:
    rows = measured_alone(name, 1, {"repeats": 1})["rows"]
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in rows)
    for case in {row["case"] for row in rows}:
        sides = [row["side"] for row in rows if row["case"] == case]
        for kind in ("float32", "INT8", "looked up"):
            assert any(side.startswith(kind) for side in sides)


def test_medians_are_of_turns() -> None:
    counts = {"first": 0, "second": 0}

    def work(name: str) -> None:
        counts[name] += 1
        sum(range(20_000 if name == "first" else 60_000))

    found = medians({name: partial(work, name) for name in counts}, repeats=5)
    assert counts == {"first": 7, "second": 7}
    assert found["first"][1] == 1.0
    assert found["second"][1] > 1.5
