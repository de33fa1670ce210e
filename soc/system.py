"""The system in Verilator: LiteX writes its Verilog, `sim.runner` builds it with a testbench."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from halut import process
from halut.errors import CheckFailed, HalutError
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.generate import generate_axi, write_axi
from rtl_gen.cfu import CfuConfig, write
from sim import runner

__all__ = [
    "RAM_BYTES",
    "ROM_BYTES",
    "TABLES_BYTES",
    "Mark",
    "System",
    "build_simulation",
    "build_system",
    "marks",
    "write_system",
]

ROM_BYTES = 1 << 21
RAM_BYTES = 1 << 20
TABLES_BYTES = 1 << 20
_SCRIPT = Path(__file__).with_name("litex_system.py")
_TESTBENCH = Path(__file__).with_name("testbench.cpp")


@dataclass(frozen=True, kw_only=True)
class System:
    """A system that is ready to run firmware.

    Attributes
    ----------
    build : sim.runner.Build
    headers : Path
        Folder of ``system.h``, ``halut_cfu.h`` and ``halut_axi.h``, which firmware includes.
    """

    build: runner.Build
    headers: Path

    def run(self, rom: Path, longest_cycles: int, timeout_s: float) -> str:
        """Run firmware until it ends; returns what it prints, with the testbench's lines.

        Raises
        ------
        SimulationFailed
            When it ends with another status than 0, too late, or not at all.
        """
        arguments = [str(longest_cycles), f"+rom={rom.resolve()}"]
        return runner.run_compiled(self.build, arguments, timeout_s=timeout_s).log


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Counters at a moment that firmware marked."""

    number: int
    cycle: int
    fetched: int  #: Words that the instruction cache got.
    fetch_waits: int  #: Cycles.
    read: int  #: Words that the data cache got.
    written: int  #: Words.
    data_waits: int  #: Cycles.
    custom: int  #: Custom instructions.
    master_read: int  #: Words that the accelerator read.
    master_written: int  #: Words.


def build_system(litex: Path, config: CfuConfig, block: AxiConfig, folder: Path) -> System:
    """Write the system's Verilog and compile it.

    Parameters
    ----------
    litex : Path
        The Python in whose environment LiteX is installed.
    config : CfuConfig
        Of the custom function unit.
    block : AxiConfig
        Of the accelerator, see `soc.accelerator.bus_block`.
    folder : Path
        For all of it.
    """
    cfu = write(config, folder / "halut_cfu.v").resolve()
    accelerator = write_axi(generate_axi(block), folder / "halut_axi.v").resolve()
    flags = ["--accelerator", str(accelerator), "--tables-bytes", str(TABLES_BYTES)]
    verilog = write_system(litex, cfu, flags, ROM_BYTES, RAM_BYTES, folder)
    built = build_simulation(_with_named_rom(verilog), _TESTBENCH, folder)
    return System(build=built, headers=folder)


def build_simulation(verilog: str, testbench: Path, folder: Path) -> runner.Build:
    """Compile a system's Verilog and its testbench (C++), in ``<folder>/verilator``."""
    return runner.build(
        verilog,
        "system",
        simulator="verilator",
        waves=False,
        strict=False,
        testbench=testbench,
        root=folder / "verilator",
    )


def write_system(
    litex: Path, cfu: Path, flags: Sequence[str], rom_bytes: int, ram_bytes: int, folder: Path
) -> str:
    """Let LiteX write a system, and ``system.h``; returns all Verilog.

    Parameters
    ----------
    litex : Path
        The Python in whose environment LiteX is installed.
    cfu : Path
        Verilog of the custom function unit.
    flags : sequence of str
        More for `soc/litex_system.py`.
    rom_bytes, ram_bytes : int
    folder : Path
    """
    command = [str(litex), str(_SCRIPT), "--cfu", str(cfu), "-o", str(folder.resolve())]
    command += ["--rom-bytes", str(rom_bytes), "--ram-bytes", str(ram_bytes), *flags]
    log = folder / "litex.log"
    try:
        done = process.run(command, log=log, timeout_s=300)
    except OSError as error:
        raise HalutError(
            f"--litex must be a Python with LiteX ({error.strerror}): {litex}"
        ) from None
    if done.status != 0:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
        raise CheckFailed(f"LiteX must write the system, not stop with: {lines[-1]} ({log})")
    sources = (folder / "sources.txt").read_text().splitlines()
    texts = [(folder / "system.v").read_text(), *(Path(name).read_text() for name in sources)]
    return "\n".join(texts)


def _with_named_rom(verilog: str) -> str:
    """Let the file of the read-only memory be named when a simulation starts."""
    named, n_found = re.subn(
        r'\$readmemh\("system_rom\.init", (\w+)\);',
        r'if ($value$plusargs("rom=%s", rom_file)) $readmemh(rom_file, \1);',
        verilog,
    )
    if n_found != 1:
        raise CheckFailed("LiteX's Verilog must read system_rom.init once")
    named = re.sub(r'\$readmemh\("system_(?:sram|tables)\.init", \w+\);', "", named)
    return named.replace("\nreg [31:0] rom[", "\nreg [2047:0] rom_file;\nreg [31:0] rom[", 1)


def marks(log: str) -> list[Mark]:
    """The moments that firmware marked, in their order."""
    found = []
    for line in log.splitlines():
        if line.startswith("@ "):
            found.append(Mark(**dict(zip(Mark.__dataclass_fields__, _numbers(line), strict=True))))
    return found


def _numbers(line: str) -> Sequence[int]:
    return [int(word) for word in line.split()[1:]]
