"""The whole block in Amaranth's own simulator: registers answer, and a reset by software ends."""

from __future__ import annotations

from rtl_gen.axi.registers import registers
from rtl_gen.axi.top import HalutAxi
from tests.rtl_gen.axi.support import CONFIGS
from tests.rtl_gen.support import simulate


def test_registers_answer() -> None:
    config = CONFIGS["small"]
    unit = HalutAxi(config)
    offsets = {register.name: register.offset for register in registers(config)}

    async def read(ctx, name: str) -> int:
        ctx.set(unit.s_axil_araddr, offsets[name])
        ctx.set(unit.s_axil_arvalid, 1)
        ctx.set(unit.s_axil_rready, 1)
        await ctx.tick().until(unit.s_axil_arready)
        ctx.set(unit.s_axil_arvalid, 0)
        data, response = (
            await ctx.tick().sample(unit.s_axil_rdata, unit.s_axil_rresp).until(unit.s_axil_rvalid)
        )
        assert response == 0
        return data

    async def write(ctx, name: str, value: int) -> int:
        ctx.set(unit.s_axil_awaddr, offsets[name])
        ctx.set(unit.s_axil_wdata, value)
        ctx.set(unit.s_axil_wstrb, 15)
        ctx.set(unit.s_axil_awvalid, 1)
        ctx.set(unit.s_axil_wvalid, 1)
        ctx.set(unit.s_axil_bready, 1)
        await ctx.tick().until(unit.s_axil_awready & unit.s_axil_wready)
        ctx.set(unit.s_axil_awvalid, 0)
        ctx.set(unit.s_axil_wvalid, 0)
        (response,) = await ctx.tick().sample(unit.s_axil_bresp).until(unit.s_axil_bvalid)
        return response

    async def processor(ctx) -> None:
        for register in registers(config):
            if register.readable:
                assert await read(ctx, register.name) == register.reset, register.name
        assert await write(ctx, "ID", 1) == 2
        assert await write(ctx, "WATCHDOG", 0) == 0
        # No memory answers: the descriptor's read stays open until it does.
        assert await write(ctx, "DOORBELL", 0x1000) == 0
        while not ctx.get(unit.m_axi_arvalid):
            await ctx.tick()
        assert ctx.get(unit.m_axi_araddr) == 0x1000
        assert await write(ctx, "CONTROL", 1) == 0
        assert await read(ctx, "STATUS") & 5 == 5
        ctx.set(unit.m_axi_arready, 1)
        length = ctx.get(unit.m_axi_arlen)
        await ctx.tick()
        ctx.set(unit.m_axi_arready, 0)
        for beat in range(length + 1):
            ctx.set(unit.m_axi_rvalid, 1)
            ctx.set(unit.m_axi_rlast, beat == length)
            assert ctx.get(unit.m_axi_rready)
            await ctx.tick()
        ctx.set(unit.m_axi_rvalid, 0)
        answers = [await read(ctx, "STATUS") for _ in range(8)]
        assert answers[-1] == 0, answers

    simulate(unit, processor)
