"""What scripts are given, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.cells.platform_file import read_platform
from flow.layout.settings import layout_files, layout_settings
from flow.run.options import LayoutOptions
from halut.errors import HalutError
from tests.flow import support
from tests.flow.layout_support import PART, tiny


def test_extraction_rules_must_be_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbolic link that became a file with a path in it, as some archives make of it."""
    folder = tmp_path / "pdk" / "tiny"
    folder.mkdir(parents=True)
    for name in ("tiny.tech.lef", "tiny.lef"):
        (folder / name).touch()
    (folder / "tiny.rules").write_text("../other/tiny.rules")
    monkeypatch.setenv("HALUT_PDK_DIR", str(tmp_path / "pdk"))
    with pytest.raises(
        HalutError, match=r'"Extraction Rules", not .*other.*tiny.rules\)'
    ) as caught:
        layout_files(tiny(tmp_path)[0], tmp_path)
    assert "without it estimates parasitics" in str(caught.value)
    (folder / "tiny.rules").write_text("Extraction Rules for OpenRCX\n")
    assert layout_files(tiny(tmp_path)[0], tmp_path)["extraction"] == folder / "tiny.rules"


def test_vias_that_stay_on_a_layer_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OSU018's LEF has them, which the detailed router refuses."""
    folder = tmp_path / "pdk" / "tiny"
    folder.mkdir(parents=True)
    via, turn = "VIARULE via1 GENERATE\n  LAYER m1 ;\nEND via1\n\n", "LAYER m1 ;\n"
    turns = [f"VIARULE TURN{k} GENERATE\n  {turn}  {turn}END TURN{k}\n" for k in (1, 12)]
    (folder / "tiny.tech.lef").write_text("VERSION 5.8 ;\n" + turns[0] + via + turns[1] + "END\n")
    (folder / "tiny.lef").touch()
    (folder / "tiny.rules").write_text("Extraction Rules\n")
    monkeypatch.setenv("HALUT_PDK_DIR", str(tmp_path / "pdk"))
    used = layout_files(tiny(tmp_path)[0], tmp_path)["technology_lef"]
    assert used.parent == tmp_path
    assert used.read_text() == "VERSION 5.8 ;\n" + via + "END\n"
    (folder / "tiny.tech.lef").write_text(via)
    used = layout_files(tiny(tmp_path)[0], tmp_path)["technology_lef"]
    assert used == folder / "tiny.tech.lef"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  site: core\n", "", "layout.site must be given"),
        ("utilisation: 0.5", "utilisation: 1.5", "layout.utilisation must be in"),
        (
            "  site: core\n",
            "  site: core\n  hold_margin_ns: -1\n",
            "layout.hold_margin_ns must be at least 0",
        ),
        (
            "signal_layers: [m2, m4]",
            "signal_layers: [m2]",
            "layout.signal_layers must have 2 entries",
        ),
        ("diode:", "diodes:", "layout must have known keys only .*, not 'diodes' .did you mean"),
        (
            "width: 0.4,",
            "wide: 0.4,",
            r"layout.stripes\[1\] must have known keys .*, not 'wide'",
        ),
    ],
)
def test_wrong_layout_parts_are_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    assert old in PART
    path.write_text(support.PLATFORM + PART.replace(old, new))
    with pytest.raises(HalutError, match=message):
        read_platform(path)


def test_wires_end_at_the_top_layer(tmp_path: Path) -> None:
    platform, library = tiny(tmp_path)
    for top, signals, clock in ((None, "m2-m4", "m3-m4"), ("m4", "m2-m4", "m3-m4")):
        found = layout_settings(platform, library, "top", LayoutOptions(top_layer=top))
        assert (found["signal_layers"], found["clock_layers"]) == (signals, clock)
    for wrong in ("m3", "m5", "M4", ""):
        with pytest.raises(HalutError, match=f"top_layer must be one of m4.*, not '?{wrong}"):
            layout_settings(platform, library, "top", LayoutOptions(top_layer=wrong))


def test_platform_without_layout_is_refused(tmp_path: Path) -> None:
    platform, library = support.tiny_platform(tmp_path), support.tiny_library(tmp_path)
    with pytest.raises(HalutError, match="must have a layout part"):
        layout_settings(platform, library, "top", LayoutOptions())
