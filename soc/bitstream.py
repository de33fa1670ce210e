"""The system as a bitstream: a processor with custom instructions classifies digits on a board.

All memory is on the chip: firmware has one network, and no accelerator, whose programs would not
fit. The Verilog that becomes the bitstream is simulated first, from its first cycle to the LED that
ends it.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from flow.figures.metrics import Metrics, base_provenance
from flow.fpga.implement import check_clock, clock_of
from flow.fpga.parts import Board
from flow.fpga.steps import FpgaOptions, Implemented, Sources, run_steps, set_resources
from halut.errors import CheckFailed, HalutError
from rtl_gen.cfu import CfuConfig, write
from sim import runner
from soc.expected import prepare, write_expected
from soc.firmware import build_board_firmware
from soc.system import build_simulation, write_system

__all__ = ["BAUD", "RAM_BYTES", "ROM_BYTES", "board_metrics", "make_bitstream", "simulate_board"]

ROM_BYTES = 1 << 18
RAM_BYTES = 1 << 16
BAUD = 115_200
_TESTBENCH = Path(__file__).with_name("board_testbench.cpp")
_CYCLES_PER_IMAGE = 10_000_000  # that no image needs
_ROM_FILE = "system_rom.init"

log = logging.getLogger("soc")


def make_bitstream(
    board: Board, litex: Path, network: Path, config: CfuConfig, n_images: int, folder: Path
) -> tuple[Metrics, Path]:
    """Build the system of a board, simulate it, and map, place, route and pack it.

    Parameters
    ----------
    board : Board
        With a serial line.
    litex : Path
        The Python in whose environment LiteX is installed.
    network : Path
        With looked-up layers; it has to fit `ROM_BYTES`.
    config : CfuConfig
        Of the custom function unit.
    n_images : int
        That firmware classifies.
    folder : Path
        Products go to ``<folder>/<board>``.

    Returns
    -------
    metrics : Metrics
        Also written to ``metrics.json`` beside the bitstream.
    folder : Path

    Raises
    ------
    HalutError
        When the board has no serial line, or a tool is missing.
    CheckFailed
        When the simulation or a tool fails, or the board's clock is missed.
    """
    if not board.serial_pin:
        raise HalutError(f"board must have a serial_pin in parts.yaml, not {board.name}")
    folder = folder / board.name
    clock_hz = round(board.clock_mhz * 1e6)
    log.info("[1/4] system: LiteX")
    cfu = write(config, folder / "halut_cfu.v").resolve()
    flags = ["--board-clock-hz", str(clock_hz), "--baud", str(BAUD)]
    flags += ["--high-pins", str(len(board.high_pins))]
    verilog = write_system(litex, cfu, flags, ROM_BYTES, RAM_BYTES, folder)
    # Memory that is not read-only begins with what is there.
    verilog = re.sub(r'\$readmemh\("system_sram\.init", \w+\);', "", verilog)
    if verilog.count(f'"{_ROM_FILE}"') != 1:
        raise CheckFailed(f"LiteX's Verilog must read {_ROM_FILE} once")
    log.info("[2/4] firmware")
    looked_up = prepare(network, folder / "looked_up", n_images)
    write_expected(None, looked_up, folder / "firmware", (0, 0, n_images, 0), 0)
    headers = [folder, folder / "firmware"]
    rom = build_board_firmware(
        looked_up.folder, headers, folder / "firmware", ROM_BYTES, RAM_BYTES
    ).read_text()
    log.info("[3/4] simulation: %d images", n_images)
    simulate_board(verilog, rom, board, n_images, folder)
    log.info("[4/4] %s: Yosys, nextpnr", board.part.title)
    sources = Sources(
        files={"system.v": verilog, _ROM_FILE: rom}, reads=["read_verilog system.v"], top="system"
    )
    options = FpgaOptions()
    clock_ns = clock_of(options, board)
    ports = {"serial_tx": board.serial_pin}
    several = len(board.high_pins) > 1
    ports |= {f"high[{k}]" if several else "high": pin for k, pin in enumerate(board.high_pins)}
    products = folder / "fpga"
    done = run_steps(
        sources, board.part, clock_ns, options, products, pins=board.pins(ports), bitstream=True
    )
    metrics = board_metrics(board, done, clock_ns, options.seed)
    metrics.write(products / "metrics.json")
    check_clock(board, done, clock_ns, products)
    return metrics, products


def board_metrics(board: Board, done: Implemented, clock_ns: float, seed: int) -> Metrics:
    """What is known of the system on the board: resources, period, and how they came about."""
    metrics = Metrics()
    metrics.provenance = {
        **base_provenance(),
        "design": f"soc_{board.name}",
        "platform": board.name,
        "part": board.part.title,
        "corner": None,
        "voltage": None,
        "temperature": None,
        "clock_ns": clock_ns,
        "target_ns": clock_ns,
        "seed": seed,
        "tools": done.tools,
        "seconds": done.seconds,
    }
    metrics.notes["conditions"] = [
        f"placed and routed by nextpnr for {board.part.title}, one seed",
        f"VexRiscv with the custom function unit, {ROM_BYTES >> 10} kB read-only, "
        f"{RAM_BYTES >> 10} kB of memory",
    ]
    set_resources(metrics, board.part, done, clock_ns)
    metrics.missing(("",), "not of an FPGA")
    return metrics


def simulate_board(verilog: str, rom: str, board: Board, n_images: int, folder: Path) -> None:
    """Run the system from power-on to the end of its firmware.

    Raises
    ------
    SimulationFailed
        When the LED for failed is lit, or none.
    CheckFailed
        When it does not print a right class for every image.
    """
    file = (folder / "firmware" / "rom.init").resolve()
    file.write_text(rom)
    built = build_simulation(verilog.replace(_ROM_FILE, str(file)), _TESTBENCH, folder)
    arguments = [str(_CYCLES_PER_IMAGE * (n_images + 1)), f"{board.clock_mhz * 1e6 / BAUD}"]
    text = runner.run_compiled(built, arguments, timeout_s=3600).log
    (folder / "run.log").write_text(text)
    print(text.strip())
    classes = re.findall(r"^image \d+ class \d+ cycles \d+$", text, re.M)
    if len(classes) != n_images or not re.search(r"^wrong 0$", text, re.M):
        raise CheckFailed(f"{n_images} images must be right, not: {text.strip()[-200:]}")
