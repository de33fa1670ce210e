"""Reports of conversion as pages."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.nn import ConversionReport, ConversionRow, LayerConfig, convert_  # noqa: E402


def test_every_error_is_a_point_and_every_layer_a_line() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4), nn.GRU(4, 4))
    x = torch.randn(300, 16)
    report = convert_(
        model, LayerConfig(n_prototypes=4), x, held_out=torch.randn(100, 16), progress=True
    )
    page = report.html("A <small> network")
    svg = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    circles = svg.findall("circle")
    assert len(circles) == 2 * 4
    first = report.rows[0]
    (label,) = [
        one.findtext("title") for one in circles
        if "0: layer, exact inputs" in (one.findtext("title") or "")
    ]  # fmt: skip
    assert label == f"0: layer, exact inputs {first.exact_inputs_error:.4g}"
    # Larger errors are higher up.
    heights = {one.findtext("title").rsplit(" ", 1)[1]: float(one.get("cy")) for one in circles}
    ordered = sorted(heights, key=float)
    assert [heights[key] for key in ordered] == sorted(heights.values(), reverse=True)
    lines = re.findall(r"<tr>.*?</tr>", page)
    assert len(lines) == 1 + 3
    assert "step by step" in lines[3] and "<h1>A &lt;small&gt; network</h1>" in page
    assert f"{100 * report.share_of_macs:.1f} % of the MACs" in page
    assert "http" not in page and "<script" not in page


def test_reports_of_layers_that_all_stay_and_of_odd_errors() -> None:
    stays = ConversionRow(name="a", kind="LSTM", converted=False, reason="x < y")
    page = ConversionReport(rows=(stays,)).html()
    assert "<svg" not in page and "x &lt; y" in page
    odd = ConversionRow(
        name="b", kind="Linear", converted=True, error=0.0, float_error=0.0,
        output_error=float("inf"),
    )  # fmt: skip
    assert ConversionReport(rows=(odd,)).html().count("<circle") == 2
