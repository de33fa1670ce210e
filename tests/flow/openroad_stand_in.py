"""A stand-in for OpenROAD: every stage ends at once, with the netlist as it came, in one row.

A program: ``openroad -version``, or ``openroad ... -metrics FILE SCRIPT``, where SCRIPT is what
`flow.layout.openroad.run_script` wrote. It reads the settings that the script sources and leaves
the files that a stage leaves; every net has a wire of 1 fF, and every cell 1, 2 and 3 nW.
"""

import json
import re
import sys
from pathlib import Path

STAGE_METRICS = {
    "floorplan": {"floorplan__design__core__area": 4000.0},
    "place": {"detailedplace__timing__setup__ws": 0.5, "detailedplace__power__total": 1e-3},
    "detailedroute": {"detailedroute__route__drc_errors": 0},
    "finish": {"finish__design__die__area": 5000.0, "finish__timing__setup__ws": 0.25},
}


def setting(text: str, key: str) -> str:
    return re.search(rf"^  {key} (.*)$", text, re.M)[1].strip("{}")


def layout(netlist: str) -> tuple[str, str, list[str]]:
    """DEF and SPEF of a flat netlist as the flow writes it, and its instances."""
    cells = re.findall(r"^  (\w+) (\w+) \(\.", netlist, re.M)
    nets = re.findall(r"^  wire (\w+);", netlist, re.M)
    (top,) = re.findall(r"^module (\w+)", netlist, re.M)
    placed = [
        "VERSION 5.8 ;", 'DIVIDERCHAR "/" ;', 'BUSBITCHARS "[]" ;', f"DESIGN {top} ;",
        "UNITS DISTANCE MICRONS 2000 ;", f"DIEAREA ( 0 0 ) ( {2000 * len(cells)} 9000 ) ;",
        f"COMPONENTS {len(cells)} ;",
        *(f"- {name} {cell} + PLACED ( {2000 * n} 0 ) N ;" for n, (cell, name) in enumerate(cells)),
        "END COMPONENTS", "END DESIGN", "",
    ]  # fmt: skip
    wires = ['*SPEF "ieee 1481-1999"', "*C_UNIT 1 FF"]
    wires += [f"*D_NET {net} 1.0\n*END" for net in nets]
    return "\n".join(placed), "\n".join([*wires, ""]), [name for _, name in cells]


def main(arguments: list[str]) -> None:
    if "-version" in arguments:
        print("25Q4-1-stand-in")
        return
    script = Path(arguments[-1])
    name, folder = script.stem, script.parent
    own = re.search(r"^source \{?(.*\.settings\.tcl)\}?$", script.read_text(), re.M)[1]
    text = Path(own).read_text()
    found = STAGE_METRICS.get(name, {})
    Path(arguments[arguments.index("-metrics") + 1]).write_text(json.dumps(found))
    netlist = (folder / "netlist.v").read_text()
    layout_def, spef, instances = layout(netlist)
    if name == "power":
        lines = [f"1e-9 2e-9 3e-9 6e-9 {instance}" for instance in instances]
        (folder / "power.rpt").write_text("\n".join(lines) + "\n")
    elif name.startswith("corner_"):
        print("HALUT setup 0.5\nHALUT hold 0.125\nHALUT period 1.25")
    else:
        Path(setting(text, "output")).write_text(name)
    if name == "place":
        (folder / "place.def").write_text(layout_def)
    if name == "finish":
        (folder / "final.def").write_text(layout_def)
        (folder / "final.spef").write_text(spef)
        (folder / "final.v").write_text(netlist)
        print("HALUT period 1.5")
    print("HALUT done")


if __name__ == "__main__":
    main(sys.argv[1:])
