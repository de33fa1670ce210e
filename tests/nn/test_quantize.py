"""Quantisers in torch equal those of `halut.quantize`, value by value."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut import quantize as reference  # noqa: E402
from halut.nn.quantize import half_thresholds, integer_thresholds, quantize_tables  # noqa: E402


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


def test_half_thresholds_decide_beside_the_exact_ones() -> None:
    torch.manual_seed(0)
    spread = torch.randn(5000) * 10.0 ** torch.randint(-7, 5, (5000,))
    corners = torch.tensor([0.0, -0.0, 1e9, -1e9, 65504.0, -65504.0, 6e-8, -6e-8])
    exact = torch.cat([spread, corners])
    found = half_thresholds(exact)
    assert torch.equal(found.half().float(), found) and torch.isfinite(found).all()
    # The largest half float that is not greater, which NumPy's choice is within one step of.
    inside = exact.abs() < 65504
    above = torch.from_numpy(np.nextafter(found.half().numpy(), np.float16(np.inf))).float()
    assert (found[inside] <= exact[inside]).all() and (above[inside] > exact[inside]).all()
    wanted = reference.half_thresholds(exact.numpy())
    assert (found.half().numpy() == wanted).mean() > 0.99


def test_gradients_pass_straight_through() -> None:
    torch.manual_seed(0)
    thresholds = torch.randn(1, 2, 15, requires_grad=True)
    half_thresholds(thresholds).sum().backward()
    assert torch.equal(thresholds.grad, torch.ones_like(thresholds))
    thresholds.grad = None
    words, scale, _ = integer_thresholds(thresholds, 8, "codebook")
    (words * scale[:, :, :1]).sum().backward()
    torch.testing.assert_close(thresholds.grad, torch.ones_like(thresholds))
    lut = torch.randn(1, 3, 2, 16, requires_grad=True)
    entries, scale, _ = quantize_tables(lut, 8, "column")
    (entries * scale[..., None, None]).sum().backward()
    torch.testing.assert_close(lut.grad, torch.ones_like(lut))
