"""The HTML report: its parts by themselves, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.__main__ import main
from flow.designs.design import PARTS, accelerator
from flow.figures.metrics import METRICS, Metrics
from flow.figures.words import stage
from flow.report.html import charts, runs, schematic, waveform
from flow.report.html.page import reached
from halut import HalutMatmul, golden
from halut.cli import run
from halut.errors import CheckFailed, HalutError
from rtl_gen.config import AcceleratorConfig
from rtl_gen.direct import DotProductConfig
from rtl_gen.tiled_config import AnyConfig, TiledConfig

pytest.importorskip("plotly", reason="plotly is not installed (pip install -e .[flow])")
pytest.importorskip("jinja2", reason="jinja2 is not installed (pip install -e .[flow])")

ROOT = Path(__file__).parents[4]
SMALL = ROOT / "configs" / "small.yaml"
CONFIGS = ("small", "stella_nera", "row_parallel", "dense", "unrolled", "digits_network")
AREA = "synth__design__instance__area__stdcell"
ENERGY = "halut__energy__per_mac"
POWER = "synth__power__total"
HOSTILE = "<script>alert(1)</script>&amp;"


def _metrics(config: AnyConfig | None, scale: float = 1.0) -> Metrics:
    """A run's metrics; every value is made up and none is asserted as a result."""
    metrics = Metrics()
    for k, name in enumerate(METRICS):
        metrics.set(name, (k + 1) * scale)
    metrics.set("synth__timing__hold__ws", None, "no OpenSTA")
    metrics.provenance = {
        "halut_stack": "0", "commit": "c" * 40, "dirty": False, "date": "2026-01-02T03:04:05+00:00",
        "design": config.name if config else "engine", "platform": "tiny", "corner": "typ",
        "voltage": 1.1, "temperature": 25.0, "clock_ns": 6.0, "target_ns": 5.0,
        "tools": {"yosys": "1"}, "configuration": config.to_dict() if config else None,
    }  # fmt: skip
    metrics.notes = {
        "conditions": ["after synthesis; not placed"],
        "workload": HOSTILE,
        "critical_path": {
            "from": HOSTILE,
            "to": "b",
            "stretches": [
                {"unit": "control", "kind": "control", "cells": ["a (INV)", HOSTILE],
                 "delays_ns": [0.1, 0.2], "delay_ns": 0.3},
                {"unit": "block0", "kind": "decoder sums", "cells": ["c (FA)"], "delay_ns": 0.4},
            ],
        },
    }  # fmt: skip
    metrics.breakdown = [
        {"unit": unit, "instances": 1, "cells": k + 1, "area": 10.0 * (k + 1) * scale,
         "internal_mw": 0.5, "switching_mw": 0.25, "leakage_mw": 0.25}
        for k, unit in enumerate(PARTS)
        if unit != "SRAM"  # tables in latches
    ]  # fmt: skip
    return metrics


def _png() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(
        b"IDAT", zlib.compress(b"\0\0")
    ) + chunk(b"IEND", b"")  # fmt: skip


def _folder(place: Path, config: AnyConfig | None, scale: float = 1.0) -> Path:
    _metrics(config, scale).write(place / "metrics.json")
    return place


@pytest.fixture
def small() -> AcceleratorConfig:
    return AcceleratorConfig.from_yaml(SMALL)


# Parts


@pytest.mark.parametrize("name", CONFIGS)
def test_the_schematic_tells_the_sizes(name):
    config = AcceleratorConfig.from_yaml(ROOT / "configs" / f"{name}.yaml")
    root = ElementTree.fromstring(schematic.draw(config, _metrics(config)))
    words = " | ".join(text for text in root.itertext())
    c = config
    for size in (
        f"{c.rows * c.parallel_codebooks * c.tree_depth * c.input_bits:,} bit",
        f"{c.lut_total_bits:,} bits in all",
        f"{c.threshold_total_bits:,} bits in all",
        f"{c.n_groups * c.n_banks * c.n_prototypes:,} words × {c.lut_bits} bits",
        f"o_data {c.output_width * c.result_bits:,} bit",
        f"latency {c.latency_cycles} cycles",
    ):
        assert size in words, size
    copies = [text for text in root.itertext() if text.startswith("×") and " " not in text]
    wanted = [f"×{count:,}" for count in (c.parallel_codebooks, c.n_outputs) if count > 1]
    assert copies == wanted
    marks = [each for each in root.iter("circle") if each.get("class") == "mark"]
    assert len(marks) == 2


