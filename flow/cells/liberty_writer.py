"""Writing a Liberty file with a selection of cells, as small as mapping allows."""

from __future__ import annotations

from pathlib import Path

from flow.cells.library import Library, Table
from halut.files import write_text

__all__ = ["write_liberty"]


def write_liberty(library: Library, cells: list[str], path: Path) -> None:
    """Write the named cells with what mapping needs: area, functions, one table per timing arc.

    Power and conditions are left out, which makes a large library quick to read many times.
    Units in the file are ns and fF.
    """

    def numbers(values: list[float]) -> str:
        return '"' + ", ".join(f"{value:.6g}" for value in values) + '"'

    out = [
        "library (cells) {",
        "  delay_model : table_lookup;",
        '  time_unit : "1ns";\n  voltage_unit : "1V";\n  current_unit : "1mA";',
        "  capacitive_load_unit (1, ff);",
        f"  nom_voltage : {library.voltage:g};",
    ]
    templates: dict[tuple[int, int, str], str] = {}

    def template(table: Table, loads: str) -> str:
        key = (len(table.slews), len(table.loads), loads)
        if key not in templates:
            name = f"t{len(templates)}"
            templates[key] = name
            first = "constrained_pin_transition" if loads[0] == "r" else "input_net_transition"
            out.append(
                f"  lu_table_template ({name}) {{ variable_1 : {first}; variable_2 : {loads}; "
                f"index_1 ({numbers(list(range(key[0])))}); "
                f"index_2 ({numbers(list(range(key[1])))}); }}"
            )
        return templates[key]

    body: list[str] = []
    for name in cells:
        cell = library.cells[name]
        body.append(f"  cell ({name}) {{\n    area : {cell.area:g};")
        state = cell.state
        if cell.kind in ("ff", "latch"):
            names = {"next": "next_state", "clock": "clocked_on", "data": "data_in"}
            body.append(f"    {cell.kind} ({state['iq']}, {state.get('iqn', 'IQN_')}) {{")
            for key in ("next", "clock", "data", "enable", "clear", "preset"):
                if key in state:
                    body.append(f'      {names.get(key, key)} : "{state[key]}";')
            body.append("    }")
        for pin in cell.pins.values():
            if pin.direction not in ("input", "output"):
                continue
            body.append(f"    pin ({pin.name}) {{ direction : {pin.direction};")
            if pin.direction == "input":
                body.append(f"      capacitance : {max(pin.capacitance):.6g};")
            elif pin.max_capacitance:
                body.append(f"      max_capacitance : {pin.max_capacitance:.6g};")
            if pin.clock:
                body.append("      clock : true;")
            if pin.function:
                body.append(f'      function : "{pin.function}";')
            for arc in pin.arcs:
                delays = [kind for kind in arc.tables if not kind.endswith("constraint")]
                if not delays:
                    continue
                sense = {"positive": "positive_unate", "negative": "negative_unate"}
                body.append(
                    f'      timing () {{ related_pin : "{arc.related}"; '
                    f"timing_sense : {sense.get(arc.sense, 'non_unate')};"
                )
                if arc.kind != "combinational":
                    body.append(f"        timing_type : {arc.kind};")
                for kind in delays:
                    table = arc.tables[kind]
                    rows = ", ".join(numbers(row) for row in table.values)
                    body.append(
                        f"        {kind} ({template(table, 'total_output_net_capacitance')}) {{ "
                        f"index_1 ({numbers(table.slews)}); index_2 ({numbers(table.loads)}); "
                        f"values ({rows}); }}"
                    )
                body.append("      }")
            body.append("    }")
        body.append("  }")
    write_text(path, "\n".join([*out, *body, "}", ""]))
