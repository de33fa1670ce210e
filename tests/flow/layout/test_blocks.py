"""Where hard macros are placed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flow.cells.platform_file import read_platform
from flow.layout.blocks import block_settings
from flow.run.options import LayoutOptions
from halut.errors import HalutError


def run_of(count: int, others_um2: float, **options: Any) -> Any:
    """What is needed of a run: `count` blocks of 100 x 50 um, and other cells."""
    block = SimpleNamespace(
        name="macro", size=(100.0, 50.0), options={"top_layer": "metal7"}, folder=Path("pnr")
    )
    names = [*(f"u{k}" for k in range(count)), "gate"]
    instances = [SimpleNamespace(name=n, cell="macro" if n != "gate" else "GATE") for n in names]
    cells = {
        "macro": SimpleNamespace(kind="block", area=4000.0),
        "GATE": SimpleNamespace(kind="gate", area=others_um2),
    }
    return SimpleNamespace(
        block=block,
        platform=read_platform("nangate45"),
        options=SimpleNamespace(place_and_route=LayoutOptions(**options)),
        netlist=SimpleNamespace(instances=instances),
        block_names=names[:-1],
        library=SimpleNamespace(cells=cells),
    )


def places(settings: dict[str, Any]) -> dict[str, tuple[float, float]]:
    words = settings["block_places"]
    return {name: (x, y) for name, x, y in zip(*[iter(words)] * 3, strict=True)}


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (4, 2, 2), (5, 3, 2), (8, 4, 2)]
)
def test_blocks_stand_in_a_grid_with_channels(count: int, columns: int, rows: int) -> None:
    settings = block_settings(run_of(count, 10.0, channel_um=30.0), 0.5)
    found = places(settings)
    assert list(found) == [f"u{k}" for k in range(count)]
    left, right = (sorted({place[axis] for place in found.values()}) for axis in (0, 1))
    # The margin of 2 um is outside of the core.
    assert left == [32 + 130 * column for column in range(columns)]
    assert right == [32 + 80 * row for row in range(rows)]
    assert settings["core"] == [2, 2, 2 + 30 + 130 * columns, 2 + 30 + 80 * rows]
    assert settings["die"] == [0, 0, 4 + 30 + 130 * columns, 4 + 30 + 80 * rows]
    assert settings["top_stripe"] == "metal8"


def test_a_grid_stands_upright_where_asked_to() -> None:
    found = places(block_settings(run_of(8, 10.0, channel_um=30.0, aspect=2.0), 0.5))
    assert {place[0] for place in found.values()} == {32, 162}
    assert {place[1] for place in found.values()} == {32, 112, 192, 272}
    assert {found[f"u{k}"] for k in range(4)} == {(32, 32), (162, 32), (32, 112), (162, 112)}


def test_channels_between_rows_have_a_height_of_their_own() -> None:
    settings = block_settings(run_of(4, 10.0, channel_um=30.0, row_channel_um=50.0), 0.5)
    assert set(places(settings).values()) == {(32, 52), (162, 52), (32, 152), (162, 152)}
    assert settings["die"] == [0, 0, 4 + 30 + 2 * 130, 4 + 50 + 2 * 100]
    with pytest.raises(HalutError, match=r"row_channel_um must be at least 12.4 .*, not 5"):
        block_settings(run_of(4, 10.0, channel_um=30.0, row_channel_um=5.0), 0.5)


def test_four_in_a_row_are_a_square() -> None:
    found = places(block_settings(run_of(8, 10.0, channel_um=30.0), 0.5))
    assert {found[f"u{k}"] for k in range(4)} == {(32, 32), (162, 32), (32, 112), (162, 112)}


def test_channels_must_have_room() -> None:
    # One block: 140 x 90 um around 100 x 50.
    block_settings(run_of(1, 3799.0, channel_um=20.0), 0.5)
    with pytest.raises(HalutError, match=r"than 20: .* 3,801 of 7,600 um2"):
        block_settings(run_of(1, 3801.0, channel_um=20.0), 0.5)
