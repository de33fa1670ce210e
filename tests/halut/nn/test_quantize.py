"""Quantisers in torch equal those of `halut.quantize`, value by value."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut import quantize as reference  # noqa: E402
from halut.formats import FLOAT_FORMATS  # noqa: E402
from halut.nn.quantize import (  # noqa: E402
    float_inputs,
    float_thresholds,
    integer_thresholds,
    quantize_tables,
)


def random_thresholds(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    thresholds = torch.randn(2, 5, 15) * torch.tensor([1e-3, 1, 1e4, 1e-30, 1])[:, None]
    thresholds[0, 1] = 3.5  # a grid of one point
    thresholds[1, 4] = 0.0
    return thresholds


@pytest.mark.parametrize("granularity", ["codebook", "dimension", "all"])
@pytest.mark.parametrize("bits", [2, 5, 8, 16])
def test_integer_thresholds_are_those_of_numpy(bits: int, granularity: str) -> None:
    thresholds = random_thresholds(bits)
    words, scale, offset = integer_thresholds(thresholds, bits, granularity)
    for group in range(2):
        wanted = reference.integer_thresholds(thresholds[group].numpy(), bits, granularity)
        for found, value in zip((words, scale, offset), wanted, strict=True):
            assert np.array_equal(found[group].numpy(), value)


@pytest.mark.parametrize("granularity", ["column", "table"])
@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
def test_tables_come_back_within_half_a_step(bits: int, granularity: str) -> None:
    torch.manual_seed(bits)
    lut = torch.randn(2, 3, 4, 16).double() * torch.tensor([0.01, 1, 100])[:, None, None]
    entries, scale, offset = quantize_tables(lut, bits, granularity)
    half = 2 ** (bits - 1)
    assert torch.equal(entries, entries.round())
    assert entries.min() >= -half and entries.max() <= half - 1
    # Every codebook's range is centred by its own part of the offset.
    middle = (lut.amin(dim=3) + lut.amax(dim=3)) / 2
    values = (entries + 0.5) * scale.double()[..., None, None] + middle[..., None]
    step = scale.double()[..., None, None]
    assert ((values - lut).abs() <= 0.5001 * step).all()
    total = entries.sum(dim=(2, 3)) / 16 * scale.double() + offset.double()
    torch.testing.assert_close(total, lut.mean(dim=3).sum(dim=2), rtol=0.3, atol=float(step.max()))
    if granularity == "table":
        assert (scale == scale[:, :1]).all()
    else:
        assert (entries.amax(dim=(2, 3)) - entries.amin(dim=(2, 3)) == 2 * half - 1).all()


def test_constant_tables_are_kept() -> None:
    entries, scale, offset = quantize_tables(torch.full((1, 2, 3, 4), 5.0), 8, "column")
    total = entries.sum(dim=2)[..., 0] * scale + offset
    assert torch.equal(total, torch.full((1, 2), 15.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FLOAT_FORMATS)
def test_float_inputs_are_those_of_numpy(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    floating = FLOAT_FORMATS[name]
    words = np.arange(1 << floating.bits).astype(floating.dtype)
    values = floating.values(words).astype(np.float64)
    values = np.unique(values[np.isfinite(values)])
    exact = torch.from_numpy((values[:-1] + values[1:]) / 2)
    exact = torch.cat(
        [
            exact,
            exact * (1 + 2.0**-40),
            exact * (1 - 2.0**-40),
            torch.randn(5000) * 10.0 ** torch.randint(-7, 5, (5000,)),
            torch.tensor([0.0, -0.0, 1e9, -1e9, torch.inf, -torch.inf, torch.nan]),
        ]
    )
    x = exact.to(dtype)  # fmt: skip
    wanted = floating.values(floating.words(x.numpy()))
    found = float_inputs(x, name)
    assert found.dtype == dtype
    assert np.array_equal(found.numpy(), wanted, equal_nan=True)
    known = ~np.isnan(wanted)
    assert np.array_equal(np.signbit(found.numpy()[known]), np.signbit(wanted[known]))


@pytest.mark.parametrize("name", FLOAT_FORMATS)
def test_float_thresholds_decide_beside_the_exact_ones(name: str) -> None:
    torch.manual_seed(0)
    floating = FLOAT_FORMATS[name]
    edge = floating.largest_finite
    spread = torch.randn(5000) * 10.0 ** torch.randint(-7, 5, (5000,))
    exact = torch.cat([spread, torch.tensor([0.0, -0.0, 1e9, -1e9, edge, -edge, 6e-8, -6e-8])])
    found = float_thresholds(exact, name)
    assert torch.isfinite(found).all()
    words = np.arange(1 << floating.bits).astype(floating.dtype)
    values = floating.values(words)
    values = np.unique(np.append(values[np.isfinite(values)], 0.0))  # one zero
    # The largest value that is not greater.
    at = np.searchsorted(values, np.clip(exact.numpy(), -edge, edge), side="right") - 1
    assert np.array_equal(found.numpy(), values[at])
    if name != "fp8_e4m3":  # NumPy's choice is within one step of it
        wanted = floating.values(floating.thresholds(exact.numpy()))
        assert (np.abs(np.searchsorted(values, wanted.clip(-edge, edge)) - at) <= 1).all()


def test_gradients_pass_straight_through() -> None:
    torch.manual_seed(0)
    thresholds = torch.randn(1, 2, 15, requires_grad=True)
    float_thresholds(float_inputs(thresholds, "bf16"), "fp16").sum().backward()
    assert torch.equal(thresholds.grad, torch.ones_like(thresholds))
    thresholds.grad = None
    words, scale, _ = integer_thresholds(thresholds, 8, "codebook")
    (words * scale[:, :, :1]).sum().backward()
    torch.testing.assert_close(thresholds.grad, torch.ones_like(thresholds))
    lut = torch.randn(1, 3, 2, 16, requires_grad=True)
    entries, scale, _ = quantize_tables(lut, 8, "column")
    (entries * scale[..., None, None]).sum().backward()
    torch.testing.assert_close(lut.grad, torch.ones_like(lut))