def test_a_treemap_adds_up_and_groups_by_part(small):
    metrics = _metrics(small)
    trace = charts.treemap(metrics.breakdown, ("area",), "µm²")["data"][0]
    sizes = dict(zip(trace["ids"], trace["values"], strict=True))
    assert sizes["all cells"] == pytest.approx(sum(row["area"] for row in metrics.breakdown))
    parents = dict(zip(trace["ids"], trace["parents"], strict=True))
    assert parents["comparators"] == "part encoders"
    assert parents["LUT memory and select"] == "all cells"
    inside = [sizes[name] for name, parent in parents.items() if parent == "part encoders"]
    assert sizes["part encoders"] == pytest.approx(sum(inside))
    assert charts.treemap([{"unit": "x", "area": 1.0}], ("leakage_mw",), "mW") is None


def test_the_critical_path_is_cells_one_after_the_other(small):
    first, second = charts.critical_path(_metrics(small))["data"]
    assert first["base"] == [0.0, pytest.approx(0.1)] and first["x"] == [0.1, 0.2]
    # A file without the delay of each cell: one bar for the stretch.
    assert second["base"] == [pytest.approx(0.3)] and second["x"] == [0.4]
    assert "<script>" not in json.dumps(first["customdata"])


def test_stages_are_never_more_than_they_are():
    assert stage(AREA) == "after synthesis"
    assert stage(ENERGY) == "after synthesis"
    assert stage("finish__timing__setup__ws") == "after routing"
    assert stage("halut__routed__energy_per_mac") == "after routing"
    assert stage("detailedplace__power__total") == "after placement"
    assert stage("sim__latency__cycles") == "simulated netlist"
    assert stage("halut__design__macs_per_cycle") == "by construction"


def test_the_page_says_how_far_the_flow_went():
    metrics = Metrics()
    metrics.set(AREA, 1.0)
    metrics.values["finish__timing__setup__ws"] = None
    assert reached(metrics) == "after synthesis"
    metrics.values["finish__timing__setup__ws"] = 0.1
    assert reached(metrics) == "after routing"
    metrics.values["halut__fpga__frequency"] = 100.0
    assert reached(metrics) == "placed and routed on an FPGA"


def test_samples_are_taken_before_the_edge(tmp_path):
    (tmp_path / "d.vcd").write_text(
        "$timescale 1ns $end\n$scope module top $end\n$var wire 1 ! clk $end\n"
        "$var wire 4 # a [3:0] $end\n$scope module in $end\n$var wire 1 % b $end\n"
        "$upscope $end\n$upscope $end\n$enddefinitions $end\n"
        "#0\n0!\nbx01z #\n0%\n#1\n1!\nb11 #\n1%\n#2\n0!\n#3\n1!\n0%\n#4\n0!\n#5\n1!\n"
    )
    seen = waveform.sampled(tmp_path / "d.vcd", "top.clk", ["top.a", "top.in.b"])
    assert seen == {"top.a": [2, 3, 3], "top.in.b": [0, 1, 0]}
    with pytest.raises(CheckFailed, match=r"must hold top\.c"):
        waveform.sampled(tmp_path / "d.vcd", "top.clk", ["top.c"])


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "stella_nera", "row_parallel", "digits_network"])
def test_a_recorded_row_group_is_that_of_the_model(name):
    config = AcceleratorConfig.from_yaml(ROOT / "configs" / f"{name}.yaml")
    _check_recording(config)


@pytest.mark.sim
def test_a_recording_of_the_small_one(small):
    _check_recording(small)


