"""Writes the Verilog of the system with LiteX; runs in the environment where LiteX is installed.

``python litex_system.py --cfu halut_cfu.v -o FOLDER`` writes ``system.v``, which is everything but
what LiteX takes from files, and ``sources.txt``, the names of those. Nothing here imports this
project.

The memory map: 0x00000000 read-only memory, 0x10000000 memory, 0xf0000000 registers. Addresses from
0x80000000 on are not cached: an accelerator belongs there (`Console` shows how a slave is added),
and what it reads and writes by itself is memory of this bus.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from litex.build.generic_platform import GenericPlatform, Pins
from litex.gen import LiteXModule
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect.csr import CSRStorage
from migen import ClockDomain, Signal

CLOCK_HZ = 100e6  # of no consequence: nothing counts time

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
]


class Clock(LiteXModule):
    """The clock and the reset of the testbench."""

    def __init__(self, platform: GenericPlatform) -> None:
        self.cd_sys = ClockDomain()
        self.comb += self.cd_sys.clk.eq(platform.request("clk"))
        self.comb += self.cd_sys.rst.eq(platform.request("reset"))


class Console(LiteXModule):
    """Registers by which firmware talks to the testbench."""

    def __init__(self, platform: GenericPlatform) -> None:
        for name, bits in (("print", 8), ("mark", 32), ("exit", 8)):
            register = CSRStorage(bits, name=name)
            setattr(self, name, register)
            self.comb += platform.request(f"{name}_valid").eq(register.re)
            self.comb += platform.request(f"{name}_data").eq(register.storage)


class System(SoCCore):
    """VexRiscv with its custom function unit, memories and the console."""

    def __init__(self, platform: GenericPlatform, cfu: str, rom_bytes: int, ram_bytes: int) -> None:
        self.crg = Clock(platform)
        super().__init__(
            platform,
            CLOCK_HZ,
            cpu_type="vexriscv",
            cpu_variant="full+cfu",
            cpu_cfu=cfu,
            integrated_rom_size=rom_bytes,
            integrated_rom_init=[0],
            integrated_sram_size=ram_bytes,
            bus_bursting=True,
            with_uart=False,
            with_timer=True,  # LiteX wants one interrupt
            with_ctrl=False,
            ident="",
        )
        self.console = Console(platform)
        self.csr.add("console", n=0)
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


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write the Verilog of the system.")
    parser.add_argument("--cfu", required=True, help="Verilog of the custom function unit")
    parser.add_argument("--rom-bytes", type=int, default=1 << 20, help="read-only memory in bytes")
    parser.add_argument("--ram-bytes", type=int, default=1 << 17, help="memory in bytes")
    parser.add_argument("-o", "--output", required=True, help="folder")
    arguments = parser.parse_args()
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    platform = GenericPlatform("none", _PINS, name="system")
    system = System(platform, arguments.cfu, arguments.rom_bytes, arguments.ram_bytes)
    system.finalize()
    text = platform.get_verilog(system.get_fragment(), name="system").main_source
    (folder / "system.v").write_text(text)
    (folder / "sources.txt").write_text("\n".join(str(source[0]) for source in platform.sources))
    region = system.csr_regions["console"]
    lines = ["/* Registers of the console, written with the system. */"]
    for number, register in enumerate(region.obj):
        lines.append(f"#define CONSOLE_{register.name.upper()} {region.origin + 4 * number:#x}U")
    (folder / "console.h").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
