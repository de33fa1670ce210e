"""Hard macros, and the room that they get."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flow.cells.platform_file import read_platform
from flow.layout.macros import PACKING, macro_settings
from flow.run.options import LayoutOptions
from halut.errors import HalutError
from tests.flow.sram_support import CELL, LEF, platform_with_macro

TECHNOLOGY = """
LAYER metal1
  TYPE ROUTING ;
  WIDTH 0.07 ;
END metal1
"""


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
        srams={},
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
    settings = macro_settings(run_of(count, 10.0, channel_um=30.0), 0.5)
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
    found = places(macro_settings(run_of(8, 10.0, channel_um=30.0, aspect=2.0), 0.5))
    assert {place[0] for place in found.values()} == {32, 162}
    assert {place[1] for place in found.values()} == {32, 112, 192, 272}
    assert {found[f"u{k}"] for k in range(4)} == {(32, 32), (162, 32), (32, 112), (162, 112)}


def test_channels_between_rows_have_a_height_of_their_own() -> None:
    settings = macro_settings(run_of(4, 10.0, channel_um=30.0, row_channel_um=50.0), 0.5)
    assert set(places(settings).values()) == {(32, 52), (162, 52), (32, 152), (162, 152)}
    assert settings["die"] == [0, 0, 4 + 30 + 2 * 130, 4 + 50 + 2 * 100]
    with pytest.raises(HalutError, match=r"row_channel_um must be at least 12.4 .*, not 5"):
        macro_settings(run_of(4, 10.0, channel_um=30.0, row_channel_um=5.0), 0.5)


def test_four_in_a_row_are_a_square() -> None:
    found = places(macro_settings(run_of(8, 10.0, channel_um=30.0), 0.5))
    assert {found[f"u{k}"] for k in range(4)} == {(32, 32), (162, 32), (32, 112), (162, 112)}


def test_channels_must_have_room() -> None:
    # One block: 140 x 90 um around 100 x 50.
    macro_settings(run_of(1, 3799.0, channel_um=20.0), 0.5)
    with pytest.raises(HalutError, match=r"than 20: .* 3,801 of 7,600 um2"):
        macro_settings(run_of(1, 3801.0, channel_um=20.0), 0.5)


def run_with_srams(count: int, others_um2: float, home: Path, **options: Any) -> Any:
    """What is needed of a run: `count` macros of 20 x 10 um, and other cells."""
    instances = [SimpleNamespace(name=f"m{k}", cell=CELL) for k in range(count)]
    instances.append(SimpleNamespace(name="gate", cell="GATE"))
    return SimpleNamespace(
        block=None,
        srams={(16, 8): None},
        sram_cells=[CELL],
        platform=platform_with_macro(home),
        options=SimpleNamespace(place_and_route=LayoutOptions(**options)),
        netlist=SimpleNamespace(instances=instances),
        library=SimpleNamespace(cells={"GATE": SimpleNamespace(area=others_um2)}),
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLOW_HOME", str(tmp_path))
    monkeypatch.delenv("HALUT_PDK_DIR", raising=False)
    lef = tmp_path / "platforms" / "nangate45" / "lef"
    lef.mkdir(parents=True)
    (lef / "NangateOpenCellLibrary.tech.lef").write_text(TECHNOLOGY)
    return tmp_path


def test_srams_and_cells_have_room_in_the_core(home: Path) -> None:
    settings = macro_settings(run_with_srams(6, 1000.0, home, channel_um=4.0), 0.5)
    left, bottom, right, top = settings["core"]
    assert (left, bottom) == (2, 2)
    # 2 um around each macro, and twice their area for the cells.
    area = 6 * 24 * 14 / PACKING + 2000
    assert (right - left) * (top - bottom) == pytest.approx(area, rel=1e-3)
    assert right - left == pytest.approx(top - bottom, abs=0.01)
    assert settings["die"] == [0, 0, right + 2, top + 2]
    assert (settings["macros"], settings["macro_power"]) == ([CELL], ["metal4", "metal7"])
    assert (settings["half_channel"], settings["block"], settings["block_places"]) == (2, "", [])


def test_the_core_is_as_wide_and_as_high_as_its_largest_macro(home: Path) -> None:
    run = run_with_srams(1, 1.0, home, channel_um=4.0, aspect=5.0)
    left, _, right, _ = macro_settings(run, 0.5)["core"]
    assert right - left == 24
    run = run_with_srams(1, 1.0, home, channel_um=4.0, aspect=0.2)
    _, bottom, _, top = macro_settings(run, 0.5)["core"]
    assert top - bottom == 14


def test_a_missing_outline_is_named(home: Path) -> None:
    run = run_with_srams(1, 1.0, home)
    lef = home / "platforms" / "nangate45" / "lef" / f"{CELL}.lef"
    lef.write_text(LEF.replace(CELL, "other"))
    with pytest.raises(HalutError, match=rf"{CELL}.lef must have the cell {CELL}"):
        macro_settings(run, 0.5)
    lef.unlink()
    with pytest.raises(HalutError, match=rf"must have lef/{CELL}.lef for tables in SRAM, not none"):
        macro_settings(run, 0.5)
