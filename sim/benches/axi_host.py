"""What testbenches of `halut_axi` share: its job, and a processor's accesses to the registers.

The environment's ``HALUT_JOB`` is a folder that `sim.axi.write_job` wrote, with the C header
``registers.h``, whose addresses are used. With ``HALUT_FAIL_FAST=1`` no test runs after one that
failed.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp, MemoryRegion

from halut.program import Program
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.image import pixel_bytes, result_array, row_bytes
from rtl_gen.axi.registers import INTERFACE_VERSION, SPACE_BYTES, registers
from sim.stalls import stalls

PERIOD_NS = 2
LIMIT_CYCLES = 6000
"""No wait of a test is longer."""


def parts(n: int, at_most: int) -> Iterator[slice]:
    """Slices of 1, 2, 3, … items."""
    begin = 0
    for size in itertools.cycle(range(1, at_most + 1)):
        if begin >= n:
            return
        yield slice(begin, min(begin + size, n))
        begin += size


class BusMemory(MemoryRegion):
    """Memory with bytes that answer errors."""

    def __init__(self, size: int, mem: mmap.mmap | None = None) -> None:
        super().__init__(size, mem)
        self.bad: set[int] = set()

    def _check(self, address: int, length: int) -> None:
        if any(address <= byte < address + length for byte in self.bad):
            raise ValueError("a byte that answers errors")

    async def _read(self, address: int, length: int, **kwargs: Any) -> bytes:
        self._check(address, length)
        return await super()._read(address, length, **kwargs)

    async def _write(self, address: int, data: bytes, **kwargs: Any) -> None:
        self._check(address, len(data))
        await super()._write(address, data, **kwargs)


class _Wishbone:
    """A Wishbone master."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        for name in ("cyc", "stb", "we", "adr", "dat_w", "sel"):
            getattr(dut, f"s_wb_{name}").value = 0

    async def access(self, offset: int, data: int | None, select: int) -> tuple[int, bool]:
        """One cycle; returns what was read, and whether it was acknowledged."""
        d = self.dut
        d.s_wb_cyc.value, d.s_wb_stb.value = 1, 1
        d.s_wb_we.value = int(data is not None)
        d.s_wb_adr.value, d.s_wb_dat_w.value = offset >> 2, data or 0
        d.s_wb_sel.value = select
        await RisingEdge(d.clk_i)
        while not (int(d.s_wb_ack.value) or int(d.s_wb_err.value)):
            await RisingEdge(d.clk_i)
        result = int(d.s_wb_dat_r.value), bool(int(d.s_wb_ack.value))
        d.s_wb_cyc.value, d.s_wb_stb.value = 0, 0
        await RisingEdge(d.clk_i)
        return result


class Lite:
    """An AXI4-Lite master."""

    def __init__(self, dut: Any) -> None:
        bus = AxiLiteBus.from_prefix(dut, "s_axil")
        self.master = AxiLiteMaster(bus, dut.clk_i, dut.rst_ni, reset_active_level=False)

    async def access(self, offset: int, data: int | None, select: int) -> tuple[int, bool]:
        """A read or a write; returns what was read, and whether it was answered with OKAY."""
        if data is None:
            answer = await self.master.read(offset, 4)
            return int.from_bytes(answer.data, "little"), answer.resp == AxiResp.OKAY
        first = (select & -select).bit_length() - 1
        raw = data.to_bytes(4, "little")[first : select.bit_length()]
        answer = await self.master.write(offset + first, raw)
        return 0, answer.resp == AxiResp.OKAY


_Bench = TypeVar("_Bench", bound="Host")


