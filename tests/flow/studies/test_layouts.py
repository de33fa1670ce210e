"""`python -m flow layouts`: the table of routed runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from flow.__main__ import main
from flow.figures.metrics import METRICS, Metrics
from flow.studies.comparison import PUBLISHED
from flow.studies.published import LAYOUTS
from halut.errors import HalutError


def _run(folder: Path, routed: bool = True, platform: str = "tiny", clock_ns: float = 6.0,
         slug: str = "c1") -> Path:  # fmt: skip
    """A run's folder; every value is made up and none is asserted as a result."""
    metrics = Metrics()
    for k, name in enumerate(METRICS):
        later = name.startswith(("detailedroute__", "finish__", "halut__routed__"))
        metrics.set(name, k + 1 if routed or not later else None, "not routed")
    metrics.provenance = {
        "design": "engine", "slug": slug, "platform": platform, "corner": "typ", "voltage": 1.1,
        "temperature": 25.0, "clock_ns": clock_ns, "target_ns": 5.0, "commit": "c" * 40,
        "dirty": True,
        "tools": {"openroad": "1"},
        "layout": {"stages": {"place": {"seconds": 60.0, "peak_mb": 10}}},
    }  # fmt: skip
    metrics.notes["wires"] = f"wires of {platform}"
    at = {"corner": "slow", "slower": 2.5, "setup": -1.0, "hold": 0.25, "shortest_period": 4.0}
    measured = {"voltage": 0.95, "energy_per_cycle": 2.125}
    metrics.notes["corners"] = {"slow": at, "fast": at | measured}
    metrics.notes["gds"] = {"file": "pnr/final.gds", "size": 2_500_000, "sha256": "a" * 64}
    metrics.write(folder / "metrics.json")
    (folder / "pnr" / "pictures").mkdir(parents=True)
    Image.new("RGB", (1500, 750), "teal").save(folder / "pnr" / "pictures" / "routing.png")
    return folder


def test_a_column_per_run_and_per_published_layout(tmp_path):
    page = tmp_path / "page.md"
    assert main(["layouts", str(_run(tmp_path / "run")), "-o", str(page)]) == 0
    text = page.read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    # 2 / energy per MAC: a made-up run stands among the published ones, where its figure belongs.
    efficient = [
        ["custom look-up circuits (arXiv 2506.16800)", "published"],
        *[["Stella Nera (arXiv 2311.10207)", "published"]] * 2,
        ["engine", "routed"],
    ]
    # A run that was measured before energy at corners was has none.
    timed = ["2.50 ×", "-1.000", "0.250", "4.000"]
    assert rows[-2:] == [["slow", *timed, "–", "–"], ["fast", *timed, "0.95", "2.12"]]
    del rows[-4:]  # the table of corners
    assert [row[:1] + row[2:3] for row in rows[-len(PUBLISHED) - 1 :]] == efficient
    del rows[-len(PUBLISHED) - 3 :]
    assert {len(row) for row in rows} == {1 + 1 + len(LAYOUTS)}
    table = {row[0]: row[1:] for row in rows}
    number = list(METRICS).index("finish__design__die__area") + 1
    assert table["die (µm²)"] == [str(number), *["–"] * len(LAYOUTS)]
    assert table["area of cells (µm²)"][1] == "128,816"
    assert table["supply (V)"] == ["1.1"] * 4
    assert table["GDS (`pnr/final.gds`)"][0] == "2.5 MB, sha256 aaaaaaaaaaaa"
    assert "changes that were not committed" in text
    with Image.open(tmp_path / "page" / "c1-tiny-6ns_for_5ns-routing.png") as picture:
        assert picture.size == (1000, 500)
    assert "(page/c1-tiny-6ns_for_5ns-routing.png)" in text
    assert "clock_tree.png" not in text


def test_one_design_on_two_platforms(tmp_path):
    runs = [str(_run(tmp_path / name, platform=name)) for name in ("tiny", "other")]
    page = tmp_path / "page.md"
    assert main(["layouts", *runs, "-o", str(page)]) == 0
    text = page.read_text()
    assert "|  | engine, tiny | engine, other |" in text
    assert "- **engine, other**: `c1`; other typ, 1.1 V, 25 °C; wires of other; openroad 1" in text
    part = text[text.index("## engine, other\n") :]
    assert "| slow | 2.50 × |" in part
    assert "![engine, other: routing](page/c1-other-6ns_for_5ns-routing.png)" in part


def test_one_design_at_two_clocks(tmp_path):
    runs = [str(_run(tmp_path / f"{clock}", clock_ns=clock)) for clock in (5.0, 6.0)]
    page = tmp_path / "page.md"
    assert main(["layouts", *runs, "-o", str(page)]) == 0
    text = page.read_text()
    assert "|  | engine, tiny, 5 ns | engine, tiny, 6 ns |" in text
    assert {path.name for path in (tmp_path / "page").iterdir()} == {
        f"c1-tiny-{name}{end}"
        for name in ("5ns", "6ns_for_5ns")
        for end in (".json", "-routing.png")
    }


def test_what_is_not_routed_or_no_page_is_refused(tmp_path):
    placed = _run(tmp_path / "run", routed=False)
    with pytest.raises(HalutError, match="a run must be routed"):
        main(["layouts", str(placed), "-o", str(tmp_path / "page.md")])
    routed = _run(tmp_path / "other")
    with pytest.raises(HalutError, match=r"--output must end in \.md, not \.html"):
        main(["layouts", str(routed), "-o", str(tmp_path / "page.html")])
    assert not (tmp_path / "page.md").exists()


def test_metrics_beside_a_page_make_it_again(tmp_path):
    """Without the layouts, and on other pages; not twice on one."""
    runs = [_run(tmp_path / name, platform=name) for name in ("tiny", "other")]
    page = tmp_path / "page.md"
    assert main(["layouts", *map(str, runs), "-o", str(page)]) == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()}
    assert set(files) == {
        f"c1-{name}-6ns_for_5ns{end}"
        for name in ("tiny", "other")
        for end in (".json", "-routing.png")
    }
    assert files["c1-tiny-6ns_for_5ns.json"] == (runs[0] / "metrics.json").read_bytes()
    text = page.read_text()
    for run in runs:
        shutil.rmtree(run)
    published = [
        str(tmp_path / "page" / f"c1-{name}-6ns_for_5ns.json") for name in ("tiny", "other")
    ]
    for again in (page, tmp_path / "more.md"):
        assert main(["layouts", *published, "-o", str(again)]) == 0
        folder = again.with_suffix("")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
        expected = text.replace("(page/", f"({folder.name}/").splitlines()
        found = again.read_text().splitlines()
        differ = [line for line, was in zip(found, expected, strict=True) if line != was]
        assert [line[:10] for line in differ] == ["- command:"]
    with pytest.raises(HalutError, match="design, platform or clock, not all be c1-tiny-6ns"):
        main(["layouts", published[0], published[0], "-o", str(tmp_path / "twice.md")])
    assert not (tmp_path / "twice").exists() and not (tmp_path / "twice.md").exists()


def test_a_run_of_an_earlier_version_has_no_gds(tmp_path):
    run = _run(tmp_path / "run")
    data = json.loads((run / "metrics.json").read_text())
    data["notes"]["gds"] = "pnr/final.gds"
    (run / "metrics.json").write_text(json.dumps(data))
    page = tmp_path / "page.md"
    assert main(["layouts", str(run), "-o", str(page)]) == 0
    assert "| GDS (`pnr/final.gds`) | – |" in page.read_text()
