"""Names of a search's results."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flow.search.keys import netlist_key, point_key
from flow.search.space import SpacePoint
from rtl_gen.config import AcceleratorConfig
from tests.flow.layout_support import tiny


def test_results_of_other_cells_have_other_names(tmp_path: Path, monkeypatch) -> None:
    platform, _ = tiny(tmp_path)
    monkeypatch.setenv("HALUT_PDK_DIR", str(tmp_path.parent))
    platform = dataclasses.replace(platform, folder=tmp_path.name)
    lef, liberty = tmp_path / "tiny.lef", tmp_path / "tiny.lib"
    for path in (lef, tmp_path / "tiny.tech.lef"):
        path.write_text("VERSION 5.8 ;\n")
    point = SpacePoint(
        index=0, values={}, config=AcceleratorConfig(n_codebooks=2, n_outputs=2),
        platform=platform.name, corner=None, clock_ns=2.0, target_ns=2.0,
    )  # fmt: skip
    placed = dataclasses.replace(point, layout="placed")

    def names() -> tuple[str, str, str]:
        return (
            netlist_key(point, platform),
            point_key(point, platform, 1, None),
            point_key(placed, platform, 1, None),
        )

    first = names()
    assert names() == first and len(set(first)) == 3
    lef.write_text("MACRO BUF\n")
    second = names()
    assert second[:2] == first[:2] and second[2] != first[2]
    liberty.write_text(liberty.read_text() + "\n")
    assert not set(names()) & {*first, *second}
    # Measuring the point says what is missing.
    liberty.unlink()
    assert not set(names()) & {*first, *second}
