"""Budgets of time, reckoned from sizes; progress on a terminal only."""

import io

import pytest

from halut.effort import BUDGETS, passes_shown, variants


def test_small_products_take_all_passes():
    passes = [[one.n_passes for one in variants(effort, 1000, 64, 8, 1)] for effort in range(4)]
    assert passes == [[4], [8], [12, 12], [24] * 5]


@pytest.mark.parametrize("effort", range(4))
def test_passes_fit_the_budget(effort):
    """Twice the rows, or sums: half the passes, down to one."""
    sizes = 32768, 2304
    seconds = 2.3e-8 * 32768 * 2304
    for n_codebooks in (16, 256, 100_000):
        for terms in (1, 2):
            found = variants(effort, *sizes, n_codebooks, terms)
            spent = seconds * n_codebooks * terms * sum(one.n_passes for one in found)
            assert spent <= BUDGETS[effort] or all(one.n_passes == 1 for one in found)
    most = [sum(one.n_passes for one in variants(effort, *sizes, n, 1)) for n in (16, 256)]
    assert most[0] > most[1]


def test_progress(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        with passes_shown(2, True) as advance:
            advance()
            advance()
        assert ("1 of 2 passes" in stream.getvalue()) == shown
        assert ("2 of 2 passes" in stream.getvalue()) == shown
        assert stream.getvalue().endswith("\r") == shown
    quiet = Terminal()
    monkeypatch.setattr("sys.stderr", quiet)
    with passes_shown(1, False) as advance:
        advance()
    assert not quiet.getvalue()
