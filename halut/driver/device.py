"""The driver of `halut_axi`: the calls of ``halut_driver.h``, in Python."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from halut.errors import CheckFailed, HalutError

__all__ = ["Device", "DeviceError", "Memory", "Registers"]

DEFAULT_POLLS = 1_000_000
_DESCRIPTOR_BYTES = 32


class Registers(Protocol):
    """Access to registers: `MappedRegisters`, or a simulation's."""

    def read(self, offset: int) -> int:
        """Read the register at a byte offset."""

    def write(self, offset: int, value: int) -> None:
        """Write the register at a byte offset."""


class Memory(Protocol):
    """Access to memory by addresses of the bus: `MappedMemory`, or a simulation's."""

    address: int
    size: int

    def read(self, address: int, size: int) -> bytes:
        """Read bytes."""

    def write(self, address: int, data: bytes) -> None:
        """Write bytes."""


class DeviceError(CheckFailed):
    """The block stopped with an error, or is not done in time."""


class Device:
    """An accelerator behind `halut_axi` with a bus master.

    Parameters
    ----------
    description : path-like
        The Python file that ``python -m rtl_gen axi`` wrote: registers, descriptors, identity.
    registers : Registers
    memory : Memory
        What the block's bus master reaches.
    polls : int, default 1,000,000
        How often a wait looks before it gives up.

    Raises
    ------
    HalutError
        When the block is another one: identity, version and configuration must be those of the
        description.
    """

    def __init__(
        self,
        description: str | Path,
        registers: Registers,
        memory: Memory,
        polls: int = DEFAULT_POLLS,
    ) -> None:
        self._map: dict[str, Any] = {}
        exec(compile(Path(description).read_text(), str(description), "exec"), self._map)
        self._registers = registers
        self.memory = memory
        self.polls = polls
        self.layout: Mapping[str, int] = self._map["LAYOUT"]
        self._due = 0
        self._free = memory.address
        self._entries: list[dict[str, int]] = []
        self._chained: set[int] = set()  # programs whose load is not the end of a chain
        found = self.read("ID")
        if found != self._map["IDENTITY"]:
            raise HalutError(f"ID must be {self._map['IDENTITY']:#x}, not {found:#x}")
        major = self.field("VERSION.major")
        if major != self._map["VERSION"][0]:
            raise HalutError(f"the block's version must be {self._map['VERSION'][0]}, not {major}")
        hashes = self.read("CONFIG_HASH0"), self.read("CONFIG_HASH1")
        if hashes != self._map["CONFIG_HASH"]:
            raise HalutError(
                f"the block's configuration must be {self._text(self._map['CONFIG_HASH'])}, "
                f"not {self._text(hashes)}"
            )
        self.reset()

    @staticmethod
    def _text(hashes: tuple[int, int]) -> str:
        return "".join(f"{part:08x}" for part in hashes)

    # Registers

    def read(self, register: str) -> int:
        """Read a register by its name."""
        return self._registers.read(self._map["OFFSETS"][register])

    def write(self, register: str, value: int) -> None:
        """Write a register by its name."""
        self._registers.write(self._map["OFFSETS"][register], value)

    def field(self, name: str) -> int:
        """Read a field, ``REGISTER.field``."""
        low, bits = self._map["FIELDS"][name]
        return self.read(name.partition(".")[0]) >> low & ((1 << bits) - 1)

    # Commands

    def reset(self) -> None:
        """End what runs, clear errors and counters, wait until the bus is at rest.

        A loaded program stays, unless its load was ended.
        """
        self.write("CONTROL", 1)
        self._due = 0
        for _ in range(self.polls):
            if self.read("STATUS") == 0:
                return
        raise DeviceError("the block must come to rest: the bus does not answer")

    def submit(self, first: int, count: int) -> None:
        """Submit a chain of `count` descriptors, the first of them at an address of the bus."""
        self._check_queue()
        self._ring(first, count)

    def _check_queue(self) -> None:
        """Raise unless the queue takes a chain now."""
        if self.field("STATUS.halted") or self.field("STATUS.draining"):
            raise self._failure()
        if self.field("STATUS.full"):
            raise DeviceError("the queue must take a chain, but it is full")

    def _ring(self, first: int, count: int) -> None:
        self.write("DOORBELL", first)
        self._due += count

    def done(self) -> bool:
        """Whether all that was submitted is done."""
        if self.field("STATUS.halted") or self.field("STATUS.draining"):
            raise self._failure()
        return self.read("COMPLETED") == self._due & 0xFFFFFFFF

    def wait(self) -> None:
        """Wait until all that was submitted is done.

        Raises
        ------
        DeviceError
            When an error stopped the block, or it is not done after `polls` looks.
        """
        for _ in range(self.polls):
            if self.done():
                return
        raise DeviceError(f"descriptors must be done within {self.polls} polls")

    def errors(self) -> list[str]:
        """Names of the bits of ERROR that are set."""
        bits = self.read("ERROR")
        return [name for name, bit in self._map["ERRORS"].items() if bits & bit]

    def interrupts(self, *, done: bool = False, error: bool = False) -> None:
        """Let these raise the interrupt, and no others."""
        self.write("IRQ_ENABLE", int(done) | int(error) << 1)

    def acknowledge(self) -> tuple[bool, bool]:
        """Whether (a run is done, an error stopped the block) since the last call.

        They do not raise the interrupt any more.
        """
        found = self.read("IRQ_STATUS")
        self.write("IRQ_STATUS", found)
        return bool(found & 1), bool(found & 2)

    def _failure(self) -> DeviceError:
        where = self.read("ERROR_ADDRESS")
        return DeviceError(f"the block must work, but stopped: {self.errors()} at {where:#x}")

    # Memory

    def allocate(self, size: int, alignment: int = 64) -> int:
        """Take memory; returns its address. It is not given back."""
        address = -(-self._free // alignment) * alignment
        if address + size > self.memory.address + self.memory.size:
            raise HalutError(f"memory must hold {size} bytes more ({self.memory.size} in all)")
        self._free = address + size
        return address

    def place(self, image: bytes) -> int:
        """Put an image into memory, with its addresses; returns how many programs it holds."""
        head, entry = self._map["IMAGE_HEAD"], self._map["IMAGE_ENTRY"]
        n_words = len(image) // 4
        words = list(struct.unpack_from(f"<{n_words}I", image))
        if n_words < len(head) or words[head["magic"]] != self._map["IMAGE_MAGIC"]:
            raise HalutError("an image must begin with HALI")
        if words[head["version"]] != 1 or words[head["bytes"]] != len(image):
            raise HalutError(f"an image must be whole and of version 1 ({len(image)} bytes)")
        hashes = words[head["config_hash0"]], words[head["config_hash1"]]
        if hashes != self._map["CONFIG_HASH"]:
            raise HalutError(
                f"the image's configuration must be {self._text(self._map['CONFIG_HASH'])}, "
                f"not {self._text(hashes)}"
            )
        base = self.allocate(len(image))
        self._entries, self._chained = [], set()
        for k in range(words[head["programs"]]):
            begin = len(head) + k * len(entry)
            part = {name: words[begin + word] for name, word in entry.items()}
            self._entries.append({**part, "first": base + part["first"], "run": base + part["run"]})
            for number in range(part["loads"]):
                at = (part["first"] + number * _DESCRIPTOR_BYTES) // 4
                for name in ("next", "source"):
                    words[at + self._map["DESCRIPTOR"][name][0]] += base
        words[head["base"]] = base
        self.memory.write(base, struct.pack(f"<{n_words}I", *(w & 0xFFFFFFFF for w in words)))
        return len(self._entries)

    def part(self, program: int) -> Mapping[str, int]:
        """Which part of which layer a program of the image is."""
        return self._entries[program]

    def _put(self, address: int, **values: int) -> None:
        """Change fields of the descriptor at an address."""
        for name, value in values.items():
            word, low, bits = self._map["DESCRIPTOR"][name]
            place = address + 4 * word
            others = struct.unpack("<I", self.memory.read(place, 4))[0]
            others &= ~(((1 << bits) - 1) << low)
            self.memory.write(place, struct.pack("<I", others | value << low))

    def _last_load(self, program: int) -> int:
        """Address of the last descriptor that loads a program."""
        entry = self._entries[program]
        return entry["first"] + (entry["loads"] - 1) * _DESCRIPTOR_BYTES

    def load(self, program: int) -> None:
        """Load a program of the image."""
        if self._chained:  # descriptors may be in use
            self.wait()
            for one in self._chained:
                self._put(self._last_load(one), end=1)
            self._chained = set()
        self.submit(self._entries[program]["first"], self._entries[program]["loads"])

    def run(self, program: int, source: int, destination: int, items: int) -> None:
        """Let items pass through the program that was loaded last, which is this one."""
        self.wait()
        address = self._entries[program]["run"]
        self._put(address, source=source, destination=destination, count=items, end=1)
        self.submit(address, 1)

    def chain(self, jobs: Sequence[tuple[int, int, int, int]]) -> None:
        """Submit runs as one chain: each program is loaded and run by the block, one by one.

        Parameters
        ----------
        jobs : sequence of (program, source, destination, items)
            At least one; each program at most once, and none of a chain that is not done yet.
        """
        programs = [job[0] for job in jobs]
        if not programs or len(set(programs)) < len(programs):
            raise HalutError(f"programs of a chain must be different, at least one: {programs}")
        self._check_queue()  # descriptors do not change in vain
        count = 0
        for number, (program, source, destination, items) in enumerate(jobs):
            entry = self._entries[program]
            count += entry["loads"] + 1
            self._put(self._last_load(program), end=0, next=entry["run"])
            ends = number + 1 == len(jobs)
            follows = 0 if ends else self._entries[programs[number + 1]]["first"]
            self._put(
                entry["run"], source=source, destination=destination, count=items,
                end=int(ends), next=follows,
            )  # fmt: skip
        self._chained |= set(programs)
        self._ring(self._entries[programs[0]]["first"], count)

    def multiply(self, program: int, data: bytes) -> bytes:
        """Let items pass through a loaded program, from bytes to bytes; waits.

        Parameters
        ----------
        program : int
        data : bytes
            Whole items, as they lie in memory.
        """
        items, rest = divmod(len(data), self.layout["item_bytes"])
        if rest or not items:
            raise HalutError(
                f"data must be whole items of {self.layout['item_bytes']} bytes, "
                f"not {len(data)} bytes"
            )
        before = self._free
        source = self.allocate(len(data))
        destination = self.allocate(items * self.layout["result_bytes"])
        self.memory.write(source, data)
        self.run(program, source, destination, items)
        self.wait()
        self._free = before
        return self.memory.read(destination, items * self.layout["result_bytes"])