def _check_recording(config: AcceleratorConfig) -> None:
    rng = np.random.default_rng(5)
    program = golden.random_program(
        rng, config.n_codebooks, config.n_prototypes, config.n_outputs, config.input_format
    )
    rows = rng.uniform(-100, 100, (config.rows, program.n_features))
    excerpt = waveform.record(config, program, rows)
    words = program.input_words(rows)
    codes = golden.encode(program, words)[0].tolist()
    seen = [code for codes_now in excerpt.codes if codes_now for code in codes_now]
    # The middle of a long passage is left out.
    assert seen == codes or len(excerpt.cycles) > 50
    assert excerpt.results == golden.matmul(program, words)[0].tolist()
    first = excerpt.cycles.index(0)
    assert excerpt.signals["i_valid"][first] == excerpt.signals["i_ready"][first] == 1
    ends = [
        cycle
        for cycle, valid in zip(excerpt.cycles, excerpt.signals["o_valid"], strict=True)
        if valid
    ]
    assert ends[0] == config.n_groups - 1 + config.latency_cycles
    root = ElementTree.fromstring(waveform.draw(config, excerpt))
    assert "sum of output 0" in list(root.itertext())


# Command line


def _report(*arguments: object) -> int:
    return run(main, ["report", "-q", "--no-waveform", *map(str, arguments)])


def test_same_inputs_same_bytes_and_no_text_is_markup(tmp_path, small):
    folder = _folder(tmp_path / "run", small)
    pages = []
    for name in ("1.html", "2.html"):
        assert _report(folder, "-o", tmp_path / name) == 0
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]
    text = pages[0].decode()
    assert HOSTILE not in text and "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;" in text
    # Once per file, however many plots there are.
    assert text.count("* plotly.js v") == 1
    assert "no OpenSTA" in text


def test_a_direct_engine_without_power_or_path_still_has_a_page(tmp_path):
    metrics = _metrics(None)
    metrics.provenance["configuration"] = DotProductConfig().to_dict()
    metrics.set(POWER, None, "no simulator here")
    metrics.breakdown = [{"unit": "multipliers", "area": 3.0}]
    del metrics.notes["critical_path"]
    metrics.notes["timing_by"] = "no OpenSTA here"
    metrics.write(tmp_path / "metrics.json")
    assert _report(tmp_path, "-o", tmp_path / "p.html") == 0
    text = (tmp_path / "p.html").read_text()
    assert 'class="drawing' not in text and "multipliers" in text
    assert "no simulator here" in text and "no OpenSTA here" in text


def test_marks_against_a_baseline(tmp_path, small):
    new, old = _folder(tmp_path / "new", small), _folder(tmp_path / "old", small, 2.0)
    assert _report(new, "--baseline", old, "-o", tmp_path / "p.html") == 0
    text = (tmp_path / "p.html").read_text()
    row = next(part for part in text.split("<tr>") if f"<code>{AREA}</code>" in part)
    assert "▲" in row and "−50 % better" in row
    row = next(part for part in text.split("<tr>") if "<code>synth__timing__fmax</code>" in part)
    assert "▼" in row and "−50 % worse" in row


def test_accuracy_names_its_data(tmp_path, small):
    rng = np.random.default_rng(3)
    A, B = rng.standard_normal((300, 8)), rng.standard_normal((8, small.n_outputs))
    learner = HalutMatmul(C=small.n_codebooks, K=small.n_prototypes).learn_offline(A[:200], B)
    program = learner.program(small.input_format)
    program.save(tmp_path / "p.npz")
    np.save(tmp_path / "t.npy", A[200:])
    np.save(tmp_path / "b.npy", B)
    folder = _folder(tmp_path / "run", small)
    given = ["--program", tmp_path / "p.npz", "--test", tmp_path / "t.npy", "--b"]
    assert _report(folder, *given, tmp_path / "b.npy", "-o", tmp_path / "p.html") == 0
    text = (tmp_path / "p.html").read_text()
    exact = A[200:] @ B
    got = golden.dequantize(program, golden.matmul(program, program.input_words(A[200:])))
    error = np.square(exact - got).sum() / np.square(exact).sum()
    assert f"{error:.4g}" in text and "100 rows of t.npy times b.npy" in text


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d["metrics"].update({AREA: "big"}), "a metric must be a number or null"),
        (lambda d: d.update(breakdown=7), "breakdown must be a list"),
        (lambda d: d.update(breakdown=[{"unit": "x"}]), "must hold numbers"),
        (lambda d: d.update(breakdown=[3]), "must have a unit"),
        (lambda d: d["notes"].update(routed_breakdown=3), "routed_breakdown must be a list"),
        (lambda d: d.update(notes=[]), "notes must be a mapping"),
        (lambda d: d["notes"].update(critical_path={"stretches": [1]}), "critical_path must be"),
        (lambda d: d["provenance"].pop("clock_ns"), "clock_ns must be a number, not None"),
        (lambda d: d["provenance"]["configuration"].update(rows=0), "rows must be an integer"),
    ],
)
def test_a_damaged_metrics_file_is_one_clear_line(tmp_path, small, capsys, change, match):
    path = _folder(tmp_path, small) / "metrics.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    assert _report(tmp_path, "-o", tmp_path / "p.html") == 2
    error = capsys.readouterr().err
    assert re.search(match, error) and str(path) in error and error.count("\n") == 1
    assert not (tmp_path / "p.html").exists()


