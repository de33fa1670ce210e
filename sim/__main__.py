"""Command line: a matrix through the accelerator's Verilog, every output bit checked."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halut.cli import Parser, run
from halut.files import atomic_write

_DESCRIPTION = """\
Simulates the accelerator of a configuration on a matrix: loads a program, sends every row of the
input, and compares every output with the bit-exact model. The output file holds the accumulators
as the accelerator gives them (or, with --dequantize, the approximate product)."""

_EPILOG = "Exit status: 0 all outputs equal the model, 1 they do not, 2 wrong input."


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="configuration of the accelerator (.yaml)")
    add("--program", required=True, metavar="FILE", help="program to load it with (.npz)")
    add("--input", required=True, metavar="FILE", help="matrix A, n_rows x n_features (.npy)")
    add("--output", required=True, metavar="FILE", help="where to write the results (.npy)")
    add("--dequantize", action="store_true",
        help="write the product as float32 (default: accumulators as integers)")  # fmt: skip
    add("--verilog", metavar="FILE",
        help="simulate this Verilog (default: generate it from the configuration)")  # fmt: skip
    add("--simulator", metavar="NAME",
        help="verilator or icarus (default: the first one installed)")  # fmt: skip
    add("--stalls", default="none", metavar="PATTERN",
        help="who pauses at random: none, gaps (the source), backpressure (the sink) or both "
        "(default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=1, metavar="N",
        help="seed of the pauses (default: %(default)s)")  # fmt: skip
    add("--timeout", type=float, default=600.0, metavar="SECONDS",
        help="limit for the build and the run, each, in s (default: %(default)g)")  # fmt: skip
    add("--waves", action="store_true", help="record all signals (default: WAVES is 1)")
    add("-v", "--verbose", action="store_true", help="say what is being done")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.ERROR, format="%(message)s"
    )
    from halut import golden
    from halut.arrays import load_matrix
    from halut.program import Program
    from rtl_gen.config import AcceleratorConfig
    from sim.simulation import simulate

    config = AcceleratorConfig.from_yaml(options.config)
    program = Program.load(options.program)
    matrix = load_matrix("input", options.input)
    # The target is opened first: nobody waits for a simulation that cannot be saved.
    with atomic_write(options.output) as temporary:
        result = simulate(
            config,
            program,
            matrix,
            verilog=options.verilog,
            simulator=options.simulator,
            waves=options.waves or None,
            stall_pattern=options.stalls,
            seed=options.seed,
            timeout_s=options.timeout,
        )
        outputs = result.outputs
        values = golden.dequantize(program, outputs) if options.dequantize else outputs
        with open(temporary, "wb") as file:
            np.save(file, values)
    print(f"rows                 {len(outputs)}")
    print(f"outputs              {outputs.size}, all equal to the model")
    print(f"cycles               {result.cycles} ({result.cycles / len(outputs):.2f} per row)")
    print(f"program cycles       {result.load_cycles}")
    print(f"input stall cycles   {result.input_stall_cycles}")
    print(f"output stall cycles  {result.output_stall_cycles}")
    print(f"simulator            {result.simulator}, {result.seconds:.1f} s")
    if result.waves:
        print(f"waves                {result.waves}")
    print(f"wrote {Path(options.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
