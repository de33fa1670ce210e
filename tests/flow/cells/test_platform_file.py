from pathlib import Path

import pytest
import yaml

import flow.cells.platform_file
from flow.cells.platform_file import platform_names, read_platform
from halut.errors import HalutError
from tests.flow.support import LIBRARY, PLATFORM


def test_shipped_platforms_are_valid():
    assert platform_names() == ["asap7", "generic", "nangate45", "osu018", "sky130hd"]
    for name in platform_names():
        platform = read_platform(name)
        assert platform.name == name
        if platform.has_library:
            assert platform.default_corner in platform.corners


@pytest.mark.parametrize("name", ["asap7", "nangate45", "osu018", "sky130hd"])
def test_shipped_platforms_fit_their_libraries(name, tmp_path):
    platform = read_platform(name)
    for corner in platform.corners:
        try:
            files = platform.liberty_files(corner)
        except HalutError:
            if corner == platform.default_corner:
                pytest.skip(f"{name} is not on this machine")
            continue
        library = platform.library(corner, tmp_path)
        assert library.voltage == pytest.approx(platform.corners[corner].voltage), files
        assert library.temperature == platform.corners[corner].temperature, files
        if name == "asap7":  # Its five files take long to read.
            break


def _changed(tmp_path: Path, **changes) -> Path:
    data = yaml.safe_load(PLATFORM)
    for path, value in changes.items():
        target = data
        *parents, last = path.split("__")
        for key in parents:
            target = target[key]
        if value is None:
            del target[last]
        else:
            target[last] = value
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version must be 1, not 2"),
        ({"nane": "x"}, "known keys only .*, not 'nane' .did you mean \"name\""),
        ({"name": "a/b"}, "name must be letters"),
        ({"corners": {}}, "a platform must have corners"),
        ({"corners__only__liberty": "tiny.lib"}, "liberty must be a list"),
        ({"corners__only__voltage": "high"}, "voltage must be a number"),
        ({"corners__only__voltage": -1}, "voltage must be positive"),
        ({"corners__only__wind": 1}, "corners.only must have known keys only .*, not 'wind'"),
        ({"default_corner": "slow"}, "default_corner must be one of only, not 'slow'"),
        ({"cells__gate_equivalent": None}, "gate_equivalent must be a cell's name"),
        ({"cells__bufer": {}}, "known roles only, not 'bufer' .did you mean \"buffer\""),
        ({"cells__buffer__input": None}, "cells.buffer must have the keys cell, input, output"),
        ({"cells__clock_gate": None}, "cells.clock_gate must be given"),
        ({"driver": "BUF"}, "driver must be a mapping"),
        ({"dont_use": "X*"}, "dont_use must be a list"),
        ({"max_fanout": 1}, "max_fanout must be at least 2"),
        ({"output_load_ff": "big"}, "output_load_ff must be a number"),
    ],
)
def test_every_rule_has_its_message(tmp_path, changes, message):
    file = _changed(tmp_path, **changes)
    with pytest.raises(HalutError, match=message) as error:
        read_platform(file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells__buffer__cell": "BUG"}, r'cells.buffer must be a cell.*"BUF"'),
        ({"cells__buffer__input": "Z"}, "cells.buffer must name pins of BUF, not Z"),
        ({"driver": {"cell": "BUF", "output": "Q"}}, "driver.cell must name pins of BUF, not Q"),
    ],
)
def test_roles_are_checked_against_the_library(tmp_path, monkeypatch, changes, message):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tiny.lib").write_text(LIBRARY)
    monkeypatch.setenv("HALUT_PDK_DIR", str(tmp_path))
    with pytest.raises(HalutError, match=message):
        read_platform(_changed(tmp_path, **changes)).library()


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(HalutError, match=r'not nangate4 .did you mean "nangate45"'):
        read_platform("nangate4")
    with pytest.raises(HalutError, match="must be a readable file"):
        read_platform(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(HalutError, match="must be valid YAML"):
        read_platform(tmp_path / "bad.yaml")


def test_a_copy_of_a_shipped_platform_is_a_platform(tmp_path):
    """What docs/platforms.md asks users to do."""
    source = Path(flow.cells.platform_file.__file__).parents[1] / "platforms" / "nangate45.yaml"
    text = source.read_text().replace("name: nangate45", "name: mine")
    (tmp_path / "mine.yaml").write_text(text)
    mine = read_platform(tmp_path / "mine.yaml")
    assert mine.name == "mine" and mine.corners == read_platform("nangate45").corners
