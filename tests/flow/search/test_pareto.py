"""Fronts of made-up results."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

import flow.search.points
from flow.__main__ import main
from flow.figures.metrics import Metrics
from flow.search.pareto import (
    AXES,
    csv_table,
    find_front,
    markdown,
    non_dominated,
    page,
)
from flow.search.results import read_results
from flow.search.space import Space, default_results
from flow.search.sweep import Sweep
from halut.cli import run
from halut.errors import HalutError


def test_non_dominated_by_hand():
    costs = np.array([[1, 5], [2, 4], [2, 4], [3, 4], [5, 1], [6, 6]], dtype=np.float64)
    assert non_dominated(costs).tolist() == [True, True, True, False, True, False]


def test_non_dominated_by_definition():
    costs = np.random.default_rng(3).integers(0, 6, (80, 3)).astype(np.float64)
    kept = non_dominated(costs)
    for i, row in enumerate(costs):
        beaten = any(all(o <= r for o, r in zip(other, row, strict=True)) and any(other < row)
                     for other in costs)  # fmt: skip
        assert kept[i] == (not beaten)
    assert 0 < kept.sum() < len(costs)


def _rows(*points: tuple[float | None, float | None], **more):
    """Rows of (area, throughput)."""
    counts = ("n_codebooks", "n_prototypes", "n_outputs", "rows", "parallel_codebooks", "lut_bits")
    row: dict = dict.fromkeys(counts, 1)
    row |= {"input_format": "int8", "lut_format": "int", "clock_ns": 2.0, "platform": "p"}
    row |= {"corner": None, "slug": "<s>", "status": "measured", "synth__timing__setup__ws": 0.1}
    row |= {each.column: None for each in AXES.values()}
    return [
        row | {AXES["area"].column: area, AXES["throughput"].column: rate} | more
        for area, rate in points
    ]


def test_directions_and_order():
    front = find_front(_rows((3.0, 1.0), (1.0, 1.0), (2.0, 5.0)))
    assert [each.title for each in front.axes] == ["area", "throughput"]
    assert [row[AXES["area"].column] for row in front.rows] == [1.0, 2.0, 3.0]
    assert front.on_front == [True, True, False]
    assert front.left_out == {}


def test_what_is_not_compared():
    rows = _rows((3.0, 1.0), (None, 1.0))
    rows += _rows((1.0, 9.0), synth__timing__setup__ws=-0.1)
    rows += _rows((None, 9.0), status="pruned")
    front = find_front(rows)
    assert front.on_front == [True]
    assert front.left_out == {
        "too slow for its clock": 1, "pruned": 1, "not measured on every axis": 1,
    }  # fmt: skip
    assert "1 of 1 measured points" in markdown(front)


def test_platforms_do_not_compete():
    rows = _rows((1.0, 1.0)) + _rows((2.0, 1.0), platform="q") + _rows((2.0, 1.0), corner="slow")
    assert find_front(rows).on_front == [True, True, True]


def test_texts():
    front = find_front(_rows((1.0, 1.0), (2.0, 1.0)))
    assert markdown(front).count("\n|") == 3
    lines = list(csv.DictReader(io.StringIO(csv_table(front))))
    assert [line["on_front"] for line in lines] == ["1", "0"]
    assert float(lines[1][AXES["area"].column]) == 2.0
    pytest.importorskip("plotly", reason="plotly is not installed (pip install -e .[flow])")
    text = page(front, "a <title>")
    assert "a &lt;title&gt;" in text and "Plotly.newPlot" in text
    assert "<script src=" not in text and 'src="http' not in text
    assert text == page(front, "a <title>")


def test_what_is_refused(tmp_path):
    with pytest.raises(HalutError, match=r"axes must be among .* \(did you mean \"area\"\?\)"):
        find_front(_rows((1.0, 1.0)), ["aera"])
    with pytest.raises(HalutError, match=r"axes must have been measured, unlike energy"):
        find_front(_rows((1.0, 1.0)), ["area", "energy"])
    with pytest.raises(HalutError, match=r"must have measured points .* not only 1 pruned"):
        find_front(_rows((1.0, 1.0), status="pruned"))
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (pip install -e .[flow])")
    with pytest.raises(HalutError, match=r"results must be a readable file"):
        read_results(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(HalutError, match=r"must be a Parquet file of python -m flow sweep"):
        read_results(tmp_path / "text.parquet")


def test_from_a_sweep_to_its_pages(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (pip install -e .[flow])")
    pytest.importorskip("plotly", reason="plotly is not installed (pip install -e .[flow])")

    def measure(design, *_rest):
        metrics = Metrics()
        metrics.set("halut__area__gate_equivalents", 5.0 if "_p1_" in design.slug else 4.0)
        return metrics, tmp_path

    monkeypatch.setattr(flow.search.points, "measure", measure)
    space = Space(name="s", axes={"rows": [1, 2]}, base={"n_codebooks": 1, "n_outputs": 1})
    sweep = Sweep(space, tmp_path)
    sweep.prepare()
    sweep.run()
    sweep.write(default_results(space, tmp_path))
    (tmp_path / "s.yaml").write_text("version: 1\nname: s\naxes: {rows: [1]}\n")
    arguments = ["pareto", str(tmp_path / "s.yaml"), "--build", str(tmp_path)]
    assert run(main, [*arguments, "-o", str(tmp_path)]) == 0
    assert "1 of 2 measured points are on the front of size, throughput" in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("pareto.*")} == {
        "pareto.md", "pareto.csv", "pareto.html",
    }  # fmt: skip
