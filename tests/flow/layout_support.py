"""Layouts small enough to be checked by hand: three cells, a platform's part, a routed design."""

from __future__ import annotations

from pathlib import Path

from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.cells.platform_file import read_platform
from tests.flow import support

LEF = """
VERSION 5.8 ;
UNITS
  DATABASE MICRONS 1000 ;
END UNITS
LAYER poly
  TYPE MASTERSLICE ;
END poly
LAYER M1
  TYPE ROUTING ;
  DIRECTION HORIZONTAL ;
  WIDTH 0.2 ;
  PITCH 0.5 ;
END M1
LAYER V1
  TYPE CUT ;
END V1
LAYER M2
  TYPE ROUTING ;
  DIRECTION VERTICAL ;
  WIDTH 0.4 ;
  PITCH 1 ;
END M2
VIA via1 DEFAULT
  LAYER M1 ;
    RECT -0.1 -0.1 0.1 0.1 ;
  LAYER V1 ;
    RECT -0.05 -0.05 0.05 0.05 ;
  LAYER M2 ;
    RECT -0.2 -0.2 0.2 0.2 ;
END via1
SITE unit
  CLASS CORE ;
  SIZE 1 BY 2 ;
END unit
MACRO BUF
  CLASS CORE ;
  ORIGIN 0 0 ;
  SIZE 2 BY 2 ;
  SITE unit ;
  PIN A
    DIRECTION INPUT ;
    PORT
      LAYER M1 ;
        RECT 0.2 0.9 0.6 1.1 ;
    END
  END A
END BUF
MACRO DFF
  CLASS CORE ;
  ORIGIN 0 0 ;
  SIZE 4 BY 2 ; # not a comment of the cell's
END DFF
MACRO FILL
  CLASS CORE SPACER ;
  ORIGIN 0 0 ;
  SIZE 1 BY 2 ;
END FILL
"""

DEF = """
VERSION 5.8 ;
DIVIDERCHAR "/" ;
BUSBITCHARS "[]" ;
DESIGN small ;
UNITS DISTANCE MICRONS 1000 ;
DIEAREA ( 0 0 ) ( 20000 10000 ) ;
COMPONENTS 5 ;
    - word\\[0\\] DFF + PLACED ( 0 0 ) N ;
    - word\\[1\\] DFF + PLACED ( 6000 2000 ) FS ;
    - clkbuf_0 BUF + SOURCE TIMING + PLACED ( 10000 4000 ) N ;
    - turned DFF + FIXED ( 18000 0 ) E ;
    - FILLER_0 FILL + SOURCE DIST + PLACED ( 4000 0 ) N ;
END COMPONENTS
PINS 1 ;
    - clk + NET clk + DIRECTION INPUT + USE SIGNAL
      + PORT
        + LAYER M2 ( -200 -200 ) ( 200 200 )
        + PLACED ( 10200 9800 ) N ;
END PINS
SPECIALNETS 1 ;
    - VSS ( * VSS ) + USE GROUND
      + ROUTED M1 600 + SHAPE FOLLOWPIN ( 0 0 ) ( 20000 0 )
      NEW M2 0 + SHAPE STRIPE ( 500 0 ) via1 ;
END SPECIALNETS
NETS 3 ;
    - clk ( PIN clk ) ( clkbuf_0 A ) + USE CLOCK
      + ROUTED M2 ( 10200 10000 0 ) ( * 5000 0 )
      NEW M1 ( 10200 5000 ) via1 ;
    - leaf ( clkbuf_0 Y ) ( word\\[0\\] CK ) ( word\\[1\\] CK ) ( turned CK ) + USE CLOCK
      + ROUTED M1 TAPER ( 1000 1000 ) ( 11000 * ) via1
      NEW M2 ( 11000 1000 ) ( 11000 5000 100 ) ;
    - data ( word\\[0\\] Q ) ( word\\[1\\] D ) + USE SIGNAL
      + ROUTED M1 ( 3000 1500 ) RECT ( -70 -70 70 140 )
      NEW M1 ( 3000 1500 ) ( 7000 1500 ) ;
END NETS
END DESIGN
"""


def write(folder: Path, lef: str = LEF, layout: str = DEF) -> tuple[Path, Path]:
    """The files in a folder: DEF, LEF."""
    (folder / "small.lef").write_text(lef)
    (folder / "small.def").write_text(layout)
    return folder / "small.def", folder / "small.lef"


PART = """
layout:
  technology_lef: tiny.tech.lef
  cell_lef: [tiny.lef]
  extraction: tiny.rules
  site: core
  tracks:
    - {layer: m1, x_offset: 0.1, x_pitch: 0.2, y_offset: 0.1, y_pitch: 0.2}
  tap: {cell: TAP, distance_um: 20}
  fill: [FILL]
  diode: DIODE
  stripes:
    - {layer: m1, width: 0.1, follow_pins: true}
    - {layer: m4, width: 0.4, pitch: 10, offset: 1, spacing: 0.4}
  pins: {horizontal: m3, vertical: m2}
  signal_layers: [m2, m4]
  clock_layers: [m3, m4]
  reserve: {m2: 0.5}
  wire: {signal: m2, clock: m3, layers: {m2: {ohm_per_um: 4, ff_per_um: 0.1}}, vias: {v1: 5}}
  utilisation: 0.5
"""


def tiny(folder: Path) -> tuple[Platform, Library]:
    """The platform of `support` with a layout part."""
    path = folder / "tiny.yaml"
    path.write_text(support.PLATFORM + PART)
    return read_platform(path), support.tiny_library(folder)
