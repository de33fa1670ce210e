"""A small SRAM macro for tests: 16 words of 8 bits, enable and write active low."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flow.cells.platform import Platform
from flow.cells.platform_file import read_platform
from flow.cells.sram import SramMacros

CELL = "test_16x8"
_CONSTRAINT = """
      timing () { related_pin : CK; timing_type : setup_rising;
        rise_constraint (scalar) { values ("0.1"); }
        fall_constraint (scalar) { values ("0.1"); } }
      timing () { related_pin : CK; timing_type : hold_rising;
        rise_constraint (scalar) { values ("0.01"); }
        fall_constraint (scalar) { values ("0.01"); } }
"""
LIBERTY = f"""
library ({CELL}) {{
  time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1uA"; leakage_power_unit : "1nW";
  capacitive_load_unit (1, ff); pulling_resistance_unit : "1kohm";
  nom_process : 1; nom_temperature : 25; nom_voltage : 1.1; delay_model : table_lookup;
  slew_lower_threshold_pct_rise : 20; slew_upper_threshold_pct_rise : 80;
  slew_lower_threshold_pct_fall : 20; slew_upper_threshold_pct_fall : 80;
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
  type (word) {{ base_type : array; data_type : bit; bit_width : 8; bit_from : 7; bit_to : 0;
    downto : true; }}
  type (place) {{ base_type : array; data_type : bit; bit_width : 4; bit_from : 3; bit_to : 0;
    downto : true; }}
  cell ({CELL}) {{
    area : 200; cell_leakage_power : 5000;
    memory () {{ type : ram; address_width : 4; word_width : 8; }}
    pin (CK) {{ direction : input; clock : true; capacitance : 10;
      internal_power () {{ rise_power (scalar) {{ values ("300"); }}
        fall_power (scalar) {{ values ("100"); }} }} }}
    pin (EN) {{ direction : input; capacitance : 2; {_CONSTRAINT} }}
    pin (WN) {{ direction : input; capacitance : 2; {_CONSTRAINT} }}
    bus (A) {{ bus_type : place; direction : input; capacitance : 2; {_CONSTRAINT} }}
    bus (D) {{ bus_type : word; direction : input; capacitance : 2; {_CONSTRAINT} }}
    bus (Q) {{ bus_type : word; direction : output; max_capacitance : 200;
      timing () {{ related_pin : CK; timing_type : rising_edge; timing_sense : non_unate;
        cell_rise (scalar) {{ values ("0.25"); }} cell_fall (scalar) {{ values ("0.25"); }}
        rise_transition (scalar) {{ values ("0.03"); }}
        fall_transition (scalar) {{ values ("0.03"); }} }} }}
  }}
}}
"""
LEF = f"""
VERSION 5.8 ;
MACRO {CELL}
  CLASS BLOCK ;
  SIZE 20 BY 10 ;
  PIN CK
    DIRECTION INPUT ;
    PORT
      LAYER metal3 ;
      RECT 0 1 0.1 1.1 ;
    END
  END CK
END {CELL}
END LIBRARY
"""
PINS = {"clock": "CK", "enable": "EN", "write": "WN", "address": "A", "data": "D", "output": "Q"}
MACROS = SramMacros(
    macros={CELL: [16, 8]},
    liberty={"typ": "lib/{cell}.lib"},
    pins=PINS,
    inverted=("enable", "write"),
    lef="lef/{cell}.lef",
    power_layer="metal4",
)


def platform_with_macro(flow_home: Path, macros: SramMacros = MACROS) -> Platform:
    """NanGate45 with the macro, which is below a flow's home."""
    folder = flow_home / "platforms" / "nangate45"
    for kind, text in (("lib", LIBERTY), ("lef", LEF)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / f"{CELL}.{kind}").write_text(text)
    return dataclasses.replace(read_platform("nangate45"), sram=macros)
