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
    "place": {
        "detailedplace__timing__setup__ws": 0.5,
        "detailedplace__power__total": 1e-3,
        "detailedplace__design__instance__area": 3000.0,
        "detailedplace__design__instance__area__stdcell": 2000.0,
    },
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


LIBRARY = """library (block) {{
  time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1mA"; leakage_power_unit : "1nW";
  capacitive_load_unit (1, ff); pulling_resistance_unit : "1kohm"; nom_voltage : 1.1;
  {types}
  cell ({top}) {{ area : 1; is_macro_cell : true; {pins} }}
}}
"""


def abstract(netlist: str) -> tuple[str, str]:
    """LEF of a square and Liberty with 0.1 ns at every port."""
    (top,) = re.findall(r"^module (\w+)", netlist, re.M)
    types, pins = [], []
    for direction, high, name in re.findall(
        r"^  (input|output)(?: \[(\d+):0\])? (\w+);", netlist, re.M
    ):
        kind = "setup_rising" if direction == "input" else "rising_edge"
        tables = ("rise_constraint", "fall_constraint")
        if direction == "output":
            tables = ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
        arcs = "".join(f'{table} (scalar) {{ values ("0.1"); }} ' for table in tables)
        body = f"direction : {direction}; capacitance : 1; "
        body += (
            "clock : true;"
            if name == "clk_i"
            else f'timing () {{ related_pin : "clk_i"; timing_type : {kind}; {arcs}}}'
        )
        if not high:
            pins.append(f"pin ({name}) {{ {body} }}")
            continue
        types.append(
            f"type ({name}) {{ base_type : array; data_type : bit; bit_width : {int(high) + 1}; "
            f"bit_from : {high}; bit_to : 0; }}"
        )
        bits = " ".join(f'pin ("{name}[{bit}]") {{ {body} }}' for bit in range(int(high) + 1))
        pins.append(f"bus ({name}) {{ bus_type : {name}; {bits} }}")
    lef = f"VERSION 5.8 ;\nMACRO {top}\n  CLASS BLOCK ;\n  ORIGIN 0 0 ;\n  SIZE 60 BY 40 ;\n"
    return f"{lef}END {top}\nEND LIBRARY\n", LIBRARY.format(
        top=top, types=" ".join(types), pins=" ".join(pins)
    )


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
        if path := setting(text, "abstract"):
            Path(path).write_text(abstract(netlist)[1])
    elif name == "abstract":
        (folder / "abstract.lef").write_text(abstract(netlist)[0])
        Path(setting(text, "output")).write_text(abstract(netlist)[1])
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
