"""What each pass of repair is worth: the flow with all of them, and with each left out.

``python -m tests.flow.repair.ablation --config C --platform P --clock-ns NS --target-ns NS``
prints the table in docs/flow.md.
"""

import argparse
import dataclasses
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from flow.cells.platform_file import read_platform
from flow.designs.design import accelerator
from flow.measure import measure
from flow.run.options import RunOptions
from rtl_gen.tiled_config import load_config

# A pass: the function that does it, and what it returns when it does nothing.
PASSES = {
    "clock buffers": ("buffers.add_clock_tree", []),
    "fan-out trees": ("buffers.add_fanout_trees", None),
    "limits of load and slew": ("sizing.Sizer.electrical", []),
    "larger cells": ("sizing.Sizer.speed_up", None),
    "buffers on slow nets": ("buffers.buffer_slow_nets", 0),
    "smaller cells": ("sizing.Sizer.slim_down", None),
}
COLUMNS = {
    "area, um2": "synth__design__instance__area__stdcell",
    "shortest period, ns": "halut__timing__shortest_period",
    "pJ per MAC": "halut__energy__per_mac",
    "slew": "synth__timing__drv__max_slew",
    "load": "synth__timing__drv__max_cap",
    "fan-out": "synth__timing__drv__max_fanout",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--platform", default="nangate45")
    parser.add_argument("--clock-ns", type=float, default=6.0)
    parser.add_argument("--target-ns", type=float, required=True)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/ablation"))
    arguments = parser.parse_args()
    design = dataclasses.replace(accelerator(load_config(arguments.config)), loading=None)
    options = RunOptions(clock_ns=arguments.clock_ns, target_ns=arguments.target_ns, force=True)
    print("| left out | " + " | ".join(COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    every = list(PASSES)
    for title, left_out in [("nothing", []), *((name, [name]) for name in every), ("all", every)]:
        with ExitStack() as stack:
            for name in left_out:
                function, nothing = PASSES[name]
                stack.enter_context(mock.patch(f"flow.repair.{function}", return_value=nothing))
            metrics, _ = measure(
                design,
                read_platform(arguments.platform),
                options,
                arguments.output / title.replace(" ", "_"),
                arguments.output / "cache",
            )
        cells = [f"{metrics.values[name]:.4g}" for name in COLUMNS.values()]
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
