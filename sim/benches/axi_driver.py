"""The drivers of `halut_axi` on its simulation: the examples, and what a driver must refuse.

Beside what `sim.benches.axi_host` reads, the folder of ``HALUT_JOB`` holds ``image.bin``,
``description.py`` and ``other.py`` (of another configuration). ``HALUT_EXAMPLE`` is the example in
Python; ``HALUT_PROGRAM`` a program in C that is started with a file of memory and numbers, and asks
for accesses of registers line by line: ``r OFFSET``, ``w OFFSET VALUE``, at last ``q STATUS``.
"""

from __future__ import annotations

import mmap
import os
import runpy
import subprocess
from pathlib import Path
from typing import Any

import cocotb
from cocotb.task import bridge, resume
from cocotbext.axi import AxiBus, AxiSlave

from halut.driver import Device, DeviceError
from halut.errors import HalutError
from sim.axi_rules import AxiRules
from sim.benches.axi_host import BusMemory, Host

MEMORY_BYTES = 1 << 22
_ADDRESS = 0  # of memory on the bus


class TB(Host):
    """The block, and memory that is a file."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut)
        self.folder = Path(os.environ["HALUT_JOB"])
        self.file = self.folder / "memory.bin"
        self.file.write_bytes(self.random.randbytes(MEMORY_BYTES))
        with self.file.open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), MEMORY_BYTES)
        self.memory = BusMemory(MEMORY_BYTES, self.map)
        self.slave = AxiSlave(
            AxiBus.from_prefix(dut, "m_axi"), dut.clk_i, dut.rst_ni, target=self.memory,
            reset_active_level=False,
        )  # fmt: skip
        cocotb.start_soon(AxiRules(dut, self.config).run())
        self.image = (self.folder / "image.bin").read_bytes()
        self.items = slice(0, self.n_items)


class SimulatedRegisters:
    """Registers as a driver accesses them, for code that `cocotb.task.bridge` runs."""

    def __init__(self, tb: TB) -> None:
        self._access = resume(tb.port.access)

    def read(self, offset: int) -> int:
        value, okay = self._access(offset, None, 15)
        assert okay, f"a driver may read a register only, not {offset:#x}"
        return value

    def write(self, offset: int, value: int) -> None:
        assert self._access(offset, value, 15)[1], f"a driver may write a register, not {offset:#x}"


class SimulatedMemory:
    """Memory as a driver accesses it."""

    address, size = _ADDRESS, MEMORY_BYTES

    def __init__(self, tb: TB) -> None:
        self._map = tb.map

    def read(self, address: int, size: int) -> bytes:
        return self._map[address : address + size]

    def write(self, address: int, data: bytes) -> None:
        self._map[address : address + len(data)] = data


async def _device(tb: TB, description: str = "description.py", polls: int = 2000) -> Device:
    return await bridge(Device)(
        tb.folder / description, SimulatedRegisters(tb), SimulatedMemory(tb), polls
    )


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def python_example(dut: Any) -> None:
    """The example's results are the model's."""
    tb = await TB.ready(dut)
    device = await _device(tb)
    example = runpy.run_path(os.environ["HALUT_EXAMPLE"])
    results = await bridge(example["multiply"])(device, tb.image, tb.input_bytes(tb.items))
    assert tb.compare(tb.items, results) == tb.expected.size > 0


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def python_chain(dut: Any) -> None:
    """Programs of one chain, twice, then one alone: every result is the model's."""
    tb = await TB.ready(dut)
    device = await _device(tb)
    assert device.place(tb.image) == 2
    rows, size = tb.input_bytes(tb.items), tb.n_items * tb.config.result_bytes
    source, *to = (device.allocate(n) for n in (len(rows), size, size))
    device.memory.write(source, rows)
    for programs in ((0, 1), (1, 0)):
        for place in to:
            device.memory.write(place, bytes(size))
        await bridge(device.chain)([(k, source, to[k], tb.n_items) for k in programs])
        await bridge(device.wait)()
        for place in to:
            assert tb.compare(tb.items, device.memory.read(place, size)) == tb.expected.size > 0
    await bridge(device.load)(0)
    results = await bridge(device.multiply)(0, rows)
    assert tb.compare(tb.items, results) == tb.expected.size
    assert "must be different" in await _raises(device.chain, [(0, 0, 0, 1), (0, 0, 0, 1)])


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def users_script(dut: Any) -> None:
    """A script of the user's on ``rows.bin``: its results go to ``results.bin``."""
    tb = await TB.ready(dut)
    device = await _device(tb, polls=1_000_000)
    script = runpy.run_path(os.environ["HALUT_EXAMPLE"])
    rows = (tb.folder / "rows.bin").read_bytes()
    results = await bridge(script["multiply"])(device, tb.image, rows)
    assert len(results) == len(rows) // tb.config.item_bytes * tb.config.result_bytes > 0
    (tb.folder / "results.bin").write_bytes(results)


