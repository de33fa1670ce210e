"""Every metric in words: unit, which way is better, title, stage of the flow.

Lists of names elsewhere say what a table holds and in which order; its words come from here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["METRICS", "STAGES", "UNITS", "Word", "shown_unit", "stage", "title"]


class Word(NamedTuple):
    """What a metric is called."""

    unit: str  #: As metrics.json has it.
    direction: int  #: Which way is better: -1 smaller, +1 larger, 0 neither.
    #: Where one run is reported. What goes on from another title has a comma after that one.
    title: str
    #: Where many runs are compared; title and unit when empty.
    heading: str = ""
    heading_unit: str = ""


METRICS: dict[str, Word] = {
    "synth__design__instance__area__stdcell": Word("um2", -1, "area"),
    # Macros are counted as cells too.
    "synth__design__instance__area__macros": Word("um2", -1, "area, of it SRAM macros"),
    "synth__design__instance__count__stdcell": Word("cells", -1, "cells"),
    "synth__design__instance__count__macros": Word("macros", -1, "SRAM macros"),
    "synth__design__instance__count__sequential": Word("cells", 0, "flip-flops"),
    "synth__design__instance__count__latch": Word("cells", 0, "latches"),
    "synth__design__instance__count__clock_gate": Word("cells", 0, "clock gates"),
    "synth__design__instance__count__buffer": Word("cells", 0, "buffers"),
    "synth__design__logic__depth": Word("cells", -1, "logic depth"),
    # The same in netlist and RTL, by proof.
    "synth__proof__outputs": Word("bits", 0, "output bits proved"),
    "synth__proof__registers": Word("bits", 0, "registers proved"),
    "synth__proof__latches": Word("bits", 0, "latches proved"),
    "halut__area__gate_equivalents": Word("GE", -1, "gate equivalents", "size"),
    "halut__area__per_mac_per_cycle": Word("um2", -1, "area per MAC/cycle"),
    "halut__clock_tree__area": Word("um2", -1, "clock buffers (not in the area)"),
    "halut__clock_tree__count": Word("cells", -1, "clock buffers"),
    "synth__timing__clock__period": Word("ns", 0, "clock period", "clock"),
    "synth__timing__target__period": Word("ns", 0, "period it is made for", "netlist made for"),
    "synth__timing__setup__ws": Word("ns", 1, "worst setup slack"),
    "synth__timing__hold__ws": Word("ns", 1, "worst hold slack"),
    "synth__timing__table_write__ws": Word("ns", 1, "worst slack of table writes"),
    "halut__timing__shortest_period": Word("ns", -1, "shortest period"),
    "synth__timing__fmax": Word("MHz", 1, "highest frequency"),
    "synth__timing__drv__max_slew": Word("pins", -1, "slew violations"),
    "synth__timing__drv__max_cap": Word("pins", -1, "load violations"),
    "synth__timing__drv__max_fanout": Word("nets", -1, "fan-out violations"),
    "sim__transfers__checked": Word(
        "transfers", 0, "output transfers checked", "outputs checked", "transfers"
    ),
    "sim__latency__cycles": Word("cycles", -1, "latency"),
    "sim__window__cycles": Word("cycles", 0, "cycles of activity"),
    "sim__input_transfers__per_cycle": Word("1/cycle", 1, "input transfers"),
    "synth__power__internal__total": Word("mW", -1, "power, internal", "internal"),
    "synth__power__switching__total": Word("mW", -1, "power, switching", "switching"),
    "synth__power__leakage__total": Word("mW", -1, "power, leakage", "leakage"),
    "synth__power__total": Word("mW", -1, "power"),
    "halut__power__clock_tree": Word("mW", -1, "power, of it clock buffers"),
    "halut__power__without_glitches": Word("mW", -1, "power, without glitches"),
    "halut__energy__per_cycle": Word("pJ", -1, "energy per cycle"),
    "halut__energy__per_look_up": Word("pJ", -1, "energy per look-up"),
    "halut__energy__per_program_word": Word("pJ", -1, "energy per program word"),
    "halut__energy__per_mac": Word("pJ", -1, "energy per MAC", "energy", "pJ/MAC"),
    "halut__energy__per_mac_without_glitches": Word(
        "pJ", -1, "energy per MAC, without glitches", "without glitches", "pJ/MAC"
    ),
    "halut__energy__per_mac_without_clock_tree": Word(
        "pJ", -1, "energy per MAC, without clock buffers"
    ),
    "halut__design__look_ups_per_cycle": Word(
        "1/cycle", 1, "look-ups per cycle", "look-ups", "per cycle"
    ),
    "halut__design__macs_per_cycle": Word("1/cycle", 1, "MACs per cycle", "MACs", "per cycle"),
    "halut__design__codebook_width": Word("columns", 0, "columns of A per codebook"),
    "halut__throughput__gmacs_per_s_per_mm2": Word(
        "GMAC/s/mm2", 1, "throughput density", "density at the common clock"
    ),
    "halut__throughput__gmacs_per_s_per_mm2_at_shortest": Word(
        "GMAC/s/mm2", 1, "throughput density, at the shortest period", "density at its own"
    ),
    # OpenROAD's, placed: an estimate without routes.
    "floorplan__design__die__area": Word("um2", -1, "die"),
    "floorplan__design__core__area": Word("um2", -1, "area of the core"),
    "detailedplace__design__instance__area__stdcell": Word("um2", -1, "area of cells"),
    "detailedplace__design__instance__count__stdcell": Word("cells", -1, "cells"),
    "detailedplace__design__instance__utilization": Word("share", 0, "utilisation of the core"),
    "detailedplace__timing__setup__ws": Word("ns", 1, "worst setup slack"),
    "detailedplace__timing__setup__tns": Word("ns", 1, "total negative slack"),
    "detailedplace__timing__drv__max_slew": Word("pins", -1, "slew violations"),
    "detailedplace__timing__drv__max_cap": Word("pins", -1, "load violations"),
    "detailedplace__power__total": Word("mW", -1, "power"),
    # With the clock tree.
    "cts__timing__setup__ws": Word("ns", 1, "worst setup slack"),
    "cts__timing__hold__ws": Word("ns", 1, "worst hold slack"),
    "cts__clock__skew__setup": Word("ns", -1, "clock skew"),
    "globalroute__timing__setup__ws": Word("ns", 1, "worst setup slack"),
    "globalroute__antenna_diodes_count": Word("cells", -1, "antenna diodes"),
    # Routed and extracted.
    "detailedroute__route__drc_errors": Word("violations", -1, "design-rule violations"),
    "detailedroute__route__wirelength": Word("um", -1, "wires"),
    "detailedroute__route__vias": Word("vias", -1, "vias"),
    "detailedroute__antenna__violating__nets": Word("nets", -1, "nets with antenna violations"),
    "finish__design__die__area": Word("um2", -1, "die"),
    "finish__design__instance__area__stdcell": Word("um2", -1, "area of cells"),
    "finish__design__instance__count__stdcell": Word("cells", -1, "cells"),
    "finish__design__instance__utilization": Word("share", 0, "utilisation of the core"),
    "finish__timing__setup__ws": Word("ns", 1, "worst setup slack"),
    "finish__timing__setup__tns": Word("ns", 1, "total negative slack"),
    "finish__timing__hold__ws": Word("ns", 1, "worst hold slack"),
    "finish__timing__hold__tns": Word("ns", 1, "total negative hold slack"),
    "finish__timing__drv__max_slew": Word("pins", -1, "slew violations"),
    "finish__timing__drv__max_cap": Word("pins", -1, "load violations"),
    "finish__clock__skew__setup": Word("ns", -1, "clock skew"),
    "finish__power__internal__total": Word("mW", -1, "power, internal", "internal"),
    "finish__power__switching__total": Word("mW", -1, "power, switching", "switching"),
    "finish__power__leakage__total": Word("mW", -1, "power, leakage", "leakage"),
    "finish__power__total": Word("mW", -1, "power", "power at that clock"),
    "halut__routed__corners__hold__ws": Word("ns", 1, "worst hold slack at all corners"),
    "halut__routed__transfers_checked": Word("transfers", 0, "results compared"),
    "halut__routed__gate_equivalents": Word("GE", -1, "gate equivalents", "size"),
    "halut__routed__die_area_per_mac_per_cycle": Word("um2", -1, "die per MAC/cycle"),
    "halut__routed__area_per_mac_per_cycle": Word("um2", -1, "cells per MAC/cycle"),
    "halut__routed__shortest_period": Word("ns", -1, "shortest period"),
    "halut__routed__energy_per_cycle": Word("pJ", -1, "energy per cycle"),
    "halut__routed__energy_per_look_up": Word("pJ", -1, "energy per look-up"),
    "halut__routed__energy_per_mac": Word("pJ", -1, "energy per MAC"),
    "halut__routed__energy_per_program_word": Word("pJ", -1, "energy per program word"),
    # Placed and routed on an FPGA.
    "halut__fpga__luts": Word("cells", -1, "LUTs", "LUTs"),
    "halut__fpga__luts_share": Word("share", -1, "share of the part's LUTs", "of the part"),
    "halut__fpga__flip_flops": Word("cells", -1, "flip-flops"),
    "halut__fpga__lut_rams": Word("cells", -1, "RAMs of LUTs"),
    "halut__fpga__block_rams": Word("cells", -1, "block RAMs"),
    "halut__fpga__multipliers": Word("cells", -1, "multipliers"),
    "halut__fpga__luts_per_mac_per_cycle": Word("cells", -1, "LUTs per MAC/cycle"),
    "halut__fpga__shortest_period": Word("ns", -1, "shortest period"),
    "halut__fpga__frequency": Word("MHz", 1, "frequency"),
    "halut__fpga__setup_slack": Word("ns", 1, "worst setup slack"),
}
UNITS = {name: word.unit for name, word in METRICS.items()}

# By the first word of a metric's name, in the order of the flow.
STAGES = {
    "synth": "after synthesis",
    "sim": "simulated netlist",
    "floorplan": "after floorplanning",
    "globalplace": "after global placement",
    "detailedplace": "after placement",
    "cts": "after clock tree",
    "globalroute": "after global routing",
    "detailedroute": "after routing",
    "finish": "after routing",
    "routed": "after routing",
    "fpga": "placed and routed on an FPGA",
}


def title(name: str) -> str:
    """A metric in words."""
    return METRICS[name].title


def stage(name: str) -> str:
    """Which step of the flow a metric's value stands for: never more than it is."""
    words = name.split("__")
    if words[0] == "halut":
        words = words[1:]
        if words[0] == "design":
            return "by construction"
    return STAGES.get(words[0], STAGES["synth"])


def shown_unit(name: str) -> str:
    """A metric's unit as it is printed."""
    unit = METRICS[name].unit
    return re.sub(r"\bum\b", "µm", unit.replace("um2", "µm²").replace("mm2", "mm²"))
