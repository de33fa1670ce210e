"""Parts and boards: one YAML file names them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from halut.checks import one_of, read_yaml

__all__ = ["FAMILIES", "Board", "Family", "Part", "board", "boards", "part", "parts"]

_FILE = Path(__file__).with_name("parts.yaml")


@dataclass(frozen=True, kw_only=True)
class Family:
    """Parts that one set of tools is for.

    Attributes
    ----------
    synthesis : str
        Yosys' command.
    lut_rams : tuple of str
        Yosys' library of RAMs made of LUTs, and what it makes of them; empty: not mapped apart.
    block_ram_shapes : tuple of (int, int)
        Words and bits of a word that a block RAM can have; empty: Yosys shares them out.
    own_adders : bool
        Whether `flow.fpga.adders` maps adders, in place of Yosys.
    narrow_luts : str
        The flag of `synthesis` against LUTs that multiplexers join; empty where there is none.
    placer, packer : str
        Programs; ``pip install yowasp-<placer>`` has both under names with the prefix ``yowasp-``,
        unless `packer_package` names another package of Python, which has the packer as a module.
    alone : tuple of str
        The placer's flags for a design without pins; empty where it must have them.
    constraints : tuple of str
        The placer's flags for the file of pins, ``{}``.
    pin : str
        A line of that file: of a ``{port}``, at ``{pin}``.
    placed : str
        Its flag for the file that the packer reads.
    packed : tuple of str
        The packer's flags for the bitstream, behind the file that it reads.
    bitstream : str
        That file's name: programmers go by its end.
    counts : mapping of str to tuple of str
        Metric, and the kinds of cells of the placer that it adds.
    """

    synthesis: str
    lut_rams: tuple[str, ...]
    own_adders: bool
    narrow_luts: str = ""
    block_ram_shapes: tuple[tuple[int, int], ...] = ()
    placer: str
    packer: str
    alone: tuple[str, ...]
    constraints: tuple[str, ...]
    pin: str
    placed: str
    packed: tuple[str, ...] = ()
    bitstream: str = "design.bit"
    counts: Mapping[str, tuple[str, ...]]
    packer_package: str = ""


FAMILIES = {
    "ecp5": Family(
        synthesis="synth_ecp5",
        lut_rams=("+/lattice/lutrams_trellis.txt", "+/lattice/lutrams_map_trellis.v"),
        own_adders=True,
        narrow_luts=" -nowidelut",
        block_ram_shapes=((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
        placer="nextpnr-ecp5",
        packer="ecppack",
        alone=("--out-of-context",),
        constraints=("--lpf", "{}"),
        pin='LOCATE COMP "{port}" SITE "{pin}";\nIOBUF PORT "{port}" IO_TYPE=LVCMOS33;\n',
        placed="--textcfg",
        counts={
            "halut__fpga__luts": ("TRELLIS_COMB",),
            "halut__fpga__flip_flops": ("TRELLIS_FF",),
            "halut__fpga__lut_rams": ("TRELLIS_RAMW",),
            "halut__fpga__block_rams": ("DP16KD",),
            "halut__fpga__multipliers": ("MULT18X18D",),
        },
    ),
    "ice40": Family(
        synthesis="synth_ice40",
        lut_rams=(),
        own_adders=False,
        placer="nextpnr-ice40",
        packer="icepack",
        alone=(),
        constraints=("--pcf", "{}"),
        pin="set_io {port} {pin}\n",
        placed="--asc",
        counts={
            "halut__fpga__luts": ("ICESTORM_LC",),
            "halut__fpga__block_rams": ("ICESTORM_RAM", "ICESTORM_SPRAM"),
            "halut__fpga__multipliers": ("ICESTORM_DSP",),
        },
    ),
    "gowin": Family(
        synthesis="synth_gowin -family gw2a",
        lut_rams=(),
        own_adders=False,
        placer="nextpnr-himbaechel-gowin",
        packer="gowin_pack",
        packer_package="apycula",
        alone=(),
        constraints=("--vopt", "cst={}"),
        pin='IO_LOC "{port}" {pin};\nIO_PORT "{port}" IO_TYPE=LVCMOS33;\n',
        placed="--write",
        packed=("-o",),
        bitstream="design.fs",
        counts={
            "halut__fpga__luts": ("LUT4", "ALU"),
            "halut__fpga__flip_flops": ("DFF",),
            "halut__fpga__lut_rams": ("RAM16SDP4",),
            "halut__fpga__block_rams": ("BSRAM",),
            "halut__fpga__multipliers": ("MULT9X9", "MULT18X18", "MULT36X36"),
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """An FPGA: a family, and the flags that tell its placer which one."""

    name: str
    title: str
    family: Family
    flags: tuple[str, ...]
    pack_flags: tuple[str, ...]
    #: Of a self-test's clock and LEDs, where the placer must have pins; else empty.
    test_pins: tuple[str, ...]
    #: Of the synthesis command: ``-dsp`` puts products into multipliers, ``-nodsp`` does not; empty
    #: where the part has none.
    multipliers: str
    #: Block RAMs of the part, for families that name their shapes; else 0.
    block_rams: int = 0

    def pins(self) -> str:
        """The file of pins that the placer reads; empty where it needs none."""
        return _pins(self, self.test_pins)


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board: its part, its clock, and three LEDs for running, passed, failed."""

    name: str
    title: str
    part: Part
    clock_mhz: float
    clock_pin: str
    led_pins: tuple[str, ...]
    leds_active_low: bool
    #: Of the output of a serial line; empty: there is none.
    serial_pin: str = ""
    #: What a system must hold high.
    high_pins: tuple[str, ...] = ()

    def pins(self, ports: Mapping[str, str] | None = None) -> str:
        """The file of pins that the placer reads: of clock and LEDs, and of more ports."""
        lines = _pins(self.part, (self.clock_pin, *self.led_pins))
        line = self.part.family.pin
        return lines + "".join(line.format(port=p, pin=pin) for p, pin in (ports or {}).items())


