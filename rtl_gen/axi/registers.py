"""The registers, described once: hardware, SystemRDL, C, Python and documents are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .config import AxiConfig

__all__ = [
    "ERRORS", "IDENTITY", "INTERFACE_VERSION", "SPACE_BYTES", "Field", "Register", "registers",
]  # fmt: skip

IDENTITY = 0x48414C58
"""What the register ID reads: "HALX"."""
INTERFACE_VERSION = (1, 0)
"""Major and minor: a driver refuses another major."""
SPACE_BYTES = 4096
"""Bytes of the register space."""

ERRORS = {
    "read_error": "the bus answered a read with an error",
    "write_error": "the bus answered a write with an error",
    "bad_descriptor": "a descriptor broke a rule",
    "wrong_configuration": "a descriptor was made for another configuration",
    "bad_packet": "a packet of a stream does not end where its descriptor says",
    "watchdog": "nothing moved for WATCHDOG cycles",
}
"""Bits of ERROR from bit 0, and what each means.

ERROR_ADDRESS then holds the word that was read, the burst that was written, or else the descriptor;
with streams, the number of packets before.
"""

WATCHDOG_CYCLES = (1 << 20) - 1


@dataclass(frozen=True)
class Field:
    """A field of a register.

    Attributes
    ----------
    name : str
    low, bits : int
    access : {"constant", "status", "setting", "event", "command"}
        Constant: always `value`. Status: hardware drives it. Setting: software writes it. Event:
        hardware sets it, software clears it by writing 1. Command: hardware takes what software
        writes.
    text : str
    value : int
        After reset.
    """

    name: str
    low: int
    bits: int
    access: str
    text: str
    value: int = 0


@dataclass(frozen=True)
class Register:
    """A register of 32 bits.

    Attributes
    ----------
    name : str
    offset : int
        Byte address.
    text : str
    fields : sequence of Field
    """

    name: str
    offset: int
    text: str
    fields: Sequence[Field]

    @property
    def readable(self) -> bool:
        """Whether a read is answered with OKAY."""
        return any(field.access != "command" for field in self.fields)

    @property
    def writable(self) -> bool:
        """Whether a write is answered with OKAY."""
        return any(field.access in ("setting", "event", "command") for field in self.fields)

    @property
    def reset(self) -> int:
        """Value after reset."""
        return sum(field.value << field.low for field in self.fields)


def _whole(name: str, offset: int, access: str, text: str, value: int = 0) -> Register:
    """A register of one field."""
    return Register(name, offset, text, (Field("value", 0, 32, access, text, value),))


def _identity(config: AxiConfig) -> list[Register]:
    a = config.accelerator
    major, minor = INTERFACE_VERSION
    digest = config.core_hash

    def pair(name: str, offset: int, text: str, low: tuple[str, int, str],
             high: tuple[str, int, str]) -> Register:  # fmt: skip
        fields = (
            Field(low[0], 0, 16, "constant", low[2], low[1]),
            Field(high[0], 16, 16, "constant", high[2], high[1]),
        )
        return Register(name, offset, text, fields)

    return [
        _whole("ID", 0x000, "constant", "Identity: the letters HALX", IDENTITY),
        pair("VERSION", 0x004, "Version of this interface",
             ("minor", minor, "changes that drivers need not know"),
             ("major", major, "a driver refuses another one")),
        _whole("CONFIG_HASH0", 0x008, "constant",
               "SHA-256 of the accelerator's configuration, hex digits 1 to 8",
               int(digest[:8], 16)),
        _whole("CONFIG_HASH1", 0x00C, "constant",
               "SHA-256 of the accelerator's configuration, hex digits 9 to 16",
               int(digest[8:16], 16)),
        pair("SHAPE", 0x010, "Shape of the product",
             ("codebooks", a.n_codebooks, "C"), ("outputs", a.n_outputs, "M")),
        pair("PARALLEL", 0x014, "Rows and tree",
             ("rows", a.rows, "P, rows of a row group"),
             ("prototypes", a.n_prototypes, "K")),
        _whole("ITEM_BYTES", 0x018, "constant",
               "Bytes that go in for an item: a row group, or an image", config.item_bytes),
        _whole("RESULT_BYTES", 0x01C, "constant", "Bytes of an item's results",
               config.result_bytes),
        _whole("PROGRAM_WORD_BYTES", 0x020, "constant", "Bytes of a program word in memory",
               config.program_word_bytes),
        Register("FEATURES", 0x024, "What was generated", (
            Field("data_bits", 0, 8, "constant", "width of the master or of the streams",
                  config.data_bits),
            Field("address_bits", 8, 8, "constant", "width of the master's addresses",
                  config.address_bits),
            Field("stream", 16, 1, "constant", "AXI4-Streams stand in place of the master",
                  int(config.bus == "stream")),
            Field("double_buffer", 17, 1, "constant", "two programs are stored",
                  int(config.double_buffer)),
            Field("front_end", 18, 1, "constant", "items are images", int(config.has_front_end)),
        )),
    ]  # fmt: skip


def _error_fields(access: str) -> tuple[Field, ...]:
    return tuple(Field(name, i, 1, access, text) for i, (name, text) in enumerate(ERRORS.items()))


def registers(config: AxiConfig) -> list[Register]:
    """Return the registers of a configuration, by their offsets."""
    master = config.bus == "master"
    found = [
        *_identity(config),
        Register("CONTROL", 0x040, "Commands", (
            Field("reset", 0, 1, "command",
                  "1: end what runs, let open transfers of the bus finish, clear errors and "
                  "counters. A loaded program stays"),
        )),
        Register("STATUS", 0x044, "What it is doing", (
            Field("busy", 0, 1, "status", "descriptors wait or run, or transfers are open"),
            Field("halted", 1, 1, "status", "an error stopped it; CONTROL.reset goes on"),
            Field("draining", 2, 1, "status", "open transfers are being finished"),
            *([Field("full", 3, 1, "status", "DOORBELL takes nothing now")] if master else []),
        )),
        _whole("COMPLETED", 0x048, "status", "Descriptors done since reset, modulo 2^32"),
        _whole("ITEMS", 0x04C, "status", "Row groups whose results left the accelerator"),
        Register("TAG", 0x050, "Last descriptor done", (
            Field("tag", 0, 16, "status", "its tag"),
        )),
        _whole("BUSY_CYCLES", 0x054, "status", "Cycles with STATUS.busy since reset, modulo 2^32"),
        Register("ERROR", 0x058, "Errors; they stay until CONTROL.reset", _error_fields("status")),
        _whole("ERROR_ADDRESS", 0x05C, "status", "Where the first error was, bits 31 to 0"),
        Register("IRQ_STATUS", 0x060, "Why irq_o is 1; write 1 to clear", (
            Field("done", 0, 1, "event", "a descriptor with `interrupt` is done"),
            Field("error", 1, 1, "event", "a bit of ERROR was set"),
        )),
        Register("IRQ_ENABLE", 0x064, "What sets irq_o", (
            Field("done", 0, 1, "setting", "IRQ_STATUS.done"),
            Field("error", 1, 1, "setting", "IRQ_STATUS.error"),
        )),
        _whole("WATCHDOG", 0x068, "setting",
               "Cycles without a transfer while busy that are an error; 0: never",
               WATCHDOG_CYCLES),
        _whole("SCRATCH", 0x06C, "setting", "Nothing reads it: for tests of the bus"),
    ]  # fmt: skip
    if master:
        found.append(
            _whole("DOORBELL", 0x070, "command",
                   "Address of a chain's first descriptor: appends the chain to the queue")
        )  # fmt: skip
    if master and config.address_bits > 32:
        high = config.address_bits - 32
        text = "Bits of every address above 31; write it while nothing is busy"
        found.append(Register("WINDOW", 0x074, text, (Field("high", 0, high, "setting", text),)))
        text = "Where the first error was, bits from 32"
        field = Field("high", 0, high, "status", text)
        found.append(Register("ERROR_ADDRESS_HIGH", 0x078, text, (field,)))
    return found
