"""Simulation of generated Verilog against the bit-exact model, on Verilator or Icarus.

`sim.simulate` runs a matrix on the accelerator, `sim.simulate_all` several, and
`sim.schedule.simulate_schedule` a product of any size, tile by tile; `sim.transfers` moves their
rows. `sim.runner` builds and runs any Verilog with any cocotb module; `sim.streams`, `sim.packing`
and `sim.scoreboard` are what testbenches are made of.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.simulation import SimulationResult, simulate, simulate_all

__all__ = ["SimulationResult", "simulate", "simulate_all"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: the runner and the testbenches start without the generator.
    if name in __all__:
        import sim.simulation

        return getattr(sim.simulation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