def _pins(part: Part, pins: tuple[str, ...]) -> str:
    """Lines for the pins of a self-test's clock and LEDs."""
    ports = ["clk", *(f"leds[{number}]" for number in range(len(pins) - 1))]
    line = part.family.pin
    return "".join(line.format(port=port, pin=pin) for port, pin in zip(ports, pins, strict=False))


@cache
def _read() -> dict[str, Any]:
    content: dict[str, Any] = read_yaml(_FILE)
    return content


def parts() -> list[str]:
    """Names of the parts."""
    return sorted(_read()["parts"])


def boards() -> list[str]:
    """Names of the boards."""
    return sorted(_read()["boards"])


def _entry(kind: str, name: str) -> dict[str, Any]:
    entries = _read()[f"{kind}s"]
    one_of(kind, name, sorted(entries))
    entry: dict[str, Any] = entries[name]
    return entry


def part(name: str) -> Part:
    """The part of a name.

    Raises
    ------
    HalutError
        When there is none.
    """
    entry = _entry("part", name)
    return Part(
        name=name,
        title=entry["title"],
        family=FAMILIES[entry["family"]],
        flags=tuple(entry["flags"]),
        pack_flags=tuple(entry.get("pack_flags", ())),
        test_pins=tuple(entry.get("test_pins", ())),
        multipliers=entry.get("multipliers", ""),
        block_rams=entry.get("block_rams", 0),
    )


def board(name: str) -> Board:
    """The board of a name.

    Raises
    ------
    HalutError
        When there is none.
    """
    entry = _entry("board", name)
    return Board(
        name=name,
        title=entry["title"],
        part=part(entry["part"]),
        clock_mhz=entry["clock_mhz"],
        clock_pin=entry["clock_pin"],
        led_pins=tuple(entry["led_pins"]),
        leds_active_low=entry["leds_active"] == "low",
        serial_pin=entry.get("serial_pin", ""),
        high_pins=tuple(entry.get("high_pins", ())),
    )
