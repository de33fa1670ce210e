"""Thresholds as floats, and the schedule of buffers."""

from __future__ import annotations

import numpy as np
import pytest

from halut import golden
from halut.formats import FLOAT_FORMATS

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut.nn.c_export.reference import fused  # noqa: E402
from halut.nn.c_export.schedule import schedule  # noqa: E402
from halut.nn.c_export.steps import Add, Clamp, Maximum, Network, Value, Window  # noqa: E402
from halut.nn.c_export.thresholds import keys, threshold_keys, values  # noqa: E402


@pytest.mark.parametrize("input_format", [*FLOAT_FORMATS, "int2", "int8", "int16"])
def test_a_threshold_decides_as_the_words_do_on_both_sides_of_it(input_format: str) -> None:
    program = golden.random_program(np.random.default_rng(5), 3, 16, 2, input_format, 8)
    found = threshold_keys(program)
    assert found.shape == (3, 15)
    lowest, highest = keys(np.array([-np.inf, np.inf], dtype=np.float32))
    for codebook in range(3):
        for node in range(15):
            level = (node + 1).bit_length() - 1
            around = found[codebook, node] + np.array([-1, 0, 1, 2])
            inside = around[(around >= lowest) & (around <= highest)]
            rows = np.zeros((len(inside), program.n_features), dtype=np.float32)
            rows[:, program.split_dims[codebook, level]] = values(inside)
            words = golden.comparison_keys(program.input_words(rows, quiet=True), input_format)
            nodes = golden.comparison_keys(program.threshold_words, input_format)
            goes_right = words[:, codebook, level] > nodes[codebook, node]
            assert np.array_equal(goes_right, inside > found[codebook, node])


def test_keys_are_in_the_order_of_floats_and_come_back() -> None:
    floats = np.sort(np.float32([-np.inf, -3e38, -1.5, -1e-45, 0, 1e-45, 2e-38, 7, np.inf]))
    assert (np.diff(keys(floats)) > 0).all()
    assert np.array_equal(values(keys(floats)), floats)


def test_a_fused_product_and_sum_is_rounded_once() -> None:
    rng = np.random.default_rng(6)
    a, b, c = (rng.normal(size=20000).astype(np.float32) for _ in range(3))
    c[:5000] = -(a[:5000] * b[:5000])  # cancels, but for what rounding lost
    exact = a.astype(np.longdouble) * b.astype(np.longdouble) + c.astype(np.longdouble)
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long double is no wider than double here")
    assert np.array_equal(fused(a, b, c), exact.astype(np.float32))
    assert not np.array_equal(fused(a, b, c), a * b + c)


def _residual_chain(n: int) -> Network:
    """Return poolings with an addition around each two of them."""
    current = Value("input", (4, 4, 8))
    network = Network(current, [])
    for index in range(n):
        before = current
        for part in "ab":
            pooled = Value(f"{part}{index}", (4, 4, 8))
            window = Window((3, 3), padding=(1, 1))
            network.steps.append(Maximum(inputs=[current], output=pooled, window=window))
            current = Value(f"relu_{part}{index}", (4, 4, 8))
            network.steps.append(Clamp(inputs=[pooled], output=current))
        added = Value(f"sum{index}", (4, 4, 8))
        network.steps.append(Add(inputs=[before, current], output=added))
        current = added
    return network


def test_buffers_that_live_at_the_same_time_do_not_overlap() -> None:
    network = _residual_chain(5)
    plan = schedule(network)
    placed = list({id(one): one for one in plan.values.values() if not one.caller}.values())
    assert len(placed) > 5
    met = 0
    for one in placed:
        assert one.offset % 4 == 0 and one.offset + one.n_bytes <= plan.n_bytes
        for other in placed:
            if one is not other and one.first <= other.last and other.first <= one.last:
                met += 1
                ends = one.offset + one.n_bytes <= other.offset
                assert ends or other.offset + other.n_bytes <= one.offset
    assert met > 0


def test_memory_is_used_again() -> None:
    plan = schedule(_residual_chain(5))
    size = 4 * 4 * 8 * 4
    assert plan.n_bytes == 3 * size  # the sum before, and two poolings
    assert schedule(_residual_chain(9)).n_bytes == plan.n_bytes


def test_input_and_output_are_the_callers() -> None:
    network = _residual_chain(1)
    plan = schedule(network)
    assert plan.buffer(network.input).caller == "input"
    assert plan.buffer(network.output).caller == "output"
