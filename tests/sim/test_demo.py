"""The demo runs from images to a page, and its problems are what they say."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install -e .[demo])")

from halut.errors import HalutError
from halut.program import Program
from sim.demo.__main__ import main
from sim.demo.problems import FILTERS, digits, photographs


def test_digits_are_held_out() -> None:
    problem = digits()
    assert problem.train.shape == (1297, 64) and problem.test.shape == (500, 64)
    assert problem.weights.shape == (64, 10)
    assert problem.quality(problem.test @ problem.weights) > 0.95
    assert problem.quality(np.zeros((500, 10))) < 0.2


def test_filters_by_hand() -> None:
    """A filter of the bank is what a loop over the photograph computes."""
    problem = photographs(n_test=2000)
    photo = problem.photographs[1]
    height, width, _ = photo.pixels.shape
    product = (problem.test @ problem.weights)[photo.rows] * problem.output_scales
    product = product.reshape(height, width, len(FILTERS))
    pixels = photo.pixels.astype(np.float64)
    luminance = pixels @ [0.299, 0.587, 0.114]
    y, x = 2, 100
    sobel = sum(
        weight * (luminance[y + dy, x + 1] - luminance[y + dy, x - 1])
        for dy, weight in ((-1, 1), (0, 2), (1, 1))
    )
    assert np.isclose(product[y, x, FILTERS.index("Sobel x")], sobel / 4, atol=1e-5)
    window = pixels[y - 1 : y + 2, x - 1 : x + 2, 0]
    blur = (window * [[1, 2, 1], [2, 4, 2], [1, 2, 1]]).sum() / 16
    assert np.isclose(product[y, x, FILTERS.index("blur R")], blur, atol=1e-5)


@pytest.mark.sim
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-o", str(tmp_path), "--rows", "400"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"wrote {tmp_path / 'index.html'}"
    rows = {}
    for line in printed.splitlines():
        cells = re.split(r"\s{2,}", line.strip())
        rows[cells[0]] = cells[1:]
    assert rows["INT8"] == rows["RTL"]
    assert rows["outputs equal to the model"][0] == "4,000 of 4,000"
    assert rows["look-ups per cycle"] == ["10", "576"]
    assert rows["bytes of LUT"] == ["2,560", "1,152"]
    accuracy = {name: float(rows[name][0].rstrip(" %")) for name in ("exact", "MADDNESS", "RTL")}
    assert accuracy["exact"] > 95
    assert accuracy["exact"] - accuracy["RTL"] < 5
    page = (tmp_path / "index.html").read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 7
    for picture in pictures:
        assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert Program.load(tmp_path / "photo.npz").n_outputs == len(FILTERS)
    assert (tmp_path / "photo.v").exists() and (tmp_path / "photo.json").exists()


def test_demo_refuses_nonsense() -> None:
    with pytest.raises(HalutError, match="--rows must be at least 1, not 0"):
        main(["--rows", "0"])
    with pytest.raises(HalutError, match="simulator must be one of verilator, icarus"):
        main(["--simulator", "verilater"])
