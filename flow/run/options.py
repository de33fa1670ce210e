"""How a design is run through the flow."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flow.netlist.yosys import SynthOptions
from halut.errors import HalutError

__all__ = ["BUILD", "LayoutOptions", "RunOptions"]

BUILD = Path("build")
"""Folder of all products, when none is given."""


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """How to place and route."""

    #: Share of the core that the cells may take, in (0, 1]; the platform's when None.
    utilisation: float | None = None
    aspect: float = 1.0  #: Height over width of the core.
    margin_um: float = 2.0  #: Between core and die, um.
    #: What global placement minds besides wire length.
    timing_driven: bool = True
    routability_driven: bool = True
    repair_tns: int = 100  #: Percent of the violating endpoints that setup repair works on.
    threads: int = 0  #: Of the detailed router; 0 for all cores.

    def __post_init__(self) -> None:
        if self.utilisation is not None and not 0.05 <= self.utilisation <= 0.98:
            raise HalutError(f"utilisation must be in [0.05, 0.98], not {self.utilisation:g}")
        if not 0.2 <= self.aspect <= 5:
            raise HalutError(f"aspect must be in [0.2, 5], not {self.aspect:g}")
        if not 0 <= self.margin_um <= 1000:
            raise HalutError(f"margin must be in [0, 1000] um, not {self.margin_um:g}")
        if not 0 <= self.repair_tns <= 100:
            raise HalutError(f"repair_tns must be in [0, 100], not {self.repair_tns}")
        if self.threads < 0:
            raise HalutError(f"threads must be at least 0, not {self.threads}")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run."""

    clock_ns: float = 6.0  #: Period for timing and energy.
    target_ns: float | None = None  #: Period that the netlist is made for; `clock_ns` when None.
    corner: str | None = None  #: The platform's default when None.
    synth: SynthOptions = field(default_factory=SynthOptions)
    io_share: float = 0.2  #: Share of the period that is outside at every port.
    yosys: str = "pyosys"
    simulator: str = "auto"
    sta: str | None = None
    seed: int = 1  #: Of program, rows and initial state.
    #: Length of the activity window; chosen by the design's width when None.
    cycles: int | None = None
    power: bool = True  #: Simulate and sum the power.
    prove: bool = False  #: Prove that the finished netlist equals the RTL.
    force: bool = False  #: Do unchanged steps again.
    #: "none", "auto", "placed" or "routed": how far OpenROAD goes on; "auto" is placed where there
    #: is one.
    layout: str = "none"
    place_and_route: LayoutOptions = field(default_factory=LayoutOptions)
