"""How sums are formed, as one object: what it unpacks to, and where it is checked."""

from __future__ import annotations

import numpy as np
import pytest

from halut import golden
from halut.accumulation import Accumulation
from halut.errors import HalutError

SHARED = Accumulation(parallel_codebooks=4, codebook_tiles=2, codebooks_per_load=8)


def test_it_unpacks_as_keywords():
    assert Accumulation(**SHARED) == SHARED
    assert dict(SHARED)["codebooks_per_load"] == 8
    assert SHARED.order == (4, 2, 8)
    assert Accumulation().order == (1, 1, 0)
    assert Accumulation.of_order(SHARED.order) == SHARED
    assert Accumulation.of_order((1, 1, 0)) == Accumulation()


def test_an_object_and_its_fields_are_the_same():
    rng = np.random.default_rng(3)
    program = golden.random_program(rng, 12, 4, 3, lut_bits=16, lut_format="fp16", corner=True)
    words = golden.random_words(rng, program, 200, corner=True)
    wanted = golden.results(program, words, SHARED)
    assert golden.results(program, words, **SHARED).tobytes() == wanted.tobytes()
    changed = golden.results(program, words, SHARED, codebooks_per_load=None)
    assert changed.tobytes() != wanted.tobytes()
    whole = Accumulation(parallel_codebooks=4, codebook_tiles=2)
    assert golden.results(program, words, whole).tobytes() == changed.tobytes()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parallel_codebooks": 2.0}, "parallel_codebooks must be an integer, not 2.0"),
        ({"codebook_tiles": 0}, "codebook_tiles must be at least 1, not 0"),
        ({"codebooks_per_load": 0}, "codebooks_per_load must be at least 1, not 0"),
        ({"acc_bits": True}, "acc_bits must be an integer, not True"),
        ({"overflow": "warp"}, r'overflow must be one of saturate, wrap, .* \(did you mean "wrap"'),
    ],
)
def test_rules(fields, message):
    with pytest.raises(HalutError, match=message):
        Accumulation(**fields)
