"""Simulations of `halut_axi`: what the testbench is given, and what they measure.

``python -m sim.axi --config FILE`` measures the cycles of a command and of an item.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.cli import Parser, run
from halut.errors import HalutError
from halut.program import Program
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.generate import generate_axi, register_files
from rtl_gen.axi.image_file import image_file
from rtl_gen.reference import random_program, results
from rtl_gen.settings import add_flags, given_settings
from rtl_gen.tiled_config import load_config
from sim import runner
from sim.simulation import kept_verilog

__all__ = ["build_axi", "measure", "simulate_driver", "write_job", "write_random_job"]


def build_axi(
    config: AxiConfig,
    *,
    verilog: Path | None = None,
    simulator: str | None = None,
    waves: bool | None = None,
    timeout_s: float = runner.DEFAULT_TIMEOUT_S,
) -> runner.Build:
    """Build the simulation of a block; its Verilog is generated, or kept from an earlier run.

    Parameters
    ----------
    config : AxiConfig
    verilog : pathlib.Path, optional
        An edited file to simulate instead; lint warnings do not stop it.
    simulator, waves, timeout_s
        See `sim.runner.build`.
    """
    if verilog is not None:
        text = verilog.read_text(encoding="utf-8")
    else:
        text = kept_verilog("halut_axi", config.to_dict(), lambda: generate_axi(config).verilog)
    return runner.build(
        text, "halut_axi", simulator=simulator, waves=waves, strict=verilog is None,
        timeout_s=timeout_s,
    )  # fmt: skip


def write_random_job(folder: Path, config: AxiConfig, n_groups: int) -> None:
    """Write a job of a random program and random rows, of an accelerator without front end."""
    a = config.accelerator
    rng = np.random.default_rng(1)
    program = random_program(a, rng)
    rows = rng.uniform(-100, 100, (n_groups * a.rows, program.n_features))
    words = program.input_words(rows)
    header = register_files(config)[".h"]
    expected = results(a, program, words)
    write_job(folder, config, program, words, expected, **{"registers.h": header})


def write_job(
    folder: Path,
    config: AxiConfig,
    program: Program,
    words: NDArray[np.integer],
    expected: NDArray[Any],
    **files: str,
) -> None:
    """Write what `sim.benches.axi` reads.

    Parameters
    ----------
    folder : pathlib.Path
        The environment's ``HALUT_JOB``.
    config : AxiConfig
    program : Program
    words : ndarray of shape (n_rows, C, T), or (images, height, width, channels)
        What goes in.
    expected : ndarray of shape (n_rows, n_outputs)
        What must come out.
    **files : str
        Other text files by their names.
    """
    (folder / "job.json").write_text(json.dumps(config.to_dict()))
    program.save(folder / "program.npz")
    np.save(folder / "words.npy", words)
    np.save(folder / "expected.npy", expected)
    for name, text in files.items():
        (folder / name).write_text(text)


def simulate_driver(
    config: AxiConfig,
    script: Path | str,
    program: Program,
    rows: bytes,
    *,
    simulator: str | None = None,
    waves: bool | None = None,
) -> bytes:
    """Run a script that drives the block on a board, on its simulated Verilog instead.

    Parameters
    ----------
    config : AxiConfig
        With a bus master.
    script : path-like
        Has ``multiply(device, image, rows)``, as ``examples/axi_driver.py``; `device` is a
        `halut.driver.Device`.
    program : Program
        Goes into the image.
    rows : bytes
        Whole items, as they lie in memory (`rtl_gen.axi.image.row_bytes`).
    simulator, waves
        See `sim.runner.build`.

    Returns
    -------
    bytes
        What the script returned: `rtl_gen.axi.image.result_array` reads it.

    Raises
    ------
    SimulationFailed
        When the script raised an error.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = register_files(config)
        texts = {"registers.h": files[".h"], "description.py": files[".py"]}
        nothing = np.zeros(0, dtype=np.int16)
        write_job(folder, config, program, nothing, nothing, **texts)
        (folder / "image.bin").write_bytes(image_file(config, [program]))
        (folder / "rows.bin").write_bytes(rows)
        built = build_axi(config, simulator=simulator, waves=waves)
        env = {"HALUT_JOB": name, "HALUT_EXAMPLE": str(Path(script).resolve())}
        runner.run(built, "sim.benches.axi_driver", testcase="users_script", env=env)
        return (folder / "results.bin").read_bytes()


def measure(config: AxiConfig, simulator: str | None = None) -> dict[str, float]:
    """Measure what the master costs, with memory that answers at once.

    Parameters
    ----------
    config : AxiConfig
        Of an accelerator without front end.
    simulator : str, optional

    Returns
    -------
    dict
        Items (row groups) of one run; cycles from its doorbell to its interrupt; the accelerator's
        own cycles for an item, and the words that the bus moves for it in the busier direction;
        cycles of the doorbell's write.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_random_job(Path(folder), config, 1)
        built = build_axi(config, simulator=simulator)
        env = {"HALUT_JOB": folder}
        runner.run(built, "sim.benches.axi", testcase="speed", env=env)
        found: dict[str, float] = json.loads((Path(folder) / "speed.json").read_text())
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Parser(
        prog="python -m sim.axi",
        description="Measure cycles of halut_axi with a bus master: a command, and a row group.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the accelerator (.yaml)")
    add_flags(parser, {"": AxiConfig})
    arguments = parser.parse_args(argv)
    given = given_settings(arguments, {"": AxiConfig})
    config = AxiConfig(core=load_config(arguments.config), **given)
    if config.bus != "master":
        raise HalutError(f"--bus must be master to measure, not {config.bus}")
    found = measure(config)
    print(
        f"{config.accelerator.name}, {config.data_bits} bits: {found['items']} row groups in "
        f"{found['cycles']} cycles, {found['cycles'] / found['items']:.2f} each; accelerator "
        f"{found['core_cycles_per_item']}, bus {found['bus_words_per_item']:g}; doorbell "
        f"{found['doorbell_cycles']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
