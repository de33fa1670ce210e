"""Testbenches of arithmetic units in banks (`sim.arithmetic`), against NumPy.

The environment's ``HALUT_CASES`` is how many operands each test draws; with ``HALUT_SPOIL=1`` one
expected bit is wrong, and the bench must fail.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer
from numpy.typing import NDArray

from halut.formats import FLOAT_FORMATS
from halut.output import OutputStage
from sim.arithmetic import LANES
from sim.packing import pack, unpack


async def _compare(
    dut: Any,
    operands: dict[str, tuple[NDArray[Any], int]],
    expected: NDArray[Any],
    delays: int,
    late: Sequence[str] = (),
) -> None:
    """Send operands, `LANES` a cycle, and compare every result; the last cycle is filled up.

    Parameters
    ----------
    dut : cocotb handle
    operands : dict
        By port: integers, and their width in bits.
    expected : integer ndarray
        Of `result`, unsigned.
    delays : int
        Clock edges from operands to result; 0 for a combinational unit.
    late : sequence of str
        Ports that are set a cycle later.
    """
    n_cases = len(expected)
    assert n_cases > 0
    if os.environ.get("HALUT_SPOIL") == "1":
        expected = expected.copy()
        expected[n_cases // 2] ^= 1
    padding = -n_cases % LANES
    items = {
        name: pack(np.pad(values, (0, padding)).reshape(-1, LANES), bits)
        for name, (values, bits) in operands.items()
    }
    n_items = (n_cases + padding) // LANES
    results: list[int] = []
    if delays:
        Clock(dut.clk_i, 2, unit="ns").start()
        dut.enable.value = (1 << len(dut.enable)) - 1
        await FallingEdge(dut.clk_i)
    for k in range(n_items + delays - 1 if delays else n_items):
        for name, values in items.items():
            item = k - (name in late)
            getattr(dut, name).value = values[min(max(item, 0), n_items - 1)]
        if delays:
            await FallingEdge(dut.clk_i)
        else:
            await Timer(1, "ns")
        # A result is registered by the edge before this one.
        if k >= max(delays - 1, 0) and len(results) < n_items:
            results.append(int(dut.result.value))
    bits = len(dut.result) // LANES
    found = unpack(results, LANES, bits, signed=False).ravel()[:n_cases]
    assert len(found) == n_cases
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        first = wrong[0]
        given = {name: hex(int(values[first])) for name, (values, _) in operands.items()}
        raise AssertionError(
            f"result must be {int(expected[first]):#x}, not {int(found[first]):#x} "
            f"for {given} ({len(wrong)} of {n_cases} wrong)"
        )


def _n_cases() -> int:
    return int(os.environ.get("HALUT_CASES", "20000"))


def _values(rng: np.random.Generator, n: int, width: int) -> NDArray[np.int64]:
    """Signed integers of all magnitudes, ends and zero included."""
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    values = rng.integers(low, high + 1, n) >> rng.integers(0, width, n)
    ends = np.array([low, low + 1, -1, 0, 1, high])
    return np.where(rng.random(n) < 0.1, rng.choice(ends, n), values)


def _finite(rng: np.random.Generator, n: int, signed: bool) -> NDArray[np.float32]:
    """float32s of all exponents, subnormals and zeros included."""
    bits = rng.integers(0, 0x7F800000, n, dtype=np.uint32)
    bits = np.where(rng.random(n) < 0.1, bits & 0x007FFFFF, bits)
    bits = np.where(rng.random(n) < 0.05, 0, bits)
    if signed:
        bits |= rng.integers(0, 2, n, dtype=np.uint32) << 31
    return bits.astype(np.uint32).view(np.float32)


@cocotb.test()
async def half_converter(dut: Any) -> None:
    """Anything; cancellation; results beside halfway between two half floats."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    n = _n_cases()
    width = len(dut.value) // LANES
    values = _values(rng, n, min(width, 29))
    scale, offset = _finite(rng, n, signed=False), _finite(rng, n, signed=True)
    # In the half floats' range, or nothing but zero and infinity comes out.
    near = rng.random(n) < 0.8
    exponent = rng.integers(-26, 18, n) - np.log2(np.abs(values) + 1)
    ranged = np.exp2(exponent) * rng.uniform(1, 2, n)
    scale = np.where(near, ranged.astype(np.float32), scale)
    product = values.astype(np.float64) * scale
    halves = FLOAT_FORMATS["fp16"].values(rng.integers(0, 0x7C00, n)).astype(np.float64)
    step = np.exp2(np.maximum(np.floor(np.log2(np.maximum(halves, 2.0**-24))), -14) - 10)
    tie = (halves + rng.choice([0, 0.5], n) * step) * rng.choice([-1, 1], n)
    kinds = rng.random(n)
    with np.errstate(over="ignore"):
        aimed = np.where(kinds < 0.4, tie - product, np.where(kinds < 0.5, -product, offset))
        aimed = aimed.astype(np.float32)
    aimed = np.where(np.isfinite(aimed), aimed, offset)
    nudged = (aimed.view(np.int32) + rng.integers(-1, 2, n, dtype=np.int32)).view(np.float32)
    offset = np.where(np.isfinite(nudged) & (aimed != 0), nudged, aimed).astype(np.float32)
    stage = OutputStage(format="fp16", relu="relu" in dut._name, scale=scale, offset=offset)
    expected = stage.apply(values[None])[0].view(np.uint16)  # one output each
    operands = {
        "value": (values, width),
        "scale": (scale.view(np.uint32).astype(np.int64), 32),
        "offset": (offset.view(np.uint32).astype(np.int64), 32),
    }
    await _compare(dut, operands, expected.astype(np.int64), delays=3)