def test_wrong_command_lines(tmp_path, small, capsys):
    folder = _folder(tmp_path / "run", small)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "metrics.json").write_text('{"kind": "halut-met')
    pictures = _folder(tmp_path / "drawn", small) / "pnr" / "pictures"
    pictures.mkdir(parents=True)
    (pictures / "a.png").write_text("no picture")
    for arguments, match in (
        ([], "at least one RUN"),
        ([folder, "--config", SMALL], "not both"),
        ([tmp_path / "none"], "a run must be a folder with metrics.json"),
        ([tmp_path / "half"], "metrics must be JSON"),
        ([folder, "--test", "t.npy"], "must come together"),
        ([folder, "--program", tmp_path / "none.npz"], "none.npz"),
        ([tmp_path / "drawn"], "a picture must be a PNG file"),
    ):
        assert _report(*arguments, "-o", tmp_path / "p.html") == 2
        error = capsys.readouterr().err
        assert match in error and error.count("\n") == 1
    assert not (tmp_path / "p.html").exists()


def test_the_flow_leaves_what_the_report_needs(small):
    design = accelerator(small)
    assert AcceleratorConfig.from_dict(dict(design.configuration or {})) == small
    assert set(design.labels.values()) <= set(PARTS)
    with pytest.raises(HalutError, match=r"must be a folder with metrics\.json"):
        runs.metrics_of("nowhere")


