"""A field of a configuration brings its rule, its flag and its help."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import pytest

from halut.errors import HalutError
from rtl_gen.settings import add_flags, check_settings, given_settings, name_setting, setting


@dataclass(frozen=True, kw_only=True)
class Small:
    name: str = name_setting()
    size: int = setting(4, "--size", "size in um", within=(1, 9))
    kind: str = setting("a", "--kind", "kind", group="more", choices=("a", "b"))
    wide: bool = setting(False, "--wide", "twice as wide", group="more")
    bits: int | None = setting(None, "--bits", "width in bits", derived="what fits")


@dataclass(frozen=True, kw_only=True)
class Large:
    size: int = setting(400, "--size", "size in um", within=(100, 900))
    kind: str = setting("c", "--kind", "other kind", group="more", choices=("c",))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a b"}, "name must be letters, digits, _ and -, not 'a b'"),
        ({"name": 3}, "name must be letters"),
        ({"size": 0}, r"size must be an integer in \[1, 9\], not 0"),
        ({"kind": "c"}, "kind must be one of a, b, not 'c'"),
        ({"kind": None}, "kind must be one of a, b, not None"),
        ({"wide": 1}, "wide must be true or false, not 1"),
    ],
)
def test_rules(fields, message):
    check_settings(Small())
    with pytest.raises(HalutError, match=message):
        check_settings(Small(**fields))


def parser(configs):
    made = argparse.ArgumentParser(
        formatter_class=lambda prog: argparse.HelpFormatter(prog, 30, 200)
    )
    add_flags(made, configs)
    return made


def test_flags_of_one_configuration():
    configs = {"": Small}
    made = parser(configs)
    text = made.format_help()
    for line in (
        r"--size N        size in um (default: 4)",
        r"--kind X        kind: a, b (default: a)",
        r"--wide, --no-wide  twice as wide (default: no)",
        r"--bits N        width in bits (default: what fits)",
    ):
        assert " ".join(line.split()) in " ".join(text.split())
    assert "\nmore:\n" in text
    assert given_settings(made.parse_args([]), configs) == {}
    given = made.parse_args(["--size", "0", "--no-wide", "--name", "x"])
    assert given_settings(given, configs) == {"name": "x", "size": 0, "wide": False}


def test_flags_that_configurations_share():
    text = " ".join(parser({"small": Small, "large": Large}).format_help().split())
    assert "size in um (default: 4; large: 400)" in text
    assert "small: kind: a, b (default: a); large: other kind: c (default: c)" in text
    assert "small: width in bits (default: what fits)" in text
