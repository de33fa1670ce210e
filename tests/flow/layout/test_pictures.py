"""Pictures of layouts: sums of pixels are areas, colours are units, bytes are repeatable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.layout.lefdef import read_def, read_lef
from flow.layout.pictures import ADDED, CLOCK_TREE, coverage, density, draw_layout, unit_kinds
from halut.errors import HalutError
from tests.flow.layout_support import DEF, write

UNITS = {"word[0]": "encoder", "word[1]": "decoder"}


def test_coverage_by_hand() -> None:
    boxes = np.array([[0.5, 0.5, 1.5, 2.0], [1.0, 1.0, 2.0, 2.0]])
    expected = [[0.25, 0.25], [0.5, 1.5]]
    assert coverage(boxes, (0, 0, 2, 2), (2, 2)).tolist() == expected


def test_coverage_keeps_area() -> None:
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 9, (200, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 1, (200, 2))], axis=1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).sum()
    found = coverage(boxes, (0, 0, 10, 10), (37, 53))
    assert found.sum() * (10 / 37) * (10 / 53) == pytest.approx(area, rel=1e-9)
    # What lies outside does not count.
    outside = coverage(boxes + 100, (0, 0, 10, 10), (37, 53))
    assert outside.sum() == pytest.approx(0, abs=1e-9)
    half = coverage(np.array([[-1.0, -1.0, 1.0, 1.0]]), (0, 0, 2, 2), (4, 4))
    assert half.sum() == pytest.approx(4.0)


def test_density(tmp_path: Path) -> None:
    def_file, lef_file = write(tmp_path)
    lef = read_lef([lef_file])
    found = density(read_def(def_file, lef), lef, n_bins=10)
    assert found.shape == (5, 10)
    # Bins of 2 by 2: full ones, and none for the filler at 4..5.
    assert found[0].tolist() == pytest.approx([1, 1, 0, 0, 0, 0, 0, 0, 0, 1])
    assert found.sum() == pytest.approx((3 * 8 + 4) / 4)


def test_unit_kinds(tmp_path: Path) -> None:
    def_file, lef_file = write(tmp_path)
    lef = read_lef([lef_file])
    kinds = unit_kinds(read_def(def_file, lef), lef, UNITS)
    assert kinds == ["encoder", "decoder", CLOCK_TREE, ADDED, None]


def _pixels(path: Path) -> np.ndarray:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def _count(pixels: np.ndarray, colour: str) -> int:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(pixels.astype(int) - rgb).max(axis=2) <= 1).sum())


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install -e .[flow])")
    def_file, lef_file = write(tmp_path)
    found = draw_layout(def_file, [lef_file], UNITS, tmp_path / "a", platform="tiny")
    assert set(found.files) == {"placement", "density", "routing", "clock_tree"}
    assert found.missing == {}
    again = draw_layout(def_file, [lef_file], UNITS, tmp_path / "b", platform="tiny")
    for name, path in found.files.items():
        assert path.read_bytes() == again.files[name].read_bytes()
    # The die is 20 um wide in 1350 pixels; a gap of half a pixel is around each cell.
    per_um = 1350 / 20
    placement = _pixels(found.files["placement"])
    for colour, area in (("#88ccee", 8), ("#cc6677", 8)):
        swatch = 22 * 22
        drawn = _count(placement, colour) - swatch
        assert drawn == pytest.approx(area * per_um**2, rel=0.03)
    routing = _pixels(found.files["routing"])
    assert not np.array_equal(placement, routing)


def test_unrouted_layout_says_so(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install -e .[flow])")
    text = DEF[: DEF.index("SPECIALNETS")] + "END DESIGN\n"
    def_file, lef_file = write(tmp_path, layout=text)
    (tmp_path / "routing.png").write_bytes(b"of an earlier run")
    found = draw_layout(def_file, [lef_file], UNITS, tmp_path)
    assert set(found.files) == {"placement", "density"}
    assert "no routed wires" in found.missing["routing"]
    assert "no net as clock" in found.missing["clock_tree"]
    assert not (tmp_path / "routing.png").exists()


def test_no_cells(tmp_path: Path) -> None:
    text = DEF[: DEF.index("COMPONENTS")] + "END DESIGN\n"
    def_file, lef_file = write(tmp_path, layout=text)
    with pytest.raises(HalutError, match="must have cells"):
        draw_layout(def_file, [lef_file], {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
