"""The gearbox in Amaranth's simulator: no byte is lost, doubled or out of order."""

from __future__ import annotations

import math
import random

import pytest

from rtl_gen.axi.gearbox import Gearbox
from tests.rtl_gen.support import pause, simulate

SIZES = [(4, 4), (4, 16), (16, 4), (4, 6), (6, 4), (3, 8), (8, 3), (16, 18), (1, 1), (9, 16)]


def _send_and_receive(n_in: int, n_out: int, stalled: bool) -> tuple[list[int], list[int], int]:
    """Bytes sent, bytes received, and cycles. The last words are partly filled, then flushed."""
    rng = random.Random(n_in * 100 + n_out)
    unit = Gearbox(in_bytes=n_in, out_bytes=n_out)
    step = math.gcd(n_in, n_out)
    words = [[rng.randrange(256) for _ in range(n_in)] for _ in range(30)]
    sizes = [n_in] * 28 + [rng.randrange(step, n_in + 1, step), rng.randrange(step, n_in + 1, step)]
    sent = [byte for word, n in zip(words, sizes, strict=True) for byte in word[:n]]
    received: list[int] = []
    idle, waits = pause(rng, stalled), pause(rng, stalled)
    cycles = [0]

    async def source(ctx):
        for word, n in zip(words, sizes, strict=True):
            while idle():
                await ctx.tick()
            ctx.set(unit.i.valid, 1)
            ctx.set(unit.i.payload, {"data": int.from_bytes(bytes(word), "little"), "bytes": n})
            while not (await ctx.tick().sample(unit.i.ready))[2]:
                pass
            ctx.set(unit.i.valid, 0)
        ctx.set(unit.flush, 1)

    async def sink(ctx):
        while len(received) < len(sent):
            ready = not waits()
            ctx.set(unit.o.ready, ready)
            _, _, valid, data, n, ends, flush = await ctx.tick().sample(
                unit.o.valid, unit.o.payload.data, unit.o.payload.bytes, unit.ends, unit.flush
            )
            cycles[0] += 1
            assert cycles[0] < 5000
            if valid and ready:
                received.extend(data.to_bytes(n_out, "little")[:n])
                # Once flushed, `ends` marks the last word.
                assert not flush or ends == (len(received) >= len(sent))
                assert n == n_out or (flush and ends)
        ctx.set(unit.o.ready, 1)
        await ctx.tick()
        assert ctx.get(unit.empty) and not ctx.get(unit.o.valid)

    simulate(unit, source, sink)
    return sent, received, cycles[0]


@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_bytes_stay_in_order(sizes: tuple[int, int], stalled: bool) -> None:
    sent, received, cycles = _send_and_receive(*sizes, stalled)
    assert received == sent and len(sent) > 20
    if not stalled:
        # The shorter word moves once per cycle.
        assert cycles <= len(sent) / min(sizes) + 8