@cocotb.test()
async def byte_converter(dut: Any) -> None:
    """Random constants that use the range, and corners that leave it."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    n = _n_cases()
    width = len(dut.value) // LANES
    values = _values(rng, n, width)
    multiplier = rng.integers(0, 1 << 16, n) >> rng.integers(0, 16, n)
    shift = rng.integers(0, 48, n)
    used = np.abs(values * multiplier) >> shift  # aim the shift so that a byte comes out
    shift = np.where(used > 255, np.minimum(shift + np.log2(used + 1).astype(int) - 6, 47), shift)
    addend = (rng.integers(-300, 300, n) << np.minimum(shift, 38)) + rng.integers(-9, 9, n)
    ends = np.array([-(1 << 47), -1, 0, 1, (1 << 47) - 1])
    addend = np.where(rng.random(n) < 0.1, rng.choice(ends, n), addend)
    zero = rng.integers(-128, 128, n)
    relu = "relu" in dut._name
    stage = OutputStage(
        format="int8", relu=relu, multiplier=multiplier, shift=shift, addend=addend, zero=zero
    )
    expected = stage.apply(values[None])[0].view(np.uint8)
    operands = {
        "value": (values, width),
        "multiplier": (multiplier, 16),
        "addend": (addend, 48),
        "shift": (shift, 6),
    }
    if relu:
        operands["zero"] = (zero, 8)
    await _compare(dut, operands, expected.astype(np.int64), 2, late=("addend", "shift", "zero"))


def _any_single(rng: np.random.Generator, n: int) -> NDArray[np.uint32]:
    """Bits of float32s of all kinds, NaN and infinities included."""
    corners = np.array([0, 1, 2, 0x007FFFFF, 0x00800000, 0x00800001, 0x3F800000, 0x3F7FFFFF,
                        0x3F800001, 0x4B000000, 0x4B7FFFFF, 0x4B800000, 0x7F7FFFFF, 0x7F000000,
                        0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF],
                       dtype=np.uint32)  # fmt: skip
    bits = rng.integers(0, 1 << 31, n, dtype=np.uint32)
    bits = np.where(rng.random(n) < 0.1, rng.choice(corners, n), bits)
    return (bits | rng.integers(0, 2, n, dtype=np.uint32) << 31).astype(np.uint32)


@cocotb.test()
async def float_adder(dut: Any) -> None:
    """All pairs of corners; anything; operands near in exponent; cancellation; ties."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    n = _n_cases()
    a, b = _any_single(rng, n), _any_single(rng, n)
    # Exponents up to 30 apart, and mantissas of few bits, so that sums are ties now and then.
    kind = rng.random(n)
    exponent = (a >> 23 & 0xFF).astype(np.int64)
    beside = np.clip(exponent + rng.integers(-30, 31, n), 0, 254).astype(np.uint32)
    sparse = b & 0x007FFFFF
    sparse = np.where(rng.random(n) < 0.5, sparse & (sparse << rng.integers(0, 24, n)), sparse)
    near = (b & 0x80000000) | beside << 23 | (sparse & 0x007FFFFF).astype(np.uint32)
    b = np.where(kind < 0.6, near, b)
    cancelling = (a ^ np.uint32(0x80000000)) + rng.integers(-2, 3, n).astype(np.uint32)
    b = np.where((kind > 0.6) & (kind < 0.7), cancelling, b).astype(np.uint32)
    with np.errstate(all="ignore"):
        expected = (a.view(np.float32) + b.view(np.float32)).view(np.uint32)
        expected = np.where(np.isnan(expected.view(np.float32)), 0x7FC00000, expected)
    operands = {"a": (a.astype(np.int64), 32), "b": (b.astype(np.int64), 32)}
    await _compare(dut, operands, expected.astype(np.int64), delays=0)


@cocotb.test()
async def half_to_single(dut: Any) -> None:
    """Every half float there is."""
    halves = np.arange(1 << 16, dtype=np.uint16)
    expected = halves.view(np.float16).astype(np.float32)
    expected = np.where(np.isnan(expected), 0x7FC00000, expected.view(np.uint32))
    await _compare(dut, {"half": (halves.astype(np.int64), 16)}, expected.astype(np.int64), 0)


@cocotb.test()
async def single_to_half(dut: Any) -> None:
    """Anything; every half float, values halfway to the next one, and their neighbours."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bits = _any_single(rng, _n_cases())
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    step = np.exp2(np.maximum(np.floor(np.log2(np.maximum(np.abs(halves), 2.0**-24))), -14) - 11)
    with np.errstate(all="ignore"):
        ties = (halves + np.where(np.isfinite(step), step, 0).astype(np.float32)).view(np.uint32)
    bits = np.concatenate([bits, halves.view(np.uint32), ties - 1, ties, ties + 1])
    values = bits.view(np.float32)
    with np.errstate(all="ignore"):
        expected = OutputStage(format="fp16", relu="relu" in dut._name).apply(
            np.where(np.isnan(values), np.float32(np.nan), values)[None]
        )[0]
    operands = {"value": (bits.astype(np.int64), 32)}
    await _compare(dut, operands, expected.view(np.uint16).astype(np.int64), delays=1)