async def _raises(call: Any, *arguments: Any) -> str:
    """The message of the error that a call must raise."""
    try:
        await bridge(call)(*arguments)
    except HalutError as error:
        return str(error)
    raise AssertionError(f"{call} must raise an error")


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def python_refuses(dut: Any) -> None:
    """Another configuration, an image that is not whole, errors of the bus, a wait that ends."""
    tb = await TB.ready(dut)
    try:
        await _device(tb, "other.py")
    except HalutError as error:
        assert "configuration must be" in str(error)
    else:
        raise AssertionError("a block of another configuration must be refused")
    device = await _device(tb, polls=300)
    assert "must be whole" in await _raises(device.place, tb.image[:-4])
    foreign = bytearray(tb.image)
    foreign[12] ^= 1
    assert "configuration must be" in await _raises(device.place, bytes(foreign))
    device.place(tb.image)
    await bridge(device.load)(0)
    await bridge(device.run)(0, MEMORY_BYTES - 1, 0, 4)
    assert "read_error" in await _raises(device.wait)
    assert await bridge(device.acknowledge)() == (False, True)
    assert await bridge(device.acknowledge)() == (False, False)
    assert isinstance(DeviceError(""), HalutError)
    await bridge(device.reset)()
    tb.slave.read_if.ar_channel.pause = True
    await bridge(device.load)(0)
    assert "within 300 polls" in await _raises(device.wait)
    tb.slave.read_if.ar_channel.pause = False
    await bridge(device.wait)()
    await bridge(device.interrupts)(done=True)
    results = await bridge(device.multiply)(0, tb.input_bytes(tb.items))
    assert tb.compare(tb.items, results) > 0
    assert int(dut.irq_o.value) == 1
    assert await bridge(device.acknowledge)() == (True, False)
    assert int(dut.irq_o.value) == 0


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def c_example(dut: Any) -> None:
    """The program in C, whose accesses are those of the simulation; then what it must refuse."""
    tb = await TB.ready(dut)
    rows = tb.input_bytes(tb.items)
    at = -(-len(tb.image) // 64) * 64
    results = at + len(rows) + 3
    tb.map[: len(tb.image)] = tb.image
    tb.map[at : at + len(rows)] = rows
    size = tb.n_items * tb.config.result_bytes
    assert await _serve(tb, at, results, tb.n_items) == 0
    assert tb.compare(tb.items, tb.map[results : results + size]) == tb.expected.size > 0
    # Its run asked for an interrupt, which is there until acknowledged.
    assert await _answer(tb, [os.environ["HALUT_PROGRAM"], str(tb.file)]) == 10
    # The same as a chain of both programs, twice.
    for _ in range(2):
        tb.map[results : results + 2 * size] = bytes(2 * size)
        assert await _serve(tb, at, results, tb.n_items, chained=True) == 0
        for place in (results, results + size):
            assert tb.compare(tb.items, tb.map[place : place + size]) == tb.expected.size
    # The image stays placed, and may be placed again.
    tb.map[results : results + size] = bytes(size)
    assert await _serve(tb, at, results, tb.n_items) == 0
    assert tb.compare(tb.items, tb.map[results : results + size]) > 0
    assert await _serve(tb, at, results, 0) == 4
    tb.memory.bad = {at + 1}
    assert await _serve(tb, at, results, 1) == 8
    tb.memory.bad = set()
    tb.slave.write_if.b_channel.pause = True
    assert await _serve(tb, at, results, 1) == 7
    tb.slave.write_if.b_channel.pause = False
    assert await _serve(tb, at, results, 1) == 0
    tb.map[12] ^= 1
    assert await _serve(tb, at, results, 1) == 3
    assert await _serve(tb, at, results, 1, "HALUT_OTHER") == 3


async def _serve(
    tb: TB,
    rows: int,
    results: int,
    items: int,
    name: str = "HALUT_PROGRAM",
    chained: bool = False,
) -> int:
    """Run the example, or its programs as a chain; returns the status."""
    numbers = [MEMORY_BYTES, len(tb.image), rows, results, items]
    if chained:
        numbers.append(tb.config.result_bytes)
    return await _answer(tb, [os.environ[name], str(tb.file), *map(str, numbers)])


async def _answer(tb: TB, command: list[str]) -> int:
    """Run a program, whose accesses are those of the simulation; returns its last number."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as program:
        assert program.stdin is not None and program.stdout is not None
        for line in program.stdout:
            what, *values = line.split()
            if what == "q":
                return int(values[0])
            offset, data = int(values[0], 16), int(values[1], 16) if what == "w" else None
            value, okay = await tb.port.access(offset, data, 15)
            assert okay, f"a driver may access registers only, not {line!r}"
            program.stdin.write(f"{value:x}\n")
            program.stdin.flush()
    raise AssertionError("the program must end with its status")
