"""Logic synthesis with Yosys: Verilog to a hierarchical netlist of library cells.

Every module is mapped once, whatever the number of its instances. What is done on top of Yosys'
usual steps, and why:

* sums of several operands become carry-save trees (`alumacc`, `maccmap`) of full-adder cells;
* registers with a common enable get a clock gate (`clockgate`), which costs less than their
  multiplexers from a few bits on and saves the clock's energy;
* ABC reads a library that holds only the usable cells with one table per arc, and maps without
  buffering or sizing: those need the loads of the whole design, and `flow.repair` does them there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flow.cells.liberty_writer import write_liberty
from flow.cells.library import MACROS, Library
from flow.cells.platform import Platform
from flow.tools import Tool, plain_path, run_tool
from halut.errors import HalutError
from halut.files import write_text
from rtl_gen.settings import check_settings, setting
from sim.simulators import plain_link

__all__ = ["SynthOptions", "clock_gate_module", "synthesise", "usable_cells"]

_MAPS = Path(__file__).parent / "maps"

ADDERS = ("auto", "ripple", "brent-kung", "kogge-stone", "han-carlson", "sklansky")
EFFORTS = ("area", "speed")


@dataclass(frozen=True, kw_only=True)
class SynthOptions:
    """How to synthesise."""

    #: Of ABC, before sizing.
    effort: str = setting(
        "area", "--effort", "what mapping optimises", choices=EFFORTS, metavar="NAME"
    )
    #: ``ripple`` is made of full-adder cells, others are parallel prefixes; ``auto`` takes the
    #: first of `candidates` that meets the target.
    adder: str = setting(
        "brent-kung",
        "--adder",
        "two-operand sums: {}; auto is the smallest that meets the target",
        choices=ADDERS,
        metavar="NAME",
    )
    #: Patterns; such modules go into the one above.
    flatten: tuple[str, ...] = setting(
        (),
        "--flatten",
        "modules to dissolve before mapping, comma-separated",
        metavar="NAMES",
        parse=lambda text: tuple(name for name in text.split(",") if name),
        shown=lambda _: "none",
    )
    gate_min: int = setting(
        4,
        "--gate-min",
        "registers with a common enable that get a clock gate, in bits; 0 for none",
        within=(0, 1_000_000),
        metavar="BITS",
    )
    booth: bool = setting(False, "--booth", "Booth-encode multipliers")

    @property
    def candidates(self) -> list[SynthOptions]:
        """Options without choice, smallest result first."""
        adders = ("ripple", "brent-kung", "sklansky") if self.adder == "auto" else (self.adder,)
        return [replace(self, adder=adder) for adder in adders]

    def __post_init__(self) -> None:
        check_settings(self)
        for pattern in self.flatten:
            if not re.fullmatch(r"[\w*?$.]+", pattern):
                raise HalutError(f"flatten must be patterns of module names, not {pattern}")


def usable_cells(library: Library, platform: Platform) -> list[str]:
    """Cells that mapping may choose."""
    chosen = []
    for name, cell in library.cells.items():
        if cell.dont_use or platform.avoids(name) or cell.kind in ("other", "clock_gate", *MACROS):
            continue
        if cell.kind in ("ff", "latch") and (
            {"clear", "preset"} & set(cell.state) or len(cell.inputs) != 2
        ):
            continue
        if cell.kind == "gate" and (not cell.inputs or len(cell.outputs) != 1):
            continue
        chosen.append(name)
    return chosen


def clock_gate_module(platform: Platform) -> str:
    """Verilog of the clock gate as the platform's cell, or made of its latch and gates."""
    gate = platform.cells["clock_gate"]
    lines = ["module halut_clock_gate(input clk_i, input en_i, output gclk_o);"]
    if "cell" in gate:
        ties = "".join(f", .{pin}(1'b0)" for pin in gate.get("tie_low", []))
        lines.append(
            f"  {gate['cell']} gate (.{gate['clock']}(clk_i), .{gate['enable']}(en_i), "
            f".{gate['output']}(gclk_o){ties});"
        )
    else:
        first, second = gate["and_inputs"]
        lines += [
            "  wire low, open;",
            f"  {gate['inverter']} invert (.{gate['inverter_input']}(clk_i), "
            f".{gate['inverter_output']}(low));",
            f"  {gate['latch']} hold (.{gate['latch_data']}(en_i), "
            f".{gate['latch_enable']}(low), .{gate['latch_output']}(open));",
            f"  {gate['and']} gate (.{first}(clk_i), .{second}(open), "
            f".{gate['and_output']}(gclk_o));",
        ]
    lines.append("endmodule")
    return "\n".join(lines) + "\n"


def _adder_cell(platform: Platform) -> str:
    """The platform's full adder as macros of ``platform_adder.v``; "" without one."""
    adder = platform.cells.get("full_adder")
    if not adder:
        return ""
    pins = {"A": "a", "B": "b", "C": "carry_in", "CO": "carry", "S": "sum"}
    macros = [f"CELL={adder['cell']}", *(f"PIN_{pin}={adder[key]}" for pin, key in pins.items())]
    if adder.get("inverted"):
        macros.append("INVERTED")
    return " ".join(f"-D {macro}" for macro in macros)