class Host:
    """The block and a processor.

    Attributes
    ----------
    config, program, words, expected
        The job.
    offsets : dict of str to int
        Addresses of registers, from the header.
    cycle : int
        Cycles so far.
    """

    def __init__(self, dut: Any) -> None:
        folder = Path(os.environ["HALUT_JOB"])
        self.dut = dut
        self.config = AxiConfig.from_dict(json.loads((folder / "job.json").read_text()))
        self.program = Program.load(folder / "program.npz")
        self.words = np.load(folder / "words.npy")
        self.expected = np.load(folder / "expected.npy")
        header = (folder / "registers.h").read_text()
        found = re.findall(r"^#define HALUT_AXI_(\w+)_OFFSET 0x(\w+)u$", header, re.M)
        self.offsets = {name: int(offset, 16) for name, offset in found}
        self.random = random.Random(cocotb.RANDOM_SEED)
        self.cycle = 0
        dut.rst_ni.value = 0
        dut.clk_i.value = 0
        self.port = _Wishbone(dut) if self.config.control == "wishbone" else Lite(dut)

    @classmethod
    async def ready(cls: type[_Bench], dut: Any) -> _Bench:
        """A bench whose clock runs, out of reset."""
        tb = cls(dut)
        await tb.start()
        return tb

    async def start(self) -> None:
        """Start the clock and leave reset."""
        Clock(self.dut.clk_i, PERIOD_NS, unit="ns").start()
        cocotb.start_soon(self._count())
        await self.reset()

    async def reset(self) -> None:
        """Reset by the pin."""
        self.dut.rst_ni.value = 0
        await ClockCycles(self.dut.clk_i, 4)
        self.dut.rst_ni.value = 1
        await ClockCycles(self.dut.clk_i, 2)

    async def _count(self) -> None:
        while True:
            await RisingEdge(self.dut.clk_i)
            self.cycle += 1

    # Registers

    async def read(self, name: str) -> int:
        """Read a register; the bus must acknowledge."""
        value, okay = await self.port.access(self.offsets[name], None, 15)
        assert okay, f"reading {name} must be acknowledged"
        return value

    async def write(self, name: str, value: int, select: int = 15) -> bool:
        """Write a register; returns whether the bus acknowledged."""
        return (await self.port.access(self.offsets[name], value, select))[1]

    async def command(self, name: str, value: int) -> None:
        """Write a register; the bus must acknowledge."""
        assert await self.write(name, value), f"{name} must take {value:#x}"

    async def check_registers(self) -> None:
        """Every register, by the header's addresses: reset value, access, and errors elsewhere."""
        described = registers(self.config)
        assert self.offsets == {register.name: register.offset for register in described}
        for register in described:
            value, okay = await self.port.access(register.offset, None, 15)
            assert okay == register.readable, register.name
            if register.readable:
                assert value == register.reset, f"{register.name}: {value:#x}"
            if not register.writable:
                assert not await self.write(register.name, 0), register.name
        used = {register.offset for register in described}
        for offset in {0x800, SPACE_BYTES - 4, *range(0, 0x100, 4)} - used:
            for data in (None, 0):
                assert not (await self.port.access(offset, data, 15))[1], hex(offset)
        # Single bytes of a setting; a command takes whole words only.
        await self.command("SCRATCH", 0x01020304)
        assert await self.write("SCRATCH", 0x00EE0000, 4)
        assert await self.read("SCRATCH") == 0x01EE0304
        assert not await self.write("CONTROL", 1, 1)
        assert await self.read("VERSION") == INTERFACE_VERSION[0] << 16 | INTERFACE_VERSION[1]
        assert await self.read("STATUS") == 0
        if isinstance(self.port, Lite):
            self.stall_control("both")
            await self._check_overlap(self.port)

    def stall_control(self, pattern: str) -> None:
        """Let a processor pause on AXI4-Lite: "gaps" in requests, "backpressure" of answers."""
        if not isinstance(self.port, Lite):
            return
        reads, writes = self.port.master.read_if, self.port.master.write_if
        for channel in (writes.b_channel, reads.r_channel):
            channel.set_pause_generator(stalls(pattern, "sink", cocotb.RANDOM_SEED))
        for channel in (writes.aw_channel, writes.w_channel, reads.ar_channel):
            channel.set_pause_generator(stalls(pattern, "source", cocotb.RANDOM_SEED))

    async def _check_overlap(self, port: Lite) -> None:
        """Reads and writes that are offered before those before are answered, of AXI4-Lite."""
        constants = [r for r in registers(self.config) if r.readable and not r.writable]
        chosen = [self.random.choice(constants) for _ in range(24)]
        tasks = []
        for k, register in enumerate(chosen):
            read = cocotb.start_soon(port.access(register.offset, None, 15))
            write = cocotb.start_soon(port.access(self.offsets["SCRATCH"], k, 15))
            tasks.append((register, read, write))
        for register, read, write in tasks:
            value, okay = await read
            assert okay and value == register.reset, f"{register.name}: {value:#x}"
            assert (await write)[1], "a write must be acknowledged"
        assert await self.read("SCRATCH") == len(chosen) - 1
        # An answer is offered whether or not it can be taken.
        reads, writes = port.master.read_if.r_channel, port.master.write_if.b_channel
        for channel, offset, data, valid in (
            (reads, constants[0].offset, None, self.dut.s_axil_rvalid),
            (writes, self.offsets["SCRATCH"], 0, self.dut.s_axil_bvalid),
        ):
            channel.clear_pause_generator()
            channel.pause = True
            access = cocotb.start_soon(port.access(offset, data, 15))
            await ClockCycles(self.dut.clk_i, 100)
            assert int(valid.value) == 1, "valid must not wait for ready"
            channel.pause = False
            assert (await access)[1], "it must be acknowledged"

    async def wait_done(self, count: int) -> None:
        """Wait until `count` descriptors are done and nothing is busy."""
        start = self.cycle
        while await self.read("STATUS") & 1 or await self.read("COMPLETED") != count:
            status, errors = await self.read("STATUS"), await self.read("ERROR")
            assert not status & 2, f"it must not halt, with errors {errors:#x}"
            done = await self.read("COMPLETED")
            assert self.cycle - start < LIMIT_CYCLES, f"it must not hang after {done} descriptors"

    async def wait_halted(self) -> None:
        """Wait until it halted."""
        start = self.cycle
        while not await self.read("STATUS") & 2:
            assert self.cycle - start < LIMIT_CYCLES, "it must halt"

    # Items

    @property
    def n_items(self) -> int:
        """Items of the job."""
        c = self.config
        return len(self.expected) // (c.accelerator.rows * c.item_groups)

    def input_bytes(self, items: slice) -> bytes:
        """What goes in for some items."""
        c = self.config
        p = c.accelerator.rows
        if c.has_front_end:
            data = pixel_bytes(c, self.words[items])
        else:
            data = row_bytes(c, self.words[items.start * p : items.stop * p])
        assert len(data) == (items.stop - items.start) * c.item_bytes
        return data

    def compare(self, items: slice, data: bytes) -> int:
        """Compare results of items with the model; returns how many were compared."""
        c = self.config
        per_item = c.item_groups * c.accelerator.rows
        n_rows = (items.stop - items.start) * per_item
        given = result_array(c, data, n_rows)
        want = self.expected[items.start * per_item :][:n_rows]
        assert given.shape == want.shape and given.size > 0
        wrong = int((given.view(f"u{given.itemsize}") != want.view(f"u{want.itemsize}")).sum())
        assert wrong == 0, f"results must equal the model: {wrong} of {given.size} differ"
        return given.size
