"""Writes the Verilog of the system with LiteX; runs in the environment where LiteX is installed.

``python litex_system.py --cfu halut_cfu.v --accelerator halut_axi.v -o FOLDER`` writes
``system.v``, which is everything but what LiteX takes from files, and ``sources.txt``, the names of
those. With ``--board-clock-hz N`` in place of an accelerator it is the system of a board: its
console is a serial line and three LEDs. Nothing here imports this project.

The memory map: 0x00000000 read-only memory, 0x10000000 memory, 0x20000000 memory of the
accelerator's tables, 0x80000000 registers of the accelerator, 0xf0000000 those of the console.
Addresses from 0x80000000 on are not cached. The bus is a crossbar: masters that use different
memories do not wait for each other.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from litex.build.generic_platform import GenericPlatform, Pins, Subsignal
from litex.gen import LiteXModule
from litex.soc.cores.uart import RS232PHYTX
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect import axi, wishbone
from litex.soc.interconnect.csr import CSRStatus, CSRStorage
from migen import (
    FSM,
    ClockDomain,
    ClockSignal,
    If,
    Instance,
    NextState,
    NextValue,
    ResetSignal,
    Signal,
)

CLOCK_HZ = 100e6  # of no consequence: nothing counts time
ACCELERATOR = 0x8000_0000  # address of its registers
TABLES = 0x2000_0000  # address of its memory
_REGISTER_BYTES = 0x1000
_INCREMENTS, _ENDS = 0b010, 0b111  # of a burst on Wishbone
_FIELDS = {"aw": ("addr",), "w": ("data", "strb"), "b": ("resp",), "ar": ("addr",),
           "r": ("data", "resp")}  # fmt: skip

_PINS = [
    ("clk", 0, Pins(1)),
    ("reset", 0, Pins(1)),
    # A character, the number of a moment, the exit status: each valid for a cycle.
    ("print_valid", 0, Pins(1)),
    ("print_data", 0, Pins(8)),
    ("mark_valid", 0, Pins(1)),
    ("mark_data", 0, Pins(32)),
    ("exit_valid", 0, Pins(1)),
    ("exit_data", 0, Pins(8)),
    # Words that move on the processor's buses, and cycles in which it waits for one.
    ("fetch_moves", 0, Pins(1)),
    ("fetch_waits", 0, Pins(1)),
    ("data_moves", 0, Pins(1)),
    ("data_waits", 0, Pins(1)),
    ("data_writes", 0, Pins(1)),
    # A custom instruction.
    ("cfu_moves", 0, Pins(1)),
    # Words that the accelerator reads and writes.
    ("master_reads", 0, Pins(1)),
    ("master_writes", 0, Pins(1)),
]

_BOARD_PINS = [
    ("clk", 0, Pins(1)),
    ("serial", 0, Subsignal("tx", Pins(1))),
    ("leds", 0, Pins(3)),  # running, passed, failed
]


class Clock(LiteXModule):
    """The clock of the testbench, and its reset, a cycle later.

    The reset is a register, so that no logic but this hangs on an input beside the clock: Verilator
    computes all that hangs on inputs at every edge, whether they have changed or not.
    """

    def __init__(self, platform: GenericPlatform) -> None:
        self.cd_sys = ClockDomain()
        self.cd_start = ClockDomain(reset_less=True)
        clock, reset = platform.request("clk"), Signal(reset=1)
        self.comb += [self.cd_sys.clk.eq(clock), self.cd_start.clk.eq(clock)]
        self.comb += self.cd_sys.rst.eq(reset)
        self.sync.start += reset.eq(platform.request("reset"))


class Console(LiteXModule):
    """Registers by which firmware talks to the testbench."""

    def __init__(self, platform: GenericPlatform) -> None:
        for name, bits in (("print", 8), ("mark", 32), ("exit", 8)):
            register = CSRStorage(bits, name=name)
            setattr(self, name, register)
            self.comb += platform.request(f"{name}_valid").eq(register.re)
            self.comb += platform.request(f"{name}_data").eq(register.storage)


class BoardClock(LiteXModule):
    """The clock of a board, and a reset for the first cycles after it was configured."""

    def __init__(self, platform: GenericPlatform) -> None:
        self.cd_sys = ClockDomain()
        self.cd_start = ClockDomain(reset_less=True)
        clock, left = platform.request("clk"), Signal(6, reset=63)
        self.comb += [self.cd_sys.clk.eq(clock), self.cd_start.clk.eq(clock)]
        self.comb += self.cd_sys.rst.eq(left != 0)
        self.sync.start += If(left != 0, left.eq(left - 1))


class BoardConsole(LiteXModule):
    """The registers of `Console` on a board, a serial line and LEDs, and a register for waiting."""

    def __init__(self, platform: GenericPlatform, clock_hz: int, baud: int) -> None:
        high = platform.request("high", loose=True)
        if high is not None:
            self.comb += high.eq(2 ** len(high) - 1)
        for name, bits in (("print", 8), ("mark", 32), ("exit", 8)):
            setattr(self, name, CSRStorage(bits, name=name))
        self.busy = CSRStatus(1, name="busy")
        self.line = RS232PHYTX(platform.request("serial"), int(baud / clock_hz * 2**32))
        waits, ended = Signal(), Signal()
        self.sync += If(self.print.re, waits.eq(1)).Elif(self.line.sink.ready, waits.eq(0))
        self.sync += If(self.exit.re, ended.eq(1))
        self.comb += [
            self.line.sink.valid.eq(waits),
            self.line.sink.data.eq(self.print.storage),
            self.busy.status.eq(waits),
        ]
        leds, failed = platform.request("leds"), self.exit.storage != 0
        self.comb += [leds[0].eq(~ended), leds[1].eq(ended & ~failed), leds[2].eq(ended & failed)]


class AxiToWishbone(LiteXModule):
    """Bursts of an AXI4 master as bursts of Wishbone: a word per cycle where memory keeps up.

    One burst at a time, reads and writes in turn. The master takes every word that is read, at
    once.
    """

    def __init__(self, master: axi.AXIInterface, bus: wishbone.Interface) -> None:
        place, left = Signal.like(bus.adr), Signal(8)
        failed, was_read = Signal(), Signal()
        takes_read = master.ar.valid & (~was_read | ~master.aw.valid)
        moves = bus.ack | bus.err
        self.comb += [
            bus.adr.eq(place),
            bus.cti.eq(_INCREMENTS),
            If(left == 0, bus.cti.eq(_ENDS)),
            bus.dat_w.eq(master.w.data),
            master.r.data.eq(bus.dat_r),
            master.r.resp.eq(bus.err << 1),
            master.r.last.eq(left == 0),
            master.b.resp.eq(failed << 1),
        ]
        self.fsm = FSM(reset_state="IDLE")
        for kind, channel, taken in (
            ("READ", master.ar, takes_read),
            ("WRITE", master.aw, master.aw.valid & ~takes_read),
        ):
            self.fsm.act(
                "IDLE",
                If(
                    taken,
                    channel.ready.eq(1),
                    NextValue(place, channel.addr[2:]),
                    NextValue(left, channel.len),
                    NextValue(failed, 0),
                    NextValue(was_read, kind == "READ"),
                    NextState(kind),
                ),
            )
        follows = [NextValue(place, place + 1), NextValue(left, left - 1)]
        self.fsm.act(
            "READ",
            bus.cyc.eq(1),
            bus.stb.eq(1),
            bus.sel.eq(0b1111),
            master.r.valid.eq(moves),
            If(moves, *follows, If(left == 0, NextState("IDLE"))),
        )
        self.fsm.act(
            "WRITE",
            bus.cyc.eq(1),
            bus.stb.eq(master.w.valid),
            bus.we.eq(1),
            bus.sel.eq(master.w.strb),
            master.w.ready.eq(moves),
            If(moves, *follows, If(left == 0, NextState("ANSWER"))),
            If(bus.err, NextValue(failed, 1)),
        )
        self.fsm.act("ANSWER", master.b.valid.eq(1), If(master.b.ready, NextState("IDLE")))


class Accelerator(LiteXModule):
    """`halut_axi`: its registers are a slave of the bus, its master reads and writes memory."""

    def __init__(self, platform: GenericPlatform, verilog: str) -> None:
        self.registers = axi.AXILiteInterface(data_width=32, address_width=32)
        master = axi.AXIInterface(data_width=32, address_width=32, id_width=1)
        self.bus = wishbone.Interface(
            data_width=32, address_width=32, addressing="word", bursting=True
        )
        self.bridge = AxiToWishbone(master, self.bus)
        ports = {"i_clk_i": ClockSignal(), "i_rst_ni": ~ResetSignal(), "i_m_axi_bid": 0}
        ports["i_m_axi_rid"] = 0
        for prefix, channels, out_of_it in (
            ("s_axil", self.registers, ("b", "r")),
            ("m_axi", master, ("aw", "w", "ar")),
        ):
            for name in _FIELDS:
                channel = getattr(channels, name)
                forth, back = ("o", "i") if name in out_of_it else ("i", "o")
                ports[f"{forth}_{prefix}_{name}valid"] = channel.valid
                ports[f"{back}_{prefix}_{name}ready"] = channel.ready
                for field in _FIELDS[name]:
                    ports[f"{forth}_{prefix}_{name}{field}"] = getattr(channel, field)
        for name in ("aw", "ar"):
            ports[f"o_m_axi_{name}len"] = getattr(master, name).len
        ports["i_m_axi_rlast"] = master.r.last
        self.specials += Instance("halut_axi", **ports)
        platform.add_source(verilog)
        for direction, channel in (("reads", master.r), ("writes", master.w)):
            pin = platform.request(f"master_{direction}")
            self.comb += pin.eq(channel.valid & channel.ready)


class System(SoCCore):
    """VexRiscv with its custom function unit, and memories."""

    def __init__(
        self, platform: GenericPlatform, cfu: str, rom_bytes: int, ram_bytes: int, clock_hz: float
    ) -> None:
        super().__init__(
            platform,
            clock_hz,
            cpu_type="vexriscv",
            cpu_variant="full+cfu",
            cpu_cfu=cfu,
            integrated_rom_size=rom_bytes,
            integrated_rom_init=[0],
            integrated_sram_size=ram_bytes,
            bus_bursting=True,
            bus_interconnect="crossbar",
            with_uart=False,
            with_timer=True,  # LiteX wants one interrupt
            with_ctrl=False,
            ident="",
        )


class Simulated(System):
    """With the accelerator and its memory, the console, and counters of the testbench."""

    def __init__(
        self,
        platform: GenericPlatform,
        cfu: str,
        accelerator: str,
        rom_bytes: int,
        ram_bytes: int,
        tables_bytes: int,
    ) -> None:
        self.crg = Clock(platform)
        super().__init__(platform, cfu, rom_bytes, ram_bytes, CLOCK_HZ)
        self.add_ram("tables", origin=TABLES, size=tables_bytes)
        self.console = Console(platform)
        self.csr.add("console", n=0)
        self.accelerator = Accelerator(platform, accelerator)
        self.bus.add_master("accelerator", self.accelerator.bus)
        region = SoCRegion(origin=ACCELERATOR, size=_REGISTER_BYTES, cached=False)
        self.bus.add_slave("accelerator", self.accelerator.registers, region)
        for name, bus in (("fetch", self.cpu.ibus), ("data", self.cpu.dbus)):
            active, moves = Signal(), Signal()
            self.comb += active.eq(bus.cyc & bus.stb)
            self.comb += moves.eq(active & bus.ack)
            self.comb += platform.request(f"{name}_moves").eq(moves)
            self.comb += platform.request(f"{name}_waits").eq(active & ~bus.ack)
            if name == "data":
                self.comb += platform.request("data_writes").eq(moves & bus.we)
        command = self.cpu.cfu_bus.cmd
        self.comb += platform.request("cfu_moves").eq(command.valid & command.ready)


class OnBoard(System):
    """With the console of a board."""

    def __init__(
        self,
        platform: GenericPlatform,
        cfu: str,
        rom_bytes: int,
        ram_bytes: int,
        clock_hz: int,
        baud: int,
    ) -> None:
        self.crg = BoardClock(platform)
        super().__init__(platform, cfu, rom_bytes, ram_bytes, clock_hz)
        self.console = BoardConsole(platform, clock_hz, baud)
        self.csr.add("console", n=0)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write the Verilog of the system.")
    parser.add_argument("--cfu", required=True, help="Verilog of the custom function unit")
    parser.add_argument("--accelerator", help="Verilog of halut_axi")
    parser.add_argument("--board-clock-hz", type=int, help="clock of a board in Hz")
    parser.add_argument("--baud", type=int, help="rate of a board's serial line")
    parser.add_argument("--high-pins", type=int, default=0, help="pins of it that must be high")
    parser.add_argument("--rom-bytes", type=int, default=1 << 21, help="read-only memory in bytes")
    parser.add_argument("--ram-bytes", type=int, default=1 << 20, help="memory in bytes")
    parser.add_argument("--tables-bytes", type=int, default=1 << 20, help="memory of the "
                        "accelerator's tables in bytes")  # fmt: skip
    parser.add_argument("-o", "--output", required=True, help="folder")
    arguments = parser.parse_args()
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    memories = (arguments.rom_bytes, arguments.ram_bytes)
    system: System
    if arguments.board_clock_hz is not None:
        high = [("high", 0, Pins(arguments.high_pins))] if arguments.high_pins else []
        platform = GenericPlatform("none", _BOARD_PINS + high, name="system")
        clock_hz, baud = arguments.board_clock_hz, arguments.baud
        system = OnBoard(platform, arguments.cfu, *memories, clock_hz, baud)
    else:
        platform = GenericPlatform("none", _PINS, name="system")
        system = Simulated(
            platform, arguments.cfu, arguments.accelerator, *memories, arguments.tables_bytes
        )
    system.finalize()
    text = platform.get_verilog(system.get_fragment(), name="system").main_source
    # The same bytes at any time.
    text = re.sub(r"^// *(Date|Auto-Generated by LiteX on) .*\n", "", text, flags=re.M)
    (folder / "system.v").write_text(text)
    (folder / "sources.txt").write_text("\n".join(str(source[0]) for source in platform.sources))
    region = system.csr_regions["console"]
    lines = ["/* Registers of the console and of the accelerator, written with the system. */"]
    for number, register in enumerate(region.obj):
        lines.append(f"#define CONSOLE_{register.name.upper()} {region.origin + 4 * number:#x}U")
    if arguments.accelerator is not None:
        lines.append(f"#define ACCELERATOR {ACCELERATOR:#x}U")
        lines.append(f"#define TABLES {TABLES:#x}U")
    (folder / "system.h").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
