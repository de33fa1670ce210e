"""What each kind of check lets through, and how its message reads."""

from __future__ import annotations

import numpy as np
import pytest

from halut import checks
from halut.errors import CheckFailed, HalutError


@pytest.mark.parametrize(
    ("check", "good", "bad", "message"),
    [
        (lambda v: checks.integer("n", v), np.int8(3), True, "n must be an integer, not True"),
        (lambda v: checks.integer_at_least("n", v, 2), 2, 1, "n must be at least 2, not 1"),
        (lambda v: checks.integer_from("n", v, 2), 2, 2.0, "n must be an integer of at least 2"),
        (lambda v: checks.integer_in("n", v, 1, 4), 4, 5, r"must be an integer in \[1, 4\], not 5"),
        (lambda v: checks.integer_in("n", v, 1, 4), 1, np.int8(1), "n must be an integer in"),
        (lambda v: checks.in_range("n", v, 1, 4), 1, 0, r"n must be in \[1, 4\], not 0"),
        (lambda v: checks.power_of_two("n", v), 256, 512, r"a power of two in \[2, 256\], not 512"),
        (lambda v: checks.boolean("n", v), False, 0, "n must be true or false, not 0"),
        (lambda v: checks.mapping("n", v), {}, [], "n must be a mapping, not list"),
        (lambda v: checks.one_of("n", v, ["ab", "c"]), "c", ["c"], "n must be one of ab, c, not"),
        (lambda v: checks.one_of("n", v, {"ab": 1}, "be {}"), "ab", "abb", 'did you mean "ab"'),
        (lambda v: checks.either("n", v, ("a", "b")), "b", "x", "must be \"a\" or \"b\", not 'x'"),
        (lambda v: checks.known("n", v, ("a",)), ["a"], ["a", 1], "n must be one of a, not 1"),
    ],
)  # fmt: skip
def test_checks(check, good, bad, message):
    check(good)
    with pytest.raises(HalutError, match=message):
        check(bad)


def test_errors_say_where():
    with pytest.raises(CheckFailed, match=r"^n must be 1 \(a\.yaml\)$"), checks.located("a.yaml"):
        raise CheckFailed("n must be 1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a recipe must be a readable file, not .*a\.yaml \(No such file"),
        (b"\xff", r"not .*a\.yaml \(not UTF-8 text\)"),
        (b"a: [\n", r"a recipe must be valid YAML \(.*a\.yaml, line 2\)"),
        (b"- 1\n", r"a recipe must be a mapping, not list \(.*a\.yaml\)"),
    ],
)
def test_yaml_that_cannot_be_used(content, message, tmp_path):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HalutError, match=message):
        checks.read_yaml(path, "a recipe")


def test_yaml_is_a_dictionary(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n")
    assert checks.read_yaml(path) == {"a": 1}