# Without buffering and sizing: the loads are not known before the hierarchy is dissolved.
_ABC = {
    "area": "strash; ifraig; &get -n; &dch -f; &nf {D}; &put; topo; stime -p",
    "speed": "strash; &get -n; &fraig -x; &put; scorr; dc2; strash; &get -n; &dch -f; &syn4; "
    "&dch -f; &nf {D}; &put; topo; stime -p",
}


def _script(
    sources: Sequence[Path],
    top: str,
    folder: Path,
    platform: Platform,
    options: SynthOptions,
    target_ns: float,
    replacements: Sequence[Path],
) -> str:
    library = platform.has_library
    lines = [
        f"read_verilog{' -sv' if source.suffix == '.sv' else ''} -defer {source}"
        for source in sources
    ]
    lines += [f"read_verilog -overwrite -defer {source}" for source in replacements]
    lines += [
        f"hierarchy -check -top {top}",
        "proc",
        "setattr -mod -set keep_hierarchy 1 *",
        # Small cells belong to the module that uses them.
        "setattr -mod -unset keep_hierarchy *halut_latch* *halut_full_adder*",
        *(["setattr -mod -unset keep_hierarchy $paramod*halut_sram"] if replacements else []),
    ]
    # Full adders that the design asks for; what becomes of $fa depends on the platform.
    lines.append(f"techmap -map {folder}/full_adder.v t:halut_full_adder")
    if not library:
        lines.append("blackbox halut_clock_gate")
    lines += [f"setattr -mod -unset keep_hierarchy *{name}*" for name in options.flatten]
    lines += [
        f"setattr -mod -set keep_hierarchy 1 {top}",
        "flatten",
        "opt_expr",
        "opt_clean",
        "check -assert",
        "opt -nodffe -nosdff",
        "fsm",
        "opt",
        "wreduce",
        "peepopt",
        "opt_clean",
        *(["booth"] if options.booth else []),
        f"techmap -map {folder}/compare.v t:$lt t:$le t:$gt t:$ge",
        "alumacc",
        "opt -full",
        "memory -nomap",
        "memory_map",
        "opt -full",
        "maccmap",
        "opt",
    ]
    if options.adder == "ripple":
        lines.append(f"techmap -map {folder}/ripple_alu.v t:$alu")
    adder = _adder_cell(platform)
    if library and adder:
        lines.append(f"techmap -map {folder}/platform_adder.v {adder} t:$fa")
    carry = {"ripple": f"{folder}/serial_carry.v", "brent-kung": ""}.get(
        options.adder, f"+/choices/{options.adder}.v"
    )
    lines += [f"techmap -map +/techmap.v{' -map ' + carry if carry else ''}", "opt -fast"]
    if options.gate_min:
        # Before legalisation, which turns the enables into multiplexers.
        lines += [
            f"clockgate -pos halut_clock_gate en_i:clk_i:gclk_o -min_net_size {options.gate_min}",
            "opt_clean",
        ]
    if library:
        lines += [
            f"techmap -map {folder}/clock_gate.v t:halut_clock_gate",
            f"read_liberty -overwrite -lib {folder}/cells.lib",
            f"dfflibmap -liberty {folder}/cells.lib",
            "opt -fast",
            f"abc -liberty {folder}/cells.lib -script {folder}/map.abc -D {target_ns * 1000:.0f}",
        ]
    else:
        lines += [
            "dfflegalize -cell $_DFF_?_ 01 -cell $_DLATCH_?_ 01",
            "opt -fast -nodffe -nosdff",
            "abc -g all",
        ]
    lines += ["opt_clean -purge", f"write_json {folder}/netlist.json"]
    return "\n".join(lines) + "\n"


def synthesise(
    yosys: Tool,
    sources: Sequence[Path],
    top: str,
    folder: Path,
    platform: Platform,
    library: Library | None,
    options: SynthOptions,
    target_ns: float,
    replacements: Sequence[Path] = (),
) -> Path:
    """Map a design to the cells of a platform.

    Parameters
    ----------
    sources : sequence of Path
        Verilog files.
    top : str
        Name of the top module.
    folder : Path
        Where scripts, logs and the netlist go.
    library : Library or None
        None for a platform without a library.
    options : SynthOptions
        An ``auto`` choice is its first candidate here.
    target_ns : float
        Clock period that ABC aims at.
    replacements : sequence of Path
        Verilog files whose modules take the place of the sources' modules of the same name.

    Returns
    -------
    Path
        The mapped, still hierarchical netlist in Yosys' JSON.
    """
    options = options.candidates[0]
    folder.mkdir(parents=True, exist_ok=True)
    files = {path.name: path.read_text() for path in sorted(_MAPS.iterdir())}
    files["map.abc"] = _ABC[options.effort].replace("; ", "\n") + "\n"
    if library is not None:
        write_liberty(library, usable_cells(library, platform), folder / "cells.lib")
        files["clock_gate.v"] = clock_gate_module(platform)
    # Yosys and ABC split their commands at spaces.
    plain = plain_link(folder)
    named = [plain_path(source) for source in sources]
    replaced = [plain_path(path) for path in replacements]
    files["synth.ys"] = _script(named, top, plain, platform, options, target_ns, replaced)
    for name, text in files.items():
        write_text(folder / name, text)
    run_tool(yosys, [str(plain / "synth.ys")], folder / "yosys.log", cwd=folder)
    return folder / "netlist.json"