def test_a_run_of_several_units(tmp_path, small):
    """The page draws one of them, and says why no waveform is there."""
    config = TiledConfig(unit=small, row_tiles=2, codebook_tiles=3)
    folder = _folder(tmp_path / "run", config)
    assert runs.read_run(folder, set()).config == config
    assert run(main, ["report", "-q", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "one of 6 units" in page and "2 × 1 × 3 in N, M, D" in page
    assert f"{small.lut_total_bits:,} bits in all" in page
    assert "Not recorded: only one unit alone is recorded" in page
    assert "one of" not in schematic.draw(small, _metrics(small))


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    place = next(filter(None, map(shutil.which, names)))
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=place, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs compared, one with a picture of its layout."""
    place = tmp_path_factory.mktemp("report")
    config = AcceleratorConfig.from_yaml(SMALL)
    first, second = _folder(place / "a", config), _folder(place / "b", config, 0.5)
    (second / "pnr" / "pictures").mkdir(parents=True)
    (second / "pnr" / "pictures" / "1_placement_density.png").write_bytes(_png())
    assert _report(first, second, "-o", place / "page.html") == 0
    return place / "page.html"


class _Opened:
    """The page in a context without a network; complaints and requests are collected."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(offline=True, **options)
        # Generous: a loaded machine takes long to start a browser's processes.
        self.context.set_default_timeout(120_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = path.as_uri()
        self.page.goto(self.address)
        self.page.wait_for_function("document.documentElement.dataset.drawn === 'yes'")

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.fixture(scope="module")
def opened(browser: Any, page_file: Path) -> Iterator[_Opened]:
    """The page on a desk's screen, opened once: it takes seconds."""
    with _Opened(browser, page_file, color_scheme="light") as found:
        yield found


@pytest.mark.needs("chromium")
def test_in_a_browser_nothing_is_loaded_and_all_plots_are_drawn(opened):
    page = opened.page
    plots = page.locator(".plot").count()
    assert plots > 8 and page.locator(".plot .main-svg").count() >= plots
    assert page.locator("svg.schematic").count() == 2
    picture = page.locator('img[alt="layout: placement density"]')
    assert picture.evaluate("image => image.naturalWidth") == 1
    assert opened.complaints == []
    outside = [url for url in opened.requests if not url.startswith(("data:", "blob:"))]
    assert outside == [opened.address]


@pytest.mark.needs("chromium")
def test_in_a_browser_tables_sort(opened):
    table = opened.page.locator("#comparison table")
    head = table.locator("thead th").nth(3)
    column = table.locator("tbody tr td:nth-child(4)")

    def values() -> list[str]:
        return column.evaluate_all("cells => cells.map(cell => cell.dataset.sort)")

    unsorted = values()
    head.locator("button").focus()
    opened.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    numbers = [float(value) for value in values() if value]
    assert numbers == sorted(numbers)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    numbers = [float(value) for value in values() if value]
    assert numbers == sorted(numbers, reverse=True) and values() != unsorted
    table.locator("thead th").nth(0).locator("button").click()
    assert head.get_attribute("aria-sort") == "none"


@pytest.mark.needs("chromium")
def test_in_a_browser_plots_respond(opened):
    plot = opened.page.locator("#run-1-path .plot")
    plot.scroll_into_view_if_needed()
    assert plot.locator(".hoverlayer .hovertext").count() == 0
    # Plotly takes the pointer on a layer above the bars.
    plot.locator(".bars .point path").first.hover(force=True)
    plot.locator(".hoverlayer .hovertext").first.wait_for()
    assert "INV" in (plot.locator(".hoverlayer").text_content() or "")


@pytest.mark.needs("chromium")
def test_in_a_browser_marks_are_words_and_signs(opened):
    row = opened.page.locator("#comparison tbody tr", has=opened.page.locator(f'[title="{AREA}"]'))
    assert row.locator(".mark").all_inner_texts() == ["▲ −50 % better"]
    row = opened.page.locator("#comparison tbody tr", has_text="highest frequency")
    assert row.locator(".mark").all_inner_texts() == ["▼ −50 % worse"]


@pytest.mark.needs("chromium")
def test_in_a_browser_a_phone_does_not_scroll_sideways(browser, page_file):
    with _Opened(browser, page_file, viewport={"width": 390, "height": 844}) as seen:
        width = seen.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390
        # What is wider scrolls inside of its box.
        wide = seen.page.locator(".scroll").first.evaluate("e => [e.scrollWidth, e.clientWidth]")
        assert wide[0] > wide[1]


@pytest.mark.needs("chromium")
def test_in_a_browser_dark_is_dark(opened):
    look = """() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector('.plot .xtick text')).fill]"""
    light = opened.page.evaluate(look)
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_function(f"before => ({look})()[1] !== before", arg=light[1])
    dark = opened.page.evaluate(look)

    def brightness(colour: str) -> float:
        return sum(map(float, re.findall(r"[\d.]+", colour)[:3]))

    assert brightness(light[0]) > 600 and brightness(dark[0]) < 150
    assert brightness(light[1]) < brightness(dark[1])


@pytest.mark.needs("chromium")
def test_in_a_browser_it_prints(opened):
    # The page's own listener came first: these are the plots as they are printed.
    opened.page.evaluate("""() => addEventListener('beforeprint', () => {
        window.printed = [...document.querySelectorAll('.plot .svg-container')]
            .map(plot => parseFloat(plot.style.width));
    })""")
    content = opened.page.pdf(format="A4")
    assert content.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", content)) > 3
    widths = opened.page.evaluate("window.printed")
    assert len(widths) == opened.page.locator(".plot").count() and max(widths) <= 660
    # And on the screen they are as wide as their places again.
    opened.page.wait_for_function("""() => [...document.querySelectorAll('.plot')].every(plot =>
        Math.abs(plot.clientWidth
            - plot.querySelector('.main-svg').getBoundingClientRect().width) < 2)""")
    # Print is on white paper whatever the screen's theme.
    opened.page.emulate_media(media="print", color_scheme="dark")
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
