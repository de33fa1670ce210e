"""The list of layouts: what an entry may say, and what is done with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.__main__ import main
from flow.cells.platform import Platform
from flow.run.options import RunOptions
from flow.studies.layout_list import read_layouts
from halut.errors import CheckFailed, HalutError
from tests.flow.studies.test_layouts import _run

LISTS = sorted(Path("configs/layouts").glob("*.yaml"))


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_shipped_lists_name_designs_that_are_there(path):
    for layout in read_layouts(path):
        assert layout.row or (path.parent / layout.config).is_file()
        assert layout.options().layout == "routed"


def _list(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "list.yaml"
    path.write_text("version: 1\nlayouts:\n" + text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  - {clock_ns: 2}\n", "config or row must be given, not both"),
        ("  - {row: dense, config: small.yaml}\n", "config or row must be given, not both"),
        ("  - {row: dens}\n", r'row must be .*not \'dens\' \(did you mean "dense"\?\)'),
        ("  - {row: dense, unit: decoder}\n", "unit must come with config"),
        ("  - {config: small.yaml, clock: 2}\n", "known keys only"),
        ("  - {config: small.yaml, clock_ns: -2}\n", "clock_ns must be a positive number of ns"),
        ("  - {config: small.yaml, utilisation: 2}\n", "utilisation must be"),
        ("  - {config: small.yaml, io_latency_ns: -1}\n", "io_latency_ns must be"),
        (
            "  - {config: small.yaml, clock_ns: 2, io_latency_ns: 2}\n",
            r"layouts\[0\]\.io_latency_ns must be less than the clock period, 2, not 2",
        ),
        (
            "  - {config: a.yaml}\n  - {config: b.yaml, block: a.yaml}\n",
            r"layouts\[1\].block must be the config or the unit of an earlier layout with abstract "
            "on its platform, of none, not 'a.yaml'",
        ),
        (
            "  - {config: a.yaml, abstract: true, platform: asap7}\n"
            "  - {config: b.yaml, block: a.yaml}\n",
            "on its platform, of none, not 'a.yaml'",
        ),
        (
            "  - {config: a.yaml, abstract: true}\n"
            "  - {config: a.yaml, abstract: true, utilisation: 0.5}\n"
            "  - {config: b.yaml, block: a.yaml}\n",
            r"layouts\[2\].block must be one earlier layout with abstract on its platform, not 2",
        ),
        ("  []\n", "layouts must be a list of at least one entry"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(tmp_path, text, message):
    path = _list(tmp_path, text)
    with pytest.raises(HalutError, match=message) as error:
        read_layouts(path)
    assert str(path) in str(error.value)


def test_a_list_is_made_and_what_fails_does_not_stop_the_rest(tmp_path, monkeypatch, capsys):
    asked: dict[str, tuple[Platform, RunOptions, Path]] = {}

    def measure(design, platform, options, build):
        asked[design.name] = platform, options, build
        if design.name == "small":
            raise CheckFailed("openroad must finish place")
        return None, _run(tmp_path / "run")

    monkeypatch.setattr("flow.studies.layouts.measure", measure)
    config = Path("configs/small.yaml").resolve()
    path = _list(
        tmp_path,
        f"  - {{config: {config}, clock_ns: 2}}\n"
        f"  - {{config: {config}, unit: decoder, clock_ns: 3, target_ns: 1.5, utilisation: 0.6,"
        " io_latency_ns: 0.3, hold_margin_ns: 0.1}\n",
    )
    page = tmp_path / "page.md"
    assert main(["layouts", "--list", str(path), "--build", str(tmp_path), "-o", str(page)]) == 1
    assert "error: not laid out: small" in capsys.readouterr().err
    assert f"flow layouts --list {path} -o {page}" in page.read_text()
    platform, options, build = asked["decoder"]
    assert platform.name == "nangate45" and build == tmp_path
    assert (options.clock_ns, options.target_ns) == (3, 1.5)
    assert options.place_and_route.utilisation == 0.6
    assert options.place_and_route.io_latency_ns == 0.3
    assert options.place_and_route.hold_margin_ns == 0.1
    assert asked["small"][1].target_ns is None


def test_nothing_is_made_when_a_design_of_the_list_is_not_there(tmp_path, monkeypatch):
    def measure(*_):
        raise AssertionError("the first layout must not be begun")

    monkeypatch.setattr("flow.studies.layouts.measure", measure)
    config = Path("configs/small.yaml").resolve()
    path = _list(tmp_path, f"  - {{config: {config}}}\n  - {{config: nowhere.yaml}}\n")
    with pytest.raises(HalutError, match=r"must be a readable file, not .*nowhere\.yaml"):
        main(["layouts", "--list", str(path), "-o", str(tmp_path / "page.md")])


def test_two_layouts_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("flow.studies.layouts.measure", None)
    config = Path("configs/small.yaml").resolve()
    path = _list(tmp_path, "".join(f"  - {{config: {config}, utilisation: 0.{n}}}\n" for n in "67"))
    with pytest.raises(HalutError, match=r"not layouts\[0\] and layouts\[1\] both .*list\.yaml"):
        main(["layouts", "--list", str(path), "-o", str(tmp_path / "page.md")])


def test_what_cannot_be_laid_out_is_said_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("flow.run.context.find_openroad", lambda *_: None)
    monkeypatch.setattr("flow.measure.run_design", None)
    config = Path("configs/small.yaml").resolve()
    path = _list(tmp_path, f"  - {{config: {config}, platform: generic}}\n")
    arguments = ["--build", str(tmp_path), "-o", str(tmp_path / "page.md")]
    assert main(["layouts", "--list", str(path), *arguments]) == 1
    assert "not laid out: small" in capsys.readouterr().err


def test_a_block_is_the_earlier_layout_on_the_same_platform(tmp_path, monkeypatch):
    blocks = []

    def measure(design, platform, options, build):
        folder = _run(
            build / f"{design.name}-{platform.name}", platform=platform.name, slug=design.slug
        )
        blocks.append((platform.name, options.place_and_route.block, folder))
        return None, folder

    monkeypatch.setattr("flow.studies.layouts.measure", measure)
    small = Path("configs/small.yaml").resolve()
    four = Path("configs/four_units.yaml").resolve()
    entries = [
        f"  - {{config: {small}, abstract: true, platform: {name}}}\n"
        for name in ("nangate45", "asap7")
    ] + [
        f"  - {{config: {four}, block: {small}, platform: {name}}}\n"
        for name in ("nangate45", "asap7")
    ]
    path = _list(tmp_path, "".join(entries))
    page = tmp_path / "page.md"
    assert main(["layouts", "--list", str(path), "--build", str(tmp_path), "-o", str(page)]) == 0
    made = [(name, folder / "pnr") for name, block, folder in blocks if block is None]
    taken = [(name, Path(block)) for name, block, _ in blocks if block is not None]
    assert len(made) == 2 and taken == made


def test_a_unit_is_a_block_by_its_own_name(tmp_path, monkeypatch):
    taken = []

    def measure(design, _platform, options, build):
        taken.append(options.place_and_route.block)
        return None, _run(build / design.name, slug=design.slug)

    monkeypatch.setattr("flow.studies.layouts.measure", measure)
    config = Path("configs/dense_p4_m32.yaml").resolve()
    path = _list(
        tmp_path,
        f"  - {{config: {config}, unit: decoders, abstract: true}}\n"
        f"  - {{config: {config}, block: decoders}}\n",
    )
    page = tmp_path / "page.md"
    assert main(["layouts", "--list", str(path), "--build", str(tmp_path), "-o", str(page)]) == 0
    assert taken == [None, str(tmp_path / "decoders" / "pnr")]


def test_nothing_to_do_is_an_error(tmp_path):
    with pytest.raises(HalutError, match="runs, or a --list of layouts, must be given"):
        main(["layouts", "-o", str(tmp_path / "page.md")])
