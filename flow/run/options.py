"""How a design is run through the flow."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flow.netlist.yosys import SynthOptions
from halut.checks import number_in
from halut.errors import HalutError
from rtl_gen.settings import check_settings, setting

__all__ = ["BUILD", "LayoutOptions", "RunOptions"]

BUILD = Path("build")
"""Folder of all products, when none is given."""


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """How to place and route."""

    utilisation: float | None = setting(
        None,
        "--utilisation",
        "share of the core that cells may take",
        derived="the platform's",
        parse=float,
        within=(0.05, 0.98),
        metavar="SHARE",
    )
    aspect: float = setting(
        1.0,
        "--aspect",
        "height over width of the core; with --block, above 1 makes a grid higher than wide",
        parse=float,
        within=(0.2, 5),
        metavar="RATIO",
    )
    io_latency_ns: float = setting(
        0.0,
        "--io-latency-ns",
        "how long the clock takes to the registers outside, that drive and read the ports",
        parse=float,
        within=(0, 100),
        metavar="NS",
    )
    top_layer: str | None = setting(
        None,
        "--top-layer",
        "highest layer of wires: those above are left to a chip that the block is part of",
        derived="the platform's",
        parse=str,
        metavar="NAME",
    )
    abstract: bool = setting(
        False,
        "--abstract",
        "also write what a chip needs that the block is part of: LEF and Liberty",
    )
    block: str | None = setting(
        None,
        "--block",
        "routed layout (folder pnr of a run with --abstract) of a unit, which becomes a hard macro",
        derived="units are laid out with the rest",
        parse=str,
        metavar="DIR",
    )
    channel_um: float = setting(
        20.0,
        "--channel-um",
        "width of the channels around hard macros",
        parse=float,
        within=(1, 10_000),
        metavar="UM",
    )
    row_channel_um: float | None = setting(
        None,
        "--row-channel-um",
        "height of the channels below and above rows of hard macros",
        derived="as wide as --channel-um",
        parse=float,
        within=(1, 10_000),
        metavar="UM",
    )
    hold_margin_ns: float | None = setting(
        None,
        "--hold-margin-ns",
        "hold slack that repair before detailed routing leaves",
        derived="the platform's",
        parse=float,
        within=(0, 100),
        metavar="NS",
    )
    margin_um: float = 2.0  #: Between core and die, um.
    #: What global placement minds besides wire length.
    timing_driven: bool = True
    routability_driven: bool = True
    repair_tns: int = setting(
        100,
        "--repair-tns",
        "percent of violating endpoints that setup repair works on",
        within=(0, 100),
        metavar="PERCENT",
    )
    threads: int = setting(
        0, "--threads", "threads of the router; 0 for all cores", within=(0, 4096)
    )

    def __post_init__(self) -> None:
        check_settings(self)
        number_in("margin_um", self.margin_um, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run."""

    clock_ns: float = setting(
        6.0, "--clock-ns", "clock period in ns, for timing and energy", parse=float, metavar="NS"
    )
    target_ns: float | None = setting(
        None,
        "--target-ns",
        "clock period in ns that netlists are made for",
        parse=float,
        derived="--clock-ns",
        metavar="NS",
    )
    corner: str | None = None  #: The platform's default when None.
    synth: SynthOptions = field(default_factory=SynthOptions)
    io_share: float = 0.2  #: Share of the period that is outside at every port.
    yosys: str = setting("pyosys", "--yosys", "pyosys (pip package) or a program", metavar="NAME")
    simulator: str = setting(
        "auto", "--simulator", "icarus (with delays), verilator or auto", metavar="NAME"
    )
    sta: str | None = setting(
        None, "--sta", "OpenSTA program", derived="sta, else openroad", parse=str, metavar="NAME"
    )
    seed: int = setting(1, "--seed", "seed of program, rows and initial state")
    cycles: int | None = setting(
        None, "--cycles", "cycles that activity is counted in", derived="by the size of the design"
    )
    power: bool = True  #: Simulate and sum the power.
    prove: bool = False  #: Prove that the finished netlist equals the RTL.
    force: bool = setting(False, "--force", "do unchanged steps again")
    #: "none", "auto", "placed" or "routed": how far OpenROAD goes on; "auto" is placed where there
    #: is one.
    layout: str = "none"
    place_and_route: LayoutOptions = field(default_factory=LayoutOptions)

    def __post_init__(self) -> None:
        latency = self.place_and_route.io_latency_ns
        if latency and not latency < self.clock_ns:
            raise HalutError(
                f"io_latency_ns must be less than the clock period, {self.clock_ns:g}, "
                f"not {latency:g}"
            )
