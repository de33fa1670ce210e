"""Command line: a matrix, or a network, through the accelerator's Verilog, every bit checked."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from halut.cli import Parser, run
from halut.commands.network import add_imports
from halut.errors import HalutError
from halut.files import atomic_write

_DESCRIPTION = """\
Simulates the accelerator of a configuration on a matrix: loads a program, sends every row of the
input, and compares every output with the bit-exact model. The output file holds the accumulators
as the accelerator gives them (or, with --dequantize, the approximate product).

With --network in place of --program and --input, it runs every converted layer of a trained
network on test images of its data set, tile by tile, each on what the accelerator made of the
layers before, and compares every layer's results and every output with torch's."""

_IMAGES = 100

_EPILOG = "Exit status: 0 all outputs equal the model, 1 they do not, 2 wrong input."


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m sim",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="configuration of the accelerator (.yaml)")
    add("--program", metavar="FILE", help="program to load it with (.npz; no default)")
    add("--input", metavar="FILE",
        help="matrix A, n_rows x n_features, or with --network images or other inputs as the "
        "network takes them, n x ... (.npy; no default)")  # fmt: skip
    add("--output", metavar="FILE",
        help="where to write the results (.npy; with --network .json; no default)")  # fmt: skip
    add("--network", metavar="FILE", help="network file (.pt or .safetensors; no default)")
    add_imports(add)
    add("--images", type=int, metavar="N",
        help="with --network: test images, the first (default: 100, or all if fewer)")  # fmt: skip
    add("--batch", type=int, metavar="N",
        help="with --network: images that pass together (default: 100)")  # fmt: skip
    add("--root", metavar="DIR",
        help="with --network: folder of its data set (default: as it was trained)")  # fmt: skip
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
    if not options.verbose:  # input values that a format does not hold are never silent
        logging.getLogger("halut").setLevel(logging.WARNING)
    if options.network is not None:
        for name in _given(options, "program", "dequantize", "waves"):
            raise HalutError(f"--{name} must not be given with --network")
        if options.input is not None and options.root is not None:
            raise HalutError("--root must not be given with --input")
        return _network(options)
    for name in _given(options, "images", "batch", "root", "imports"):
        name = "import" if name == "imports" else name
        raise HalutError(f"--{name} must be given with --network only")
    required = ("program", "input", "output")
    missing = [name for name in required if name not in _given(options, *required)]
    if missing:
        flags = ", ".join(f"--{name}" for name in missing)
        raise HalutError(f"the following arguments are required: {flags} (or --network)")
    return _matrix(options)


def _given(options: argparse.Namespace, *names: str) -> list[str]:
    return [name for name in names if getattr(options, name) not in (None, False, [])]


def _matrix(options: argparse.Namespace) -> int:
    from halut import golden
    from halut.arrays import load_matrix
    from halut.program import Program
    from rtl_gen.tiled_config import load_config
    from sim.simulation import simulate

    config = load_config(options.config)
    program = Program.load(options.program)
    if options.dequantize and program.output_format != "raw":
        raise HalutError(
            f'--dequantize must be given for raw results only, not "{program.output_format}"'
        )
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


def _inputs(options: argparse.Namespace, header: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """Return the inputs of a network, their true classes or None, and what they are."""
    from halut.nn.network import load_data, load_inputs

    if options.input is not None:
        return load_inputs(options.input, header), None, options.input
    data = load_data(header, options.root, options.imports)
    labels = data.test_y.numpy() if data.n_classes else None
    return data.test_x, labels, f"{data.name} (test part)"


def _network(options: argparse.Namespace) -> int:
    from halut.nn import need_torch
    from rtl_gen.tiled_config import load_config

    need_torch()
    from halut.commands.network import read_network
    from sim.network import report, simulate_network

    for name in ("images", "batch"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise HalutError(f"--{name} must be at least 1, not {value}")
    config = load_config(options.config)
    model, header = read_network(options)
    inputs, labels, whose = _inputs(options, header)
    if options.images is not None and options.images > len(inputs):
        raise HalutError(
            f"--images must be at most the {len(inputs)} of {whose}, not {options.images}"
        )
    images = inputs[: options.images or _IMAGES]
    labels = None if labels is None else labels[: len(images)]
    begin = time.monotonic()
    with atomic_write(options.output) if options.output else nullcontext() as temporary:
        result = simulate_network(
            config,
            model,
            images,
            batch=options.batch or _IMAGES,
            verilog=options.verilog,
            simulator=options.simulator,
            stall_pattern=options.stalls,
            seed=options.seed,
            timeout_s=options.timeout,
        )
        facts = report(result, config, labels)
        if temporary is not None:
            temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"images               {len(images)} of {whose}")
    print("layer                       C     M  groups  tiles     rows     cycles")
    for layer in result.layers:
        print(
            f"{layer.name:24}{layer.n_codebooks:5}{layer.n_outputs:6}{layer.groups:8}"
            f"{layer.tiles:7}{layer.rows:9}{layer.cycles:11}"
        )
    print(f"cycles               {facts['cycles']} ({facts['cycles'] / len(images):.1f} per image)")
    print(f"program cycles       {facts['load_cycles']}")
    print(f"results              {facts['results']}, all equal to torch's")
    print(f"classes              {len(images)}, all equal to torch's")
    if labels is not None:
        print(f"accuracy             {100 * facts['accuracy']:.2f} %")
    print(f"simulator            {result.simulator}, {time.monotonic() - begin:.1f} s with build")
    if options.output:
        print(f"wrote {Path(options.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
