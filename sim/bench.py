"""Measures simulation: the compiled testbench beside cocotb's, on the same Verilog, in one run.

    python -m sim.bench [--config FILE] [--rows N] [--cocotb-rows N]

Both are built anew, in a folder that is removed at the end, and both move random rows without
stalls. Times are wall-clock seconds: of a build with all that Verilator and the compiler do, and
of a run with the start of the simulator.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from halut import bench, golden
from halut.cli import Parser, run
from halut.errors import HalutError
from halut.files import atomic_write
from rtl_gen import generate, program_image, reference
from rtl_gen.tiled_config import AnyConfig, load_config
from sim import runner, simulators
from sim.accelerator import input_bytes, top_name
from sim.transfers import PUMP, Segment, move, word_bytes

__all__ = ["measure"]


def measure(config: AnyConfig, n_rows: int, n_cocotb_rows: int) -> dict[str, Any]:
    """Build and run both testbenches on Verilator.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
    n_rows, n_cocotb_rows : int
        Rows that each moves, rounded up to whole row groups.

    Returns
    -------
    dict
        ``conditions``; for ``compiled`` and ``cocotb``: ``first_build_s``, of which the very first
        one also compiles Verilator's own files, ``rows``, ``run_s``, ``rows_per_s``; ``ratio`` of
        the last.
    """
    simulator = simulators.find("verilator", packages=("cocotb", "filelock"))
    rng = np.random.default_rng(1)
    program = reference.random_program(config, rng)
    image = word_bytes(config, program_image(config, program))
    verilog = generate(config).verilog
    result: dict[str, Any] = {
        "conditions": bench.conditions() | {"verilator": simulator.version},
        "configuration": config.name,
    }
    cases = (("compiled", PUMP, n_rows), ("cocotb", None, n_cocotb_rows))
    for name, testbench, wanted in cases:
        count = -(-wanted // config.rows) * config.rows
        words = golden.random_words(rng, program, count)
        segments = [
            Segment(stream="program", items=image),
            Segment(stream="input", items=input_bytes(config, words), after_segments=1,
                    wait_cycles=2),
        ]  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="halut-bench-") as root:
            begin = time.monotonic()
            built = runner.build(
                verilog, top_name(config), simulator="verilator", waves=False,
                testbench=testbench, root=root,
            )  # fmt: skip
            seconds = time.monotonic() - begin
            moved = move(built, config, segments, count // config.rows * config.n_beats)
        result[name] = {
            "first_build_s": seconds,
            "rows": count,
            "run_s": moved.seconds,
            "rows_per_s": count / moved.seconds,
        }
    result["ratio"] = result["compiled"]["rows_per_s"] / result["cocotb"]["rows_per_s"]
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = Parser(
        prog="python -m sim.bench",
        description=__doc__.split("\n")[0],
        epilog="Exit status: 0 measured, 1 a simulation failed, 2 wrong input.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config", default="configs/dense.yaml", metavar="FILE",
        help="configuration of the accelerator (.yaml; default: %(default)s)")  # fmt: skip
    add("--rows", type=int, default=80_000, metavar="N",
        help="rows through the compiled testbench (default: %(default)s)")  # fmt: skip
    add("--cocotb-rows", type=int, default=80_000, metavar="N",
        help="rows through cocotb (default: %(default)s)")  # fmt: skip
    add("--json", metavar="FILE", help="where to write the results, too (.json; no default)")
    options = parser.parse_args(argv)
    for name in ("rows", "cocotb_rows"):
        if getattr(options, name) < 1:
            flag = name.replace("_", "-")
            raise HalutError(f"--{flag} must be at least 1, not {getattr(options, name)}")
    result = measure(load_config(options.config), options.rows, options.cocotb_rows)
    conditions = ", ".join(f"{name} {value}" for name, value in result["conditions"].items())
    print(f"simulation of {result['configuration']} ({conditions})")
    print("testbench   first build (s)      rows   run (s)    rows/s")
    for name in ("compiled", "cocotb"):
        one = result[name]
        print(f"{name:10}{one['first_build_s']:17.1f}{one['rows']:10}{one['run_s']:10.2f}"
              f"{one['rows_per_s']:10.0f}")  # fmt: skip
    print(f"rows/s: {result['ratio']:.1f} times cocotb's")
    if options.json:
        with atomic_write(options.json) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
